/* The part of a plan's checks that is about schemes. */
#ifndef QUERN_GRAPH_PLAN_SCHEMES_H
#define QUERN_GRAPH_PLAN_SCHEMES_H

#include "lib/graph/plan.h"

/* Whether the files that rules name are there, and every glob names a group; of a plan
 * whose baselines are filled in. */
bool check_schemes(const struct plan *plan, error *err);

#endif
