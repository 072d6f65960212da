/* export: a scheme -> a self-contained checkpoint folder. */
#include <stdio.h>

#include "lib/artifact/step.h"
#include "lib/base/file.h"
#include "lib/base/options.h"
#include "lib/checkpoint/model_files.h"
#include "lib/quant/assemble.h"
#include "lib/quant/selection.h"

struct choices {
	const char *profile, *numerics, *layout;
};

static bool choose(struct assembly *a, const struct choices *c, error *err)
{
	if (!profile_from_name(c->profile, &a->about.profile))
		return fail(err, EXIT_USAGE, "--profile: expected " PROFILE_NAMES ", found \"%s\"",
		            c->profile);
	if (!numerics_from_name(c->numerics, &a->numerics))
		return fail(err, EXIT_USAGE, "--numerics: expected quern or modelopt, found \"%s\"",
		            c->numerics);
	if (!layout_from_name(c->layout, &a->layout))
		return fail(err, EXIT_USAGE, "--layout: expected linked or packed, found \"%s\"",
		            c->layout);
	return true;
}

/* The base's own files, which a checkpoint carries along. */
static bool add_texts(struct step *step, const char *model, error *err)
{
	arena memory = { 0 };
	struct file_names names;
	bool ok = list_model_files(model, FILES_TEXTS, &memory, &names, err);
	for (int i = 0; ok && i < names.count; i++) {
		char path[PATH_BYTES];
		ok = join_path(path, sizeof path, model, names.names[i], err) &&
		     step_input(step, names.names[i], path, err);
	}
	arena_free(&memory);
	return ok;
}

/* Not what is said about the scheme: describe has a key for that. */
static bool begin_step(struct step *step, const struct assembly *a, error *err)
{
	char selection[PATH_BYTES];
	const struct description *about = &a->about;
	if (!step_begin(step, a->tree, "export", a->out, err) ||
	    !join_path(selection, sizeof selection, about->slice, SELECTION_FILE, err))
		return false;
	key_add(&step->key, "scheme", about->scheme);
	key_add(&step->key, "file_name", about->file_name);
	key_add(&step->key, "profile", profile_name(about->profile));
	key_add(&step->key, "numerics", numerics_name(a->numerics));
	key_add(&step->key, "layout", layout_name(a->layout));
	return step_input(step, "selection", selection, err) &&
	       step_input(step, "amax", a->amax, err) &&
	       step_inputs(step, "pieces", a->quantized, a->quantized_count, err) &&
	       add_texts(step, about->model, err);
}

static void print_built(const struct assembly *a, const struct assembled *done)
{
	printf("%s: %d of %d groups in %s, %.2f bits%s\n  %s\n", a->about.scheme, done->selected,
	       done->total, done->elements, done->delivered_bits,
	       done->stand_in ? " (stand-in model or data, see its README.md)" : "", a->out);
}

int main(int argc, char **argv)
{
	struct assembly a = { .shard_bytes = SHARD_BYTES };
	struct choices choices = { "universal", "quern", "linked" };
	struct option_list quantized = { 0 };
	const struct option options[] = {
		{ "model", OPTION_TEXT, &a.about.model, "DIR", "base checkpoint folder", true },
		{ "scheme", OPTION_TEXT, &a.about.scheme, "NAME", "name of the scheme", true },
		{ "file-name", OPTION_TEXT, &a.about.file_name, "NAME", "what its manifests are called",
		  true },
		{ "baseline", OPTION_TEXT, &a.about.baseline, "FILE", "the baseline's quant manifest",
		  true },
		{ "slice", OPTION_TEXT, &a.about.slice, "DIR", "folder that slice wrote", true },
		{ "amax", OPTION_TEXT, &a.amax, "FILE", "amax.json of the calibration", true },
		{ "quantized", OPTION_LIST, &quantized, "FILE",
		  "what quantize wrote; once a format of the baseline", true },
		{ "tree", OPTION_TEXT, &a.tree, "DIR", "build tree with the store", true },
		{ "profile", OPTION_TEXT, &choices.profile, "NAME", PROFILE_NAMES, false },
		{ "numerics", OPTION_TEXT, &choices.numerics, "NAME", "quern or modelopt", false },
		{ "layout", OPTION_TEXT, &choices.layout, "NAME", "linked or packed", false },
		{ "out", OPTION_TEXT, &a.out, "DIR", "checkpoint folder to publish", true },
		{ 0 },
	};
	const struct command command = {
		.tool = "export",
		.purpose = "Assembles a checkpoint folder from pieces in the store, by link or as "
		           "ordinary shards.",
		.options = options
	};
	error err;
	struct assembled done;
	struct step step = { 0 };
	enum parse_outcome parsed = parse_options(&command, argc, argv, NULL, &err);
	if (parsed == PARSE_HELP)
		return EXIT_OK;
	a.quantized = quantized.values;
	a.quantized_count = quantized.count;
	bool ok = parsed == PARSE_OK && choose(&a, &choices, &err) &&
	          begin_step(&step, &a, &err) &&
	          assemble_checkpoint(&a, &done, &err);
	if (ok) {
		step.bytes = done.written;
		ok = step_end(&step, &err);
	}
	step_drop(&step);
	options_free(&quantized);
	if (!ok)
		return error_report("export", &err);
	print_built(&a, &done);
	return EXIT_OK;
}
