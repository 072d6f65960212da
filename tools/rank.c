/* rank: the parts of a scoring -> the baseline's manifest, state and tables. */
#include <stdio.h>

#include "lib/artifact/step.h"
#include "lib/base/file.h"
#include "lib/quant/manifest.h"
#include "tools/arguments.h"

struct arguments {
	struct format_arguments format;
	struct baseline_facts facts;
	const char *model, *amax, *out, *baseline, *tree;
	struct step step;
	struct option_list parts;
};

enum { OWN_OPTIONS = 12 };

static void describe(struct arguments *a, struct option *options)
{
	struct baseline_facts *f = &a->facts;
	format_options(&a->format, options);
	const struct option own[OWN_OPTIONS] = {
		{ "model", OPTION_TEXT, &a->model, "DIR", "checkpoint folder", true },
		{ "amax", OPTION_TEXT, &a->amax, "FILE", "amax.json of the calibration", true },
		{ "out", OPTION_TEXT, &a->out, "DIR", "where the manifests go", true },
		{ "baseline", OPTION_TEXT, &a->baseline, "NAME", "name of the baseline", true },
		{ "file-name", OPTION_TEXT, &f->file_name, "NAME", "what its files are called",
		  true },
		{ "model-name", OPTION_TEXT, &f->model_name, "NAME", "for the manifest", true },
		{ "data-name", OPTION_TEXT, &f->data_name, "NAME", "for the manifest", true },
		{ "method", OPTION_TEXT, &f->method, "NAME", "for the manifest", true },
		{ "prompt", OPTION_TEXT, &f->prompt, "FORM", "for the manifest", true },
		{ "model-stand-in", OPTION_FLAG, &f->model_stand_in, NULL,
		  "the model stands in for a real one", false },
		{ "data-stand-in", OPTION_FLAG, &f->data_stand_in, NULL,
		  "the data stand in for COCO", false },
		tree_option(&a->tree),
	};
	for (int i = 0; i < OWN_OPTIONS; i++)
		options[FORMAT_OPTIONS + i] = own[i];
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
	format_key(&a->format, key);
	key_add(key, "file_name", f->file_name);
	key_add(key, "model", f->model_name);
	key_add(key, "data", f->data_name);
	key_add(key, "method", f->method);
	key_add(key, "prompt", f->prompt);
	key_add(key, "model_stand_in", f->model_stand_in ? "yes" : "no");
	key_add(key, "data_stand_in", f->data_stand_in ? "yes" : "no");
	return step_input(&a->step, "config.json", config, err) &&
	       step_input(&a->step, "amax", a->amax, err) &&
	       step_inputs(&a->step, "part", a->parts.values, a->parts.count, err);
}

static bool rank(struct arguments *a, error *err)
{
	struct model_config config;
	struct linear_shape *linears;
	struct group_list groups;
	struct amax_table amax = { 0 };
	struct block_list blocks = { 0 };
	struct block merged;
	arena memory = { 0 };
	int count;
	struct ranking r = { .facts = &a->facts, .groups = &groups, .amax = &amax,
		.blocks = &blocks, .merged = &merged };
	bool ok = format_check(&a->format, err) && begin_step(a, err) &&
	          model_config_load(&config, a->model, err) &&
	          list_linears(&config, &memory, &linears, &count, err) &&
	          make_groups(linears, count, a->format.exclude.values, a->format.exclude.count,
	                      &memory, &groups, err) &&
	          amax_read(&amax, a->amax, linears, count, err) &&
	          read_parts(&blocks, a->parts.values, a->parts.count, BLOCK_GRADIENT, err) &&
	          merge_blocks(&blocks, BLOCK_GRADIENT, &merged, err);
	a->facts.format = a->format.name;
	a->facts.numerics = a->format.numerics_text;
	a->facts.shared_scales = !a->format.scale_per_member;
	if (ok) {
		r.linears = linears;
		ok = ranking_make(&r, err) && write_all(a, &r, err) && step_end(&a->step, err);
		ranking_free(&r);
	}
	block_list_free(&blocks);
	amax_free(&amax);
	arena_free(&memory);
	step_drop(&a->step);
	return ok;
}

int main(int argc, char **argv)
{
	struct arguments a = { 0 };
	struct option options[FORMAT_OPTIONS + OWN_OPTIONS + 1] = { 0 };
	const struct command command = {
		.tool = "rank",
		.purpose = "Adds the scores of all parts up to groups, ranks these and writes the "
		           "baseline's manifest, search state and sensitivity tables.",
		.operands = "PART...",
		.options = options
	};
	error err;
	describe(&a, options);
	enum parse_outcome parsed = parse_options(&command, argc, argv, &a.parts, &err);
	bool ok = parsed == PARSE_HELP || (parsed == PARSE_OK && rank(&a, &err));
	options_free(&a.parts);
	options_free(&a.format.exclude);
	return ok ? EXIT_OK : error_report("rank", &err);
}
