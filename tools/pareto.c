/* pareto: a scored baseline -> the least score at every budget, as table, CSV, JSON. */
#include <stdlib.h>

#include "lib/artifact/step.h"
#include "lib/base/file.h"
#include "lib/quant/pareto.h"
#include "tools/arguments.h"

typedef bool printer(const struct pareto *p, text *out, error *err);

struct arguments {
	const char *baseline, *bits, *out, *tree;
	char target[PATH_BYTES]; /* the folder by itself is rank's */
	struct step step;
};

static bool write_one(struct arguments *a, const struct pareto *p, printer *print,
                      const char *name, error *err)
{
	char path[PATH_BYTES];
	text printed = { 0 };
	bool ok = join_path(path, sizeof path, a->out, name, err) && print(p, &printed, err) &&
	          step_write(&a->step, path, &printed, err);
	text_free(&printed);
	return ok;
}

static bool begin_step(struct arguments *a, error *err)
{
	if (!join_path(a->target, sizeof a->target, a->out, "pareto.json", err) ||
	    !step_begin(&a->step, a->tree, "pareto", a->target, err))
		return false;
	key_add(&a->step.key, "step", a->bits);
	return step_input(&a->step, "ranking", a->baseline, err);
}

static bool make_pareto(struct arguments *a, error *err)
{
	struct baseline b;
	struct pareto p = { 0 };
	char *end;
	double bits = strtod(a->bits, &end);
	if (end == a->bits || *end || !(bits >= 0.01 && bits <= 16))
		return fail(err, EXIT_USAGE, "--step: expected a number from 0.01 to 16, found "
		            "\"%s\"", a->bits);
	if (!begin_step(a, err) || !baseline_read(&b, a->baseline, err))
		return false;
	bool ok = pareto_make(&p, &b, bits, err) &&
	          write_one(a, &p, print_pareto_table, "pareto.md", err) &&
	          write_one(a, &p, print_pareto_csv, "pareto.csv", err) &&
	          write_one(a, &p, print_pareto_json, "pareto.json", err) &&
	          step_end(&a->step, err);
	pareto_free(&p);
	baseline_free(&b);
	return ok;
}

int main(int argc, char **argv)
{
	struct arguments a = { .bits = "0.25" };
	const struct option options[] = {
		{ "baseline", OPTION_TEXT, &a.baseline, "FILE",
		  "quant manifest of a scored baseline (quern's or ModelOpt's)", true },
		{ "step", OPTION_TEXT, &a.bits, "BITS", "between budgets (default 0.25)", false },
		{ "out", OPTION_TEXT, &a.out, "DIR",
		  "where pareto.md, pareto.csv and pareto.json go", true },
		tree_option(&a.tree),
		{ 0 },
	};
	const struct command command = {
		.tool = "pareto",
		.purpose = "Solves a scored baseline for every budget: which score is the least at "
		           "how many effective bits.",
		.options = options
	};
	error err;
	enum parse_outcome parsed = parse_options(&command, argc, argv, NULL, &err);
	bool ok = parsed == PARSE_HELP ||
	          (parsed == PARSE_OK && make_pareto(&a, &err));
	step_drop(&a.step);
	return ok ? EXIT_OK : error_report("pareto", &err);
}
