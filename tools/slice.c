/* slice: a baseline's ranking and a rule -> which groups a scheme keeps. */
#include <stdio.h>
#include <stdlib.h>

#include "lib/artifact/step.h"
#include "lib/base/file.h"
#include "lib/quant/manifest.h"
#include "tools/arguments.h"

struct arguments {
	const char *baseline, *folder, *scheme, *file_name, *percent, *out, *tree;
	bool full;
	struct step step;
};

static bool read_rule(const struct arguments *a, struct rule *rule, error *err)
{
	if (a->full == (a->percent != NULL))
		return fail(err, EXIT_USAGE, "expected either --full or --top-percent");
	*rule = (struct rule){ .kind = a->full ? RULE_FULL : RULE_TOP_PERCENT, .percent = 100 };
	if (a->full)
		return true;
	char *end;
	rule->percent = strtod(a->percent, &end);
	if (end == a->percent || *end || !(rule->percent > 0 && rule->percent <= 100))
		return fail(err, EXIT_USAGE, "--top-percent: expected a number above 0, up to 100, "
		            "found \"%s\"", a->percent);
	return true;
}

static bool write_text(struct arguments *a, const char *name, const text *content,
                       error *err)
{
	char path[PATH_BYTES];
	return join_path(path, sizeof path, a->out, name, err) &&
	       step_write(&a->step, path, content, err);
}

static bool begin_step(struct arguments *a, error *err)
{
	if (!step_begin(&a->step, a->tree, "slice", a->out, err))
		return false;
	key_add(&a->step.key, "scheme", a->scheme);
	key_add(&a->step.key, "file_name", a->file_name);
	key_add(&a->step.key, "baseline", a->folder);
	key_add(&a->step.key, "top_percent", a->full ? "full" : a->percent);
	return step_input(&a->step, "ranking", a->baseline, err);
}

static bool slice(struct arguments *a, error *err)
{
	struct baseline b;
	struct coverage c = { 0 };
	struct rule rule;
	text coverage = { 0 }, manifest = { 0 }, file = { 0 };
	if (!read_rule(a, &rule, err) || !begin_step(a, err) || !baseline_read(&b, a->baseline, err))
		return false;
	text_printf(&file, "%s_quant_manifest.json", b.name);
	bool ok = text_ok(&file, err) && slice_baseline(&c, &b, a->scheme, &rule, err) &&
	          print_coverage(&c, &b, a->folder, file.data, &coverage, err) &&
	          print_scheme_manifest(&b, &c, a->file_name, &manifest, err) &&
	          write_text(a, "manifest.json", &manifest, err) &&
	          write_text(a, "slice.json", &coverage, err) && step_end(&a->step, err);
	text_free(&coverage);
	text_free(&manifest);
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
		{ "full", OPTION_FLAG, &a.full, NULL, "keep every group", false },
		{ "out", OPTION_TEXT, &a.out, "DIR",
		  "where slice.json (coverage) and manifest.json go", true },
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
	step_drop(&a.step);
	return ok ? EXIT_OK : error_report("slice", &err);
}
