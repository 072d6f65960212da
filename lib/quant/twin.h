/* What comes back of a group's codes, as BF16 weights: the pieces of the bf16 profile. */
#ifndef QUERN_QUANT_TWIN_H
#define QUERN_QUANT_TWIN_H

#include "lib/quant/variants.h"

/* A group's packed weights. */
struct twin_job {
	const char *tree, *target; /* as of an edge */
	const struct variant_set *set;
	const struct variant_pair *pair; /* of the set */
	const struct linear_shape *linears;
	int linear_count;
};

/* A file of the group's weights, what comes back of them rounded to BF16, made once and
 * kept in the tree's store. Adds to *written what was not there yet. */
bool make_twin(const struct twin_job *job, struct output *out, uint64_t *written,
               error *err);

/* out[count] = bf16(values[count]) */
void round_twin(const float *values, size_t count, uint16_t *out);

#endif
