/* decode: the images of a sample set, decoded and resized once for all that look at them.
 *
 * calibrate, score, evaluate and quality take the pixels from the store by the list that
 * is written here (--pixels); without it they decode for themselves. */
#include "lib/base/options.h"
#include "lib/quant/decode_run.h"

int main(int argc, char **argv)
{
	struct source_settings s = { .on_bad_sample = "stop", .samples = 16 };
	const char *tree = NULL, *out = NULL;
	const struct option options[] = {
		{ "model", OPTION_TEXT, &s.model, "DIR", "checkpoint folder", true },
		{ "calib-db", OPTION_TEXT, &s.calib_db, "FILE", "SQLite calibration DB", false },
		{ "eval-list", OPTION_TEXT, &s.eval_list, "FILE",
		  "evaluation list, a JSON object with image_relpath and caption a line", false },
		{ "image-root", OPTION_TEXT, &s.image_root, "DIR",
		  "folder that image paths start from", true },
		{ "first", OPTION_INTEGER, &s.first, "N",
		  "rows of the source to leave out before the ones to use (default 0)", false },
		{ "samples", OPTION_INTEGER, &s.samples, "N", "rows to use (default 16)", false },
		{ "max-pixels", OPTION_INTEGER, &s.max_pixels, "N",
		  "shrink images to at most N pixels (default 0: the model's own limit)", false },
		{ "on-bad-sample", OPTION_TEXT, &s.on_bad_sample, "WHAT",
		  "stop or skip when an image cannot be read (default stop)", false },
		{ "tree", OPTION_TEXT, &tree, "DIR", "build tree with the store", true },
		{ "out", OPTION_TEXT, &out, "FILE", "where the list of images goes", true },
		{ 0 },
	};
	const struct command command = {
		.tool = "decode",
		.purpose = "Decodes and resizes the images of samples into the store, ahead of use.",
		.options = options
	};
	error err;
	enum parse_outcome parsed = parse_options(&command, argc, argv, NULL, &err);
	if (parsed == PARSE_HELP)
		return EXIT_OK;
	bool ok = parsed == PARSE_OK && run_decode(&s, tree, out, &err);
	return ok ? EXIT_OK : error_report("decode", &err);
}
