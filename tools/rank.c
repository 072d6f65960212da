/* rank: the parts of a scoring, one or more formats -> the baseline's manifest, state and
 * tables. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/artifact/step.h"
#include "lib/base/file.h"
#include "lib/quant/manifest.h"
#include "tools/arguments.h"

struct arguments {
	struct baseline_facts facts;
	const char *model, *amax, *out, *baseline, *import, *tree;
	const char *element, *granularity; /* of what is imported */
	bool scale_per_member;
	struct step step;
	struct option_list parts;
};

enum { OPTIONS = 16 };

static void describe(struct arguments *a, struct option *options)
{
	struct baseline_facts *f = &a->facts;
	*a = (struct arguments){ .facts.numerics = "quern",
		.element = "fp8_e4m3", .granularity = "tensor" };
	const struct option table[OPTIONS] = {
		{ "model", OPTION_TEXT, &a->model, "DIR", "checkpoint folder", true },
		{ "amax", OPTION_TEXT, &a->amax, "FILE", "amax.json of the calibration", true },
		{ "out", OPTION_TEXT, &a->out, "DIR", "where the manifests go", true },
		{ "baseline", OPTION_TEXT, &a->baseline, "NAME", "name of the baseline", true },
		{ "file-name", OPTION_TEXT, &f->file_name, "NAME", "what its files are called",
		  true },
		{ "model-name", OPTION_TEXT, &f->model_name, "NAME", "for the manifest", true },
		{ "data-name", OPTION_TEXT, &f->data_name, "NAME", "for the manifest", true },
		{ "prompt", OPTION_TEXT, &f->prompt, "FORM", "for the manifest", true },
		{ "import", OPTION_TEXT, &a->import, "FILE",
		  "rank what this quant manifest has, quern's or ModelOpt's, instead of parts",
		  false },
		{ "import-element", OPTION_TEXT, &a->element, "NAME",
		  "element of its candidates (default fp8_e4m3)", false },
		{ "import-granularity", OPTION_TEXT, &a->granularity, "NAME",
		  "what shares a scale in them (default tensor)", false },
		{ "numerics", OPTION_TEXT, &f->numerics, "NAME", "quern or modelopt (default quern)",
		  false },
		{ "scale-per-member", OPTION_FLAG, &a->scale_per_member, NULL,
		  "every member of a fused group kept a weight scale of its own", false },
		{ "model-stand-in", OPTION_FLAG, &f->model_stand_in, NULL,
		  "the model stands in for a real one", false },
		{ "data-stand-in", OPTION_FLAG, &f->data_stand_in, NULL,
		  "the data stand in for COCO", false },
		tree_option(&a->tree),
	};
	memcpy(options, table, sizeof table);
}

typedef bool printer(const struct ranking *r, text *out, error *err);

static bool write_one(struct arguments *a, const struct ranking *r, printer *print,
                      const char *prefix, const char *name, error *err)
{
	char path[PATH_BYTES];
	text printed = { 0 };
	snprintf(path, sizeof path, "%s/%s%s", a->out, prefix, name);
	bool ok = print(r, &printed, err) && step_write(&a->step, path, &printed, err);
	text_free(&printed);
	return ok;
}

static bool write_all(struct arguments *a, const struct ranking *r, error *err)
{
	const char *name = r->facts->file_name;
	return write_one(a, r, print_state, name, "_autoquant_state.json", err) &&
	       write_one(a, r, print_sensitivity_table, "", "per-layer-sensitivity.md", err) &&
	       write_one(a, r, print_sensitivity_json, "", "per-layer-sensitivity.json", err) &&
	       write_one(a, r, print_baseline_manifest, name, "_quant_manifest.json", err);
}

/* What the manifests are made from, beside the scores. */
static bool begin_step(struct arguments *a, error *err)
{
	const struct baseline_facts *f = &a->facts;
	struct key *key = &a->step.key;
	char config[PATH_BYTES];
	if (!join_path(config, sizeof config, a->model, "config.json", err) ||
	    !step_begin(&a->step, a->tree, "rank", a->out, err))
		return false;
	key_add(key, "numerics", f->numerics);
	key_add(key, "scales", a->scale_per_member ? "member" : "group");
	key_add(key, "file_name", f->file_name);
	key_add(key, "model", f->model_name);
	key_add(key, "data", f->data_name);
	key_add(key, "prompt", f->prompt);
	key_add(key, "model_stand_in", f->model_stand_in ? "yes" : "no");
	key_add(key, "data_stand_in", f->data_stand_in ? "yes" : "no");
	if (a->import) {
		key_add(key, "import_element", a->element);
		key_add(key, "import_granularity", a->granularity);
	}
	return step_input(&a->step, "config.json", config, err) &&
	       step_input(&a->step, "amax", a->amax, err) &&
	       (!a->import || step_input(&a->step, "import", a->import, err)) &&
	       step_inputs(&a->step, "part", a->parts.values, a->parts.count, err);
}

static bool make_ranking(const struct arguments *a, struct ranking *r,
                         const struct linear_shape *linears, const struct group_list *groups,
                         const struct amax_table *amax, error *err)
{
	if (!a->import)
		return ranking_read(r, &a->facts, linears, groups, amax, a->parts.values,
		                    a->parts.count, err);
	const struct format *format = format_find(a->element, a->granularity);
	if (a->parts.count > 0)
		return fail(err, EXIT_USAGE, "expected either parts or --import");
	if (!format)
		return fail(err, EXIT_USAGE, "--import-element, --import-granularity: no format "
		            "\"%s\", \"%s\"", a->element, a->granularity);
	return ranking_import(r, &a->facts, linears, groups, amax, a->import, format, err);
}

static bool rank(struct arguments *a, error *err)
{
	struct model_config config;
	struct linear_shape *linears;
	struct group_list groups;
	struct amax_table amax = { 0 };
	struct ranking r = { 0 };
	enum numerics numerics;
	arena memory = { 0 };
	int count;
	if (!numerics_from_name(a->facts.numerics, &numerics))
		return fail(err, EXIT_USAGE, "--numerics: expected quern or modelopt, found \"%s\"",
		            a->facts.numerics);
	a->facts.shared_scales = !a->scale_per_member;
	bool ok = begin_step(a, err) && model_config_load(&config, a->model, err) &&
	          list_linears(&config, &memory, &linears, &count, err) &&
	          make_groups(linears, count, NULL, 0, &memory, &groups, err) &&
	          amax_read(&amax, a->amax, linears, count, err) &&
	          make_ranking(a, &r, linears, &groups, &amax, err) &&
	          write_all(a, &r, err) && step_end(&a->step, err);
	ranking_free(&r);
	amax_free(&amax);
	arena_free(&memory);
	step_drop(&a->step);
	return ok;
}

int main(int argc, char **argv)
{
	struct arguments a;
	struct option options[OPTIONS + 1] = { 0 };
	const struct command command = {
		.tool = "rank",
		.purpose = "Adds the scores of all parts up to groups, ranks these and writes the "
		           "baseline's manifest, search state and sensitivity tables.",
		.operands = "[PART...]",
		.options = options
	};
	error err;
	describe(&a, options);
	enum parse_outcome parsed = parse_options(&command, argc, argv, &a.parts, &err);
	bool ok = parsed == PARSE_HELP || (parsed == PARSE_OK && rank(&a, &err));
	options_free(&a.parts);
	return ok ? EXIT_OK : error_report("rank", &err);
}
