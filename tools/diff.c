/* diff: what changed between two schemes or two baselines. */
#include <stdio.h>

#include "lib/base/options.h"
#include "lib/report/changes.h"

static bool find(const struct findings *f, const char *name, struct found_scheme **out,
                 error *err)
{
	*out = find_scheme(f, name);
	return *out || fail(err, EXIT_USAGE, "there is no scheme \"%s\" of model %s", name,
	                    f->model);
}

static bool print_diff(const struct findings *f, const struct option_list *names, error *err)
{
	struct found_scheme *a, *b;
	text out = { 0 };
	bool ok = find(f, names->values[0], &a, err) && find(f, names->values[1], &b, err) &&
	          print_changes(f, a, b, &out, err);
	if (ok)
		fputs(out.data, stdout);
	text_free(&out);
	return ok;
}

static bool diff(const char *plan, const char *model, const struct option_list *names,
                 error *err)
{
	struct findings f;
	if (names->count != 2)
		return fail(err, EXIT_USAGE, "expected two schemes, found %d", names->count);
	if (!findings_load(&f, plan, model, err))
		return false;
	bool ok = print_diff(&f, names, err);
	findings_free(&f);
	return ok;
}

int main(int argc, char **argv)
{
	const char *plan = "out/report.json", *model = NULL;
	const struct option options[] = {
		{ "plan", OPTION_TEXT, &plan, "FILE",
		  "report.json of the build tree (default out/report.json)", false },
		{ "model", OPTION_TEXT, &model, "NAME", "needed where the tree has several", false },
		{ 0 },
	};
	const struct command command = {
		.tool = "diff",
		.purpose = "Prints what changed between two schemes or two baselines: groups, bits, "
		           "ranks, damage. Reads artifacts only.",
		.operands = "SCHEME_A SCHEME_B",
		.options = options
	};
	error err;
	struct option_list names = { 0 };
	enum parse_outcome parsed = parse_options(&command, argc, argv, &names, &err);
	bool ok = parsed == PARSE_HELP || (parsed == PARSE_OK && diff(plan, model, &names, &err));
	options_free(&names);
	return ok ? EXIT_OK : error_report("diff", &err);
}
