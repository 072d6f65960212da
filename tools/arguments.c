/* Shared options; see arguments.h. */
#include "tools/arguments.h"

#include <stdio.h>
#include <string.h>

#include "lib/artifact/publish.h"
#include "lib/artifact/tool.h"

void data_options(struct data_arguments *a, struct option *options)
{
	struct source_settings *s = &a->source;
	*s = (struct source_settings){ .prompt = "answer", .on_bad_sample = "stop",
		.samples = 16, .block_samples = 16, .tree = &a->tree };
	a->part = "0/1";
	const struct option table[DATA_OPTIONS] = {
		{ "model", OPTION_TEXT, &s->model, "DIR", "checkpoint folder", true },
		{ "captions", OPTION_TEXT, &s->captions, "FILE", "captions, one a line", false },
		{ "calib-db", OPTION_TEXT, &s->calib_db, "FILE", "SQLite calibration DB", false },
		{ "image-root", OPTION_TEXT, &s->image_root, "DIR",
		  "folder that image paths start from", false },
		{ "pixels", OPTION_TEXT, &s->pixels, "FILE",
		  "list of the images as decode left them (default: decode them here)", false },
		{ "prompt", OPTION_TEXT, &s->prompt, "FORM",
		  "answer, user_turn or text (default answer)", false },
		{ "samples", OPTION_INTEGER, &s->samples, "N", "rows to use (default 16)", false },
		{ "block-samples", OPTION_INTEGER, &s->block_samples, "N",
		  "samples a stored block (default 16)", false },
		{ "max-tokens", OPTION_INTEGER, &s->max_tokens, "N",
		  "cut captions so that a sample has at most N tokens (default 0: no limit)",
		  false },
		{ "max-pixels", OPTION_INTEGER, &s->max_pixels, "N",
		  "shrink images to at most N pixels (default 0: the model's own limit)", false },
		{ "on-bad-sample", OPTION_TEXT, &s->on_bad_sample, "WHAT",
		  "stop or skip when an image cannot be read (default stop)", false },
		{ "part", OPTION_TEXT, &a->part, "I/N", "do every Nth block from I (default 0/1)",
		  false },
		{ "tree", OPTION_TEXT, &a->tree, "DIR", "build tree with the store", true },
		{ "out", OPTION_TEXT, &a->out, "FILE", "where the result goes", true },
		{ "cpu", OPTION_FLAG, &a->device.cpu, NULL, "compute on the CPU", false },
		{ "cuda", OPTION_FLAG, &a->device.cuda, NULL,
		  "compute on an NVIDIA GPU (default: where one answers)", false },
	};
	memcpy(options, table, sizeof table);
}

void say_device(const struct device_choice *device, const char *tool)
{
	if (*device->why)
		printf("%s: computed on the CPU (%s)\n", tool, device->why);
}

bool choose_format_device(const struct format *const *formats, int count,
                          const struct device_wish *wish, struct device_choice *device,
                          error *err)
{
	int i = 0;
	if (!choose_device(wish, device, err))
		return false;
	while (i < count && formats[i]->on_gpu)
		i++;
	if (!device->gpu || i == count)
		return true;
	if (wish->cuda)
		return fail(err, EXIT_ENVIRONMENT, "--cuda: expected FP8 per tensor, found %s %s, "
		            "which only the CPU computes", formats[i]->element,
		            formats[i]->granularity);
	*device = (struct device_choice){ .gpu = false };
	snprintf(device->why, sizeof device->why, "the GPU knows FP8 per tensor only");
	return true;
}

bool part_parse(const char *share, int *part, int *parts, error *err)
{
	char rest;
	if (sscanf(share, "%9d/%9d%c", part, parts, &rest) == 2 && *part >= 0 && *parts > *part)
		return true;
	return fail(err, EXIT_USAGE, "--part: expected I/N with 0 <= I < N, found \"%s\"", share);
}

struct option tree_option(const char **tree)
{
	return (struct option){ "tree", OPTION_TEXT, tree, "DIR",
		"build tree in whose log this run is noted", false };
}

void format_options(struct format_arguments *a, struct option *options)
{
	*a = (struct format_arguments){ .name = "FP8_DEFAULT_CFG", .element = "fp8_e4m3",
		.granularity = "tensor", .numerics_text = "quern" };
	const struct option table[FORMAT_OPTIONS] = {
		{ "format-name", OPTION_TEXT, &a->name, "NAME",
		  "what manifests call the format (default FP8_DEFAULT_CFG)", false },
		{ "element", OPTION_TEXT, &a->element, "NAME",
		  "element of the format (default fp8_e4m3)", false },
		{ "granularity", OPTION_TEXT, &a->granularity, "NAME",
		  "what shares a scale (default tensor)", false },
		{ "skip-bad-shapes", OPTION_FLAG, &a->skip_bad_shapes, NULL,
		  "leave groups as they are whose shape the format does not take", false },
		{ "numerics", OPTION_TEXT, &a->numerics_text, "NAME",
		  "quern or modelopt (default quern)", false },
		{ "scale-per-member", OPTION_FLAG, &a->scale_per_member, NULL,
		  "every member of a fused group keeps a weight scale of its own", false },
		{ "include", OPTION_LIST, &a->include, "GLOB",
		  "only matching linears; may be repeated (default: all)", false },
		{ "exclude", OPTION_LIST, &a->exclude, "GLOB",
		  "leave matching linears as they are; may be repeated", false },
	};
	memcpy(options, table, sizeof table);
}

bool format_check(struct format_arguments *a, error *err)
{
	if (!numerics_from_name(a->numerics_text, &a->numerics))
		return fail(err, EXIT_USAGE,
		            "--numerics: expected quern or modelopt, found \"%s\"",
		            a->numerics_text);
	a->format = format_find(a->element, a->granularity);
	if (!a->format)
		return fail(err, EXIT_USAGE, "--element, --granularity: no format \"%s\", \"%s\"",
		            a->element, a->granularity);
	if (!format_computes(a->format, a->numerics))
		return fail(err, EXIT_USAGE, "--numerics: %s %s is known under quern only",
		            a->element, a->granularity);
	return true;
}

void format_free(struct format_arguments *a)
{
	options_free(&a->include);
	options_free(&a->exclude);
	folds_free(&a->folds);
}

struct option fold_option(struct format_arguments *a)
{
	return (struct option){ "fold", OPTION_TEXT, &a->fold_path, "FILE",
		"the channel scales that fold found, for a format that has such", false };
}

bool format_folds(struct format_arguments *a, const struct linear_shape *linears,
                  int count, error *err)
{
	if (!a->format->channel_scales != !a->fold_path)
		return fail(err, EXIT_USAGE, "--fold: expected %s for %s %s",
		            a->fold_path ? "none" : "a file", a->element, a->granularity);
	return !a->fold_path ||
	       folds_read(&a->folds, a->fold_path, a->format, linears, count, err);
}

bool format_groups(const struct format_arguments *a, const struct linear_shape *linears,
                   int count, arena *memory, struct group_list *out, error *err)
{
	if (!make_groups(linears, count, a->exclude.values, a->exclude.count, memory, out, err))
		return false;
	keep_included(out, linears, a->include.values, a->include.count);
	return keep_takeable(out, linears, a->format, a->name, a->skip_bad_shapes,
	                     err);
}

enum { EVALUATION_OPTIONS = DATA_OPTIONS + 9 };

static void evaluation_options(struct evaluation_arguments *a, struct option *options)
{
	data_options(&a->data, options);
	const struct option own[] = {
		{ "eval-list", OPTION_TEXT, &a->data.source.eval_list, "FILE",
		  "evaluation list, a JSON object with image_relpath and caption a line", false },
		{ "first", OPTION_INTEGER, &a->data.source.first, "N",
		  "rows of the source to leave out before the ones to use (default 0)", false },
		{ "amax", OPTION_TEXT, &a->amax, "FILE", "amax.json of the calibration", true },
		{ "baseline", OPTION_TEXT, &a->manifest, "FILE", "the baseline's quant manifest",
		  true },
		{ "baseline-name", OPTION_TEXT, &a->facts.baseline, "NAME", "for the result",
		  true },
		{ "set-name", OPTION_TEXT, &a->facts.set, "NAME", "what the set is called", true },
		{ "data-name", OPTION_TEXT, &a->facts.data, "NAME", "for the result", true },
		{ "data-stand-in", OPTION_FLAG, &a->facts.stand_in, NULL,
		  "the data stand in for COCO", false },
		{ "fold", OPTION_LIST, &a->folds, "FILE",
		  "the channel scales that fold found; once a format that has such", false },
	};
	memcpy(options + DATA_OPTIONS, own, sizeof own);
}

/* Checks and reads all that was named; *job lacks only the choices. */
static bool evaluation_begin(struct evaluation_arguments *a, struct material *m,
                             struct evaluation *job, const char *tool, error *err)
{
	*job = (struct evaluation){ .data = a->data.source, .tree = a->data.tree,
		.tool = tool, .target = a->data.out };
	if (strcmp(a->data.part, "0/1") != 0)
		return fail(err, EXIT_USAGE, "--part: damage is measured in one piece");
	if (!tool_sources(&job->sources, err) ||
	    !material_load(m, a->data.source.model, a->amax, a->manifest, &a->folds, err))
		return false;
	material_lend(m, job);
	return choose_format_device(m->formats, m->format_count, &a->data.device, &job->device,
	                            err);
}

static bool evaluate(const struct evaluation_tool *tool, struct evaluation_arguments *a,
                     const struct option_list *operands, error *err)
{
	struct material m = { 0 };
	struct evaluation job;
	text printed = { 0 };
	bool ok = evaluation_begin(a, &m, &job, tool->name, err) &&
	          tool->measure(&job, &m, operands, &a->facts, &printed, err) &&
	          write_file_if_changed(a->data.out, printed.data, printed.length, NULL, err);
	if (ok)
		say_device(&job.device, tool->name);
	text_free(&printed);
	material_free(&m);
	return ok;
}

int run_evaluation(const struct evaluation_tool *tool, int argc, char **argv)
{
	struct evaluation_arguments a = { 0 };
	struct option options[EVALUATION_OPTIONS + 1] = { 0 };
	const struct command command = { .tool = tool->name, .purpose = tool->purpose,
		.operands = tool->operands, .options = options };
	error err;
	struct option_list operands = { 0 };
	evaluation_options(&a, options);
	enum parse_outcome parsed = parse_options(&command, argc, argv,
	                                          tool->operands ? &operands : NULL, &err);
	bool ok = parsed == PARSE_HELP ||
	          (parsed == PARSE_OK && evaluate(tool, &a, &operands, &err));
	options_free(&operands);
	options_free(&a.folds);
	return ok ? EXIT_OK : error_report(tool->name, &err);
}
