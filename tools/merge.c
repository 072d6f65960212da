/* merge: the parts of a calibration -> one amax a linear. */
#include "lib/artifact/publish.h"
#include "lib/quant/amax_file.h"
#include "tools/arguments.h"

static bool merge(const struct option_list *parts, const char *out, error *err)
{
	struct block_list blocks;
	struct block merged;
	text printed = { 0 };
	if (!read_parts(&blocks, parts->values, parts->count, BLOCK_AMAX, err))
		return false;
	bool ok = merge_blocks(&blocks, BLOCK_AMAX, &merged, err) &&
	          print_amax(&merged, &printed, err) &&
	          write_file_if_changed(out, printed.data, printed.length, NULL, err);
	text_free(&printed);
	block_list_free(&blocks);
	return ok;
}

int main(int argc, char **argv)
{
	const char *out = NULL;
	const struct option options[] = {
		{ "out", OPTION_TEXT, &out, "FILE", "where the merged amax go", true },
		{ 0 },
	};
	const struct command command = {
		.tool = "merge",
		.purpose = "Merges the parts that calibrate wrote into one amax a linear.",
		.operands = "PART...",
		.options = options
	};
	error err;
	struct option_list parts = { 0 };
	enum parse_outcome parsed = parse_options(&command, argc, argv, &parts, &err);
	bool ok = parsed == PARSE_HELP || (parsed == PARSE_OK && merge(&parts, out, &err));
	options_free(&parts);
	return ok ? EXIT_OK : error_report("merge", &err);
}
