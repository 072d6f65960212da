/* What an evaluation is made from, read and checked before anything runs: the baseline
 * that ranked groups of a model, what it calls their formats, and their calibration. */
#ifndef QUERN_QUANT_MATERIAL_H
#define QUERN_QUANT_MATERIAL_H

#include "lib/base/options.h"
#include "lib/quant/amax_file.h"
#include "lib/quant/baseline.h"
#include "lib/quant/evaluate.h"

struct material {
	struct linear_shape *linears;
	int linear_count, cache_count; /* parts of the key/value cache */
	struct group_list groups; /* that have a format to choose, in module order */
	struct amax_table amax;
	struct baseline ranked;
	struct provenance numbers;
	int *group_of; /* [ranked group] its place in groups; -1: it has no format */
	const struct format **formats; /* all that groups can be in */
	int format_count;
	struct folds folds; /* of those that have channel scales */
	arena memory;
};

/* Paths: of the checkpoint's folder, of amax.json, of the baseline's manifest, and of the
 * fold.json of every format that has channel scales. */
bool material_load(struct material *m, const char *model, const char *amax,
                   const char *manifest, const struct option_list *folds, error *err);
void material_free(struct material *m);

/* Fills in what of a job is the material's. */
void material_lend(const struct material *m, struct evaluation *job);

/* Whether the calibration has the parts of the cache that an FP8 cache needs. */
bool material_has_cache(const struct material *m, error *err);

/* formats[group] of the material's groups: NULL, or of a ranked group that keeps[] one, that
 * which choice[] says by its number; choice NULL: the one of fewest bits. NULL when out of
 * memory. */
const struct format *const *material_choice(struct material *m, const bool *keeps,
                                            const int *choice, error *err);

#endif
