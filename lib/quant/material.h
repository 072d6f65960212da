/* What an evaluation is made from, read and checked before anything runs: the groups
 * of a model, their calibration, and the baseline that ranked them. */
#ifndef QUERN_QUANT_MATERIAL_H
#define QUERN_QUANT_MATERIAL_H

#include "lib/quant/amax_file.h"
#include "lib/quant/baseline.h"
#include "lib/quant/evaluate.h"

struct material {
	struct linear_shape *linears;
	int linear_count, cache_count; /* parts of the key/value cache */
	struct group_list groups;
	struct amax_table amax;
	struct baseline ranked;
	int *group_of; /* [ranked group] its place in groups */
	arena memory;
};

/* The linears; which groups of them there are is the caller's to fill in. */
bool material_begin(struct material *m, const char *model, error *err);

/* The rest. */
bool material_load(struct material *m, const char *amax, const char *manifest, error *err);
void material_free(struct material *m);

/* Fills in what of a job is the material's. */
void material_lend(const struct material *m, struct evaluation *job);

/* Whether the calibration has the parts of the cache that an FP8 cache needs. */
bool material_has_cache(const struct material *m, error *err);

/* keeps[group] of the material's groups from keeps[] of the ranked ones; NULL when
 * out of memory. */
const bool *material_choice(struct material *m, const bool *ranked_keeps, error *err);

#endif
