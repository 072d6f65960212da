/* What a configured tree is going to do, checked against the headers of models and
 * data before any heavy edge exists. */
#ifndef QUERN_GRAPH_PLAN_H
#define QUERN_GRAPH_PLAN_H

#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/checkpoint/config.h"
#include "lib/model/linears.h"
#include "lib/quant/catalog.h"
#include "lib/quant/groups.h"

/* One baseline with what its model and data turned out to be. */
struct planned_baseline {
	const struct catalog_baseline *catalog;
	int64_t calib_samples, score_samples; /* what the data has of what was asked */
	struct group_list groups; /* that some candidate format takes */
	struct group_list all;    /* of the model */
	int misaligned; /* linears with a side that is no multiple of 16 */
	int64_t quantised_bytes; /* codes of all groups */
	int64_t model_bytes;     /* the model's tensors as they are */
};

struct plan {
	const struct catalog *catalog;
	struct planned_baseline *baselines; /* [catalog->baseline_count] */
	int64_t *evaluation_samples; /* [catalog->evaluation_count] what the data has of what
	                                was asked; 0: the set cannot be evaluated */
	arena memory;
};

/* Opens every model's headers and every data source; fails on the first thing that
 * a later edge would trip over: a missing path, a shape the exporter cannot write,
 * an empty source. */
bool plan_build(struct plan *plan, const struct catalog *catalog, error *err);
void plan_free(struct plan *plan);

/* The plan for a person, on standard output. */
void plan_print(const struct plan *plan, int edges);

#endif
