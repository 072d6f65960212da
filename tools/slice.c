/* slice: a baseline's ranking and a rule -> which groups a scheme keeps. */
#include <float.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/artifact/step.h"
#include "lib/base/file.h"
#include "lib/quant/manifest.h"
#include "lib/quant/selection.h"
#include "tools/arguments.h"

struct arguments {
	const char *baseline, *folder, *scheme, *file_name, *percent, *blocks, *bits, *out;
	const char *manifest, *costs, *budget, *kv_cache, *tree;
	struct option_list groups, pin_bf16, pin_quantised, cost_exclude;
	bool full;
	struct step step;
};

static bool read_number(const char *option, const char *text, double most, double *out,
                        error *err)
{
	char *end;
	*out = strtod(text, &end);
	if (end == text || *end || !(*out > 0 && *out <= most))
		return fail(err, EXIT_USAGE, "--%s: expected a number above 0, up to %g, found "
		            "\"%s\"", option, most, text);
	return true;
}

static struct globs globs_of(const struct option_list *list)
{
	return (struct globs){ list->values, list->count };
}

static bool read_rule(const struct arguments *a, struct rule *rule, error *err)
{
	int ways = a->full + (a->percent != NULL) + (a->blocks != NULL) +
	           (a->groups.count > 0) + (a->manifest != NULL);
	if (ways != 1)
		return fail(err, EXIT_USAGE, "expected exactly one of --full, --top-percent, "
		            "--top-blocks, --group and --coverage");
	if (!a->costs != !a->budget || (a->costs && a->bits))
		return fail(err, EXIT_USAGE, "expected --costs together with --budget, and without "
		            "--effective-bits");
	*rule = (struct rule){ .kind = RULE_FULL, .groups = globs_of(&a->groups),
		.manifest = a->manifest, .costs = a->costs, .pin_bf16 = globs_of(&a->pin_bf16),
		.pin_quantised = globs_of(&a->pin_quantised),
		.cost_exclude = globs_of(&a->cost_exclude) };
	if (a->groups.count)
		rule->kind = RULE_LIST;
	else if (a->manifest)
		rule->kind = RULE_MANIFEST;
	else if (a->percent)
		rule->kind = RULE_TOP_PERCENT;
	else if (a->blocks)
		rule->kind = RULE_TOP_BLOCKS;
	return (!a->percent ||
	        read_number("top-percent", a->percent, 100, &rule->percent, err)) &&
	       (!a->blocks ||
	        read_number("top-blocks", a->blocks, 100, &rule->percent, err)) &&
	       (!a->bits || read_number("effective-bits", a->bits, 16, &rule->bits, err)) &&
	       (!a->budget || read_number("budget", a->budget, DBL_MAX, &rule->budget, err));
}

static bool write_text(struct arguments *a, const char *name, const text *content,
                       error *err)
{
	char path[PATH_BYTES];
	return join_path(path, sizeof path, a->out, name, err) &&
	       step_write(&a->step, path, content, err);
}

static void add_list(struct key *key, const char *name, const struct option_list *list)
{
	for (int i = 0; i < list->count; i++)
		key_add(key, name, list->values[i]);
}

static void add_given(struct key *key, const char *name, const char *value)
{
	if (value)
		key_add(key, name, value);
}

/* The rule goes in as it was asked for; the files it names by their content. */
static bool begin_step(struct arguments *a, error *err)
{
	struct key *key = &a->step.key;
	if (!step_begin(&a->step, a->tree, "slice", a->out, err))
		return false;
	key_add(key, "scheme", a->scheme);
	key_add(key, "file_name", a->file_name);
	key_add(key, "baseline", a->folder);
	add_given(key, "top_percent", a->full ? "full" : a->percent);
	add_given(key, "top_blocks", a->blocks);
	add_list(key, "group", &a->groups);
	add_given(key, "effective_bits", a->bits);
	add_given(key, "budget", a->budget);
	add_list(key, "pin_bf16", &a->pin_bf16);
	add_list(key, "pin_quantized", &a->pin_quantised);
	add_list(key, "cost_exclude", &a->cost_exclude);
	add_given(key, "kv_cache", a->kv_cache);
	return step_input(&a->step, "ranking", a->baseline, err) &&
	       (!a->manifest || step_input(&a->step, "coverage", a->manifest, err)) &&
	       (!a->costs || step_input(&a->step, "costs", a->costs, err));
}

static bool slice(struct arguments *a, error *err)
{
	struct baseline b;
	struct coverage c = { 0 };
	struct rule rule;
	text coverage = { 0 }, manifest = { 0 }, selection = { 0 }, file = { 0 };
	if (!read_rule(a, &rule, err) || !begin_step(a, err) || !baseline_read(&b, a->baseline, err))
		return false;
	text_printf(&file, "%s_quant_manifest.json", b.name);
	bool ok = text_ok(&file, err) && slice_baseline(&c, &b, a->scheme, &rule, err) &&
	          (!a->kv_cache ||
	           kv_format_parse(&c.kv_cache, a->kv_cache, &c.memory, err)) &&
	          print_coverage(&c, &b, a->folder, file.data, &coverage, err) &&
	          print_scheme_manifest(&b, &c, a->file_name, &manifest, err) &&
	          print_selection(&c, &b, &selection, err) &&
	          write_text(a, SELECTION_FILE, &selection, err) &&
	          write_text(a, "manifest.json", &manifest, err) &&
	          write_text(a, "slice.json", &coverage, err) && step_end(&a->step, err);
	text_free(&coverage);
	text_free(&manifest);
	text_free(&selection);
	text_free(&file);
	coverage_free(&c);
	baseline_free(&b);
	return ok;
}

int main(int argc, char **argv)
{
	struct arguments a = { 0 };
	const struct option options[] = {
		{ "baseline", OPTION_TEXT, &a.baseline, "FILE",
		  "quant manifest of a scored baseline (quern's or ModelOpt's)", true },
		{ "baseline-folder", OPTION_TEXT, &a.folder, "NAME",
		  "name of the baseline's checkpoint folder", true },
		{ "scheme", OPTION_TEXT, &a.scheme, "NAME", "name of the scheme", true },
		{ "file-name", OPTION_TEXT, &a.file_name, "NAME", "what its files are called",
		  true },
		{ "top-percent", OPTION_TEXT, &a.percent, "X",
		  "keep the least sensitive X % of the groups", false },
		{ "top-blocks", OPTION_TEXT, &a.blocks, "X",
		  "keep the X % of the transformer blocks with the least summed score", false },
		{ "group", OPTION_LIST, &a.groups, "GLOB",
		  "keep the groups of that name; may be repeated", false },
		{ "coverage", OPTION_TEXT, &a.manifest, "FILE",
		  "keep the groups that a coverage manifest selects", false },
		{ "full", OPTION_FLAG, &a.full, NULL, "keep every group", false },
		{ "effective-bits", OPTION_TEXT, &a.bits, "B",
		  "search the formats of least total score within B bits a weight first", false },
		{ "costs", OPTION_TEXT, &a.costs, "FILE",
		  "what groups take in their formats, in seconds, bytes or any unit", false },
		{ "budget", OPTION_TEXT, &a.budget, "N",
		  "search within N of that unit instead of bits", false },
		{ "pin-bf16", OPTION_LIST, &a.pin_bf16, "GLOB", "never quantise these", false },
		{ "pin-quantized", OPTION_LIST, &a.pin_quantised, "GLOB",
		  "always quantise these", false },
		{ "cost-exclude", OPTION_LIST, &a.cost_exclude, "GLOB",
		  "count these for nothing in bits", false },
		{ "kv-cache", OPTION_TEXT, &a.kv_cache, "FORMAT",
		  "what the scheme keeps the key/value cache in, NAME:fp8_e4m3:tensor", false },
		{ "out", OPTION_TEXT, &a.out, "DIR",
		  "where slice.json (coverage), manifest.json and selection.json go", true },
		tree_option(&a.tree),
		{ 0 },
	};
	const struct command command = {
		.tool = "slice",
		.purpose = "Cuts a scheme out of a scored baseline: which groups keep their format, "
		           "which stay as they are.",
		.options = options
	};
	error err;
	enum parse_outcome parsed = parse_options(&command, argc, argv, NULL, &err);
	bool ok = parsed == PARSE_HELP || (parsed == PARSE_OK && slice(&a, &err));
	options_free(&a.groups);
	options_free(&a.pin_bf16);
	options_free(&a.pin_quantised);
	options_free(&a.cost_exclude);
	step_drop(&a.step);
	return ok ? EXIT_OK : error_report("slice", &err);
}
