/* The weights of a model in a number format, made once a run and shared by all
 * threads. */
#ifndef QUERN_QUANT_QUANTISED_H
#define QUERN_QUANT_QUANTISED_H

#include <stddef.h>

#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/model/qwen.h"
#include "lib/quant/formats/format.h"
#include "lib/quant/fold_file.h"
#include "lib/quant/groups.h"

struct quantised_linear {
	const struct format *format; /* NULL: this linear stays as it is */
	struct input_step input;
	float weight_amax;   /* what the format is told of the weight */
	const float *scales; /* [in] of its columns when it is rounded; NULL: none */
	const float *values; /* what comes back of it; NULL: rounded at use */
};

struct quantised_model {
	const struct model *model;
	enum numerics numerics;
	struct quantised_linear *linears; /* [model->linear_count] */
	size_t largest; /* elements of the largest quantised weight */
	const float *cache_scales; /* [part] of a key/value cache in FP8; NULL: it stays */
	arena memory;
};

/* Quantises the weights of every group in `groups` for which keeps[group] (NULL:
 * every one); the format must take their shapes. input_amax[linear] comes from
 * calibration, folds (NULL: none; to outlive q) from a search for channel scales. With
 * shared_scales the members of a group share the largest amax. What comes back of the weights is kept if together it takes at most
 * resident_bytes. */
bool quantise_model(struct quantised_model *q, const struct model *model,
                    const struct group_list *groups, const bool *keeps,
                    const struct format *format, enum numerics numerics,
                    bool shared_scales, const float *input_amax,
                    const struct folds *folds, size_t resident_bytes, error *err);

/* values[out][in] = what comes back of a quantised linear's weight. */
void round_linear(const struct quantised_model *q, int linear, float *values);

void quantised_free(struct quantised_model *q);

#endif
