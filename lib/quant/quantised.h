/* The weights of a model in FP8, made once a run and shared by all threads. */
#ifndef QUERN_QUANT_QUANTISED_H
#define QUERN_QUANT_QUANTISED_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/model/qwen.h"
#include "lib/quant/groups.h"
#include "lib/quant/numerics.h"

struct quantised_linear {
	struct fp8_step weight, input;
	const uint8_t *codes; /* [out][in]; NULL: this linear stays as it is */
	const float *values;  /* decoded; NULL: decoded at use */
};

struct quantised_model {
	const struct model *model;
	struct quantised_linear *linears; /* [model->linear_count] */
	size_t largest; /* elements of the largest quantised weight */
	arena memory;
};

/* Quantises the weights of every group in `groups` for which keeps[group] (NULL:
 * every one). input_amax[linear] comes from calibration. With shared_scales the
 * members of a group share the largest amax. Decoded copies are kept if together
 * they take at most resident_bytes. */
bool quantise_model(struct quantised_model *q, const struct model *model,
                    const struct group_list *groups, const bool *keeps,
                    enum numerics numerics, bool shared_scales, const float *input_amax,
                    size_t resident_bytes, error *err);

void quantised_free(struct quantised_model *q);

#endif
