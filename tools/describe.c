/* describe: says anew what is said about a published checkpoint: manifests, tables, list of
 * files, model card. Its weights and configurations stay. */
#include "lib/artifact/step.h"
#include "lib/base/file.h"
#include "lib/base/options.h"
#include "lib/quant/describe.h"

struct arguments {
	struct description about;
	const char *profile, *tree, *out;
};

static bool begin_step(struct step *step, const struct arguments *a, error *err)
{
	char slice[PATH_BYTES], manifest[PATH_BYTES];
	const struct description *about = &a->about;
	if (!step_begin(step, a->tree, "describe", a->out, err) ||
	    !join_path(slice, sizeof slice, about->slice, "slice.json", err) ||
	    !join_path(manifest, sizeof manifest, about->slice, "manifest.json", err))
		return false;
	key_add(&step->key, "scheme", about->scheme);
	key_add(&step->key, "file_name", about->file_name);
	key_add(&step->key, "profile", a->profile);
	return step_input(step, "coverage", slice, err) &&
	       step_input(step, "manifest", manifest, err) &&
	       step_input(step, "ranking", about->baseline, err);
}

static bool describe(struct arguments *a, error *err)
{
	struct step step = { 0 };
	if (!profile_from_name(a->profile, &a->about.profile))
		return fail(err, EXIT_USAGE, "--profile: expected " PROFILE_NAMES ", found \"%s\"",
		            a->profile);
	bool ok = begin_step(&step, a, err) &&
	          describe_checkpoint(&a->about, a->tree, a->out, &step.bytes, err) &&
	          step_end(&step, err);
	step_drop(&step);
	return ok;
}

int main(int argc, char **argv)
{
	struct arguments a = { .profile = "universal" };
	const struct option options[] = {
		{ "model", OPTION_TEXT, &a.about.model, "DIR", "base checkpoint folder", true },
		{ "scheme", OPTION_TEXT, &a.about.scheme, "NAME", "name of the scheme", true },
		{ "file-name", OPTION_TEXT, &a.about.file_name, "NAME",
		  "what its manifests are called", true },
		{ "baseline", OPTION_TEXT, &a.about.baseline, "FILE",
		  "the baseline's quant manifest", true },
		{ "slice", OPTION_TEXT, &a.about.slice, "DIR", "folder that slice wrote", true },
		{ "profile", OPTION_TEXT, &a.profile, "NAME", PROFILE_NAMES, false },
		{ "tree", OPTION_TEXT, &a.tree, "DIR", "build tree with the store", true },
		{ "out", OPTION_TEXT, &a.out, "FILE",
		  "the checkpoint's list of files, layer-sensitivity/*_files.json", true },
		{ 0 },
	};
	const struct command command = {
		.tool = "describe",
		.purpose = "Publishes a checkpoint folder anew with manifests, tables and model card "
		           "as they are now; its other files stay.",
		.options = options
	};
	error err;
	enum parse_outcome parsed = parse_options(&command, argc, argv, NULL, &err);
	bool ok = parsed == PARSE_HELP || (parsed == PARSE_OK && describe(&a, &err));
	return ok ? EXIT_OK : error_report("describe", &err);
}
