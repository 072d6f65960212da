/* pareto: a scored baseline -> the least score at every budget, as table, CSV, JSON. */
#include <stdlib.h>

#include "lib/artifact/publish.h"
#include "lib/base/file.h"
#include "lib/base/options.h"
#include "lib/quant/pareto.h"

typedef bool printer(const struct pareto *p, text *out, error *err);

static bool write_one(const struct pareto *p, printer *print, const char *folder,
                      const char *name, error *err)
{
	char path[PATH_BYTES];
	text printed = { 0 };
	bool ok = join_path(path, sizeof path, folder, name, err) && print(p, &printed, err) &&
	          write_file_if_changed(path, printed.data, printed.length, NULL, err);
	text_free(&printed);
	return ok;
}

static bool make_pareto(const char *manifest, const char *step, const char *out, error *err)
{
	struct baseline b;
	struct pareto p = { 0 };
	char *end;
	double bits = strtod(step, &end);
	if (end == step || *end || !(bits >= 0.01 && bits <= 16))
		return fail(err, EXIT_USAGE, "--step: expected a number from 0.01 to 16, found "
		            "\"%s\"", step);
	if (!baseline_read(&b, manifest, err))
		return false;
	bool ok = pareto_make(&p, &b, bits, err) &&
	          write_one(&p, print_pareto_table, out, "pareto.md", err) &&
	          write_one(&p, print_pareto_csv, out, "pareto.csv", err) &&
	          write_one(&p, print_pareto_json, out, "pareto.json", err);
	pareto_free(&p);
	baseline_free(&b);
	return ok;
}

int main(int argc, char **argv)
{
	const char *baseline = NULL, *step = "0.25", *out = NULL;
	const struct option options[] = {
		{ "baseline", OPTION_TEXT, &baseline, "FILE",
		  "quant manifest of a scored baseline (quern's or ModelOpt's)", true },
		{ "step", OPTION_TEXT, &step, "BITS", "between budgets (default 0.25)", false },
		{ "out", OPTION_TEXT, &out, "DIR",
		  "where pareto.md, pareto.csv and pareto.json go", true },
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
	          (parsed == PARSE_OK && make_pareto(baseline, step, out, &err));
	return ok ? EXIT_OK : error_report("pareto", &err);
}
