/* Every budget at once: from one scored baseline, the least total score at each of a
 * row of effective bits, from the least reachable to no quantisation at all. */
#ifndef QUERN_QUANT_PARETO_H
#define QUERN_QUANT_PARETO_H

#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/base/text.h"
#include "lib/quant/baseline.h"

struct pareto_point {
	double asked, delivered; /* effective bits */
	double score, gap;       /* gap 0: proven least */
	int kept;                /* groups that are quantised */
	int by_format[MAX_FORMATS]; /* of those, per entry of pareto.formats */
};

struct pareto {
	const struct baseline *baseline;
	const char *formats[MAX_FORMATS]; /* those of any group, FORMAT_NONE not among them */
	int format_count;
	double least; /* reachable bits */
	struct pareto_point *points; /* ascending bits; the first is `least` itself */
	int count;
	arena memory;
};

/* Budgets every `step` bits. */
bool pareto_make(struct pareto *p, const struct baseline *b, double step, error *err);
void pareto_free(struct pareto *p);

/* A table for people, rows for plotting, and both with everything for programs. */
bool print_pareto_table(const struct pareto *p, text *out, error *err);
bool print_pareto_csv(const struct pareto *p, text *out, error *err);
bool print_pareto_json(const struct pareto *p, text *out, error *err);

#endif
