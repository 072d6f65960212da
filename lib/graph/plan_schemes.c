/* What schemes name, checked before anything is computed: scores may take hours, and a
 * slice that then finds no file, or a pin that means nothing, comes too late. */
#include "lib/graph/plan_schemes.h"

#include "lib/base/file.h"

static bool check_file(const struct scheme *s, const char *path, const char *what, error *err)
{
	return !path || file_exists(path) ||
	       fail(err, EXIT_BAD_INPUT, "%s: the %s of scheme %s is missing", path, what,
	            s->name);
}

/* Every glob must name something: a misspelt one would silently change nothing. `of`:
 * whose groups they are. */
static bool check_globs(const struct catalog *c, const struct scheme *s, const char *field,
                        const struct globs *globs, const struct group_list *groups,
                        const char *of, error *err)
{
	for (int i = 0; i < globs->count; i++) {
		int g = 0;
		while (g < groups->count &&
		       !glob_matches(globs->values[i], groups->groups[g].name))
			g++;
		if (g == groups->count)
			return fail(err, EXIT_BAD_INPUT, "%s: schemes.%s.%s: no group of %s matches "
			            "\"%s\" (groups go by the name of their first member)",
			            c->doc.name, s->name, field, of, globs->values[i]);
	}
	return true;
}

/* To leave something as it is that the baseline leaves so anyway is no fault. */
static bool check_scheme(const struct catalog *c, const struct scheme *s,
                         const struct planned_baseline *p, error *err)
{
	const struct rule *r = &s->rule;
	const char *model = p->catalog->model->name, *baseline = p->catalog->name;
	return check_file(s, r->manifest, "coverage manifest", err) &&
	       check_file(s, r->costs, "file of costs", err) &&
	       check_globs(c, s, "groups", &r->groups, &p->groups, baseline, err) &&
	       check_globs(c, s, "pin_quantized", &r->pin_quantised, &p->groups, baseline,
	                   err) &&
	       check_globs(c, s, "pin_bf16", &r->pin_bf16, &p->all, model, err) &&
	       check_globs(c, s, "cost_exclude", &r->cost_exclude, &p->all, model, err);
}

bool check_schemes(const struct plan *plan, error *err)
{
	const struct catalog *c = plan->catalog;
	for (int i = 0; i < c->scheme_count; i++) {
		const struct scheme *s = &c->schemes[i];
		if (!check_scheme(c, s, &plan->baselines[s->baseline - c->baselines], err))
			return false;
	}
	return true;
}
