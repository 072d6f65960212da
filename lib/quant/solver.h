/* The search for the least total score within a budget: one candidate a group, exact.
 *
 * A multiple-choice knapsack. Lagrangian relaxation gives a bound, and for every
 * candidate the least it adds to that bound; candidates that add more than the best
 * known solution has to spare are out, and what remains is searched by dynamic
 * programming with dominance (the scheme of D. Pisinger, "A minimal algorithm for the
 * multiple-choice knapsack problem", 1995). */
#ifndef QUERN_QUANT_SOLVER_H
#define QUERN_QUANT_SOLVER_H

#include <stdbool.h>

#include "lib/base/error.h"

struct candidate {
	double score, cost; /* finite, >= 0 */
};

/* One group's candidates. */
struct candidate_list {
	const struct candidate *candidates;
	int count; /* >= 1 */
};

struct solution {
	bool feasible;     /* the budget is at least `least_cost` */
	double least_cost; /* of any choice */
	double score, cost;
	double bound;   /* no choice within the budget has a lower score */
	bool optimal;   /* proven, to a relative 1e-12; otherwise score - bound is the gap */
};

/* choice[group] within the budget; of equal scores the cheaper. Left alone when no
 * choice is feasible, which is no failure. */
bool solve_budget(const struct candidate_list *groups, int count, double budget,
                  int *choice, struct solution *out, error *err);

#endif
