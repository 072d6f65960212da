/* What the packed tensors of several formats have in common: scales of stretches of
 * rows, BF16 in the universal profile and F32 in ModelOpt's. Private to this folder. */
#ifndef QUERN_QUANT_FORMATS_PACKING_H
#define QUERN_QUANT_FORMATS_PACKING_H

#include "lib/quant/formats/format.h"

typedef float scale_rule(enum numerics n, float amax);

/* A tensor of scales: [out][columns], or of one column [out] in ModelOpt's profile. */
struct packed_tensor scale_tensor(enum profile p, int out, int columns);

/* The scales of `count` stretches of `width` values, in t's dtype. A scale that BF16
 * does not hold is cut off: whoever packs for the universal profile does so under
 * NUMERICS_QUERN, which has no such scales. */
void fill_scales(const struct packed_tensor *t, enum numerics n, const float *w,
                 size_t count, int width, scale_rule *rule, void *bytes);

/* One of them, read back. */
float packed_scale(enum profile p, const void *data, size_t index);

/* Whether weights can come back by it: a finite number above 0. */
bool is_scale(float scale);

/* The names and dtypes of a static per-tensor scale, by profile. */
#define TENSOR_SCALE(name) \
	{ [PROFILE_UNIVERSAL] = { (name), DTYPE_BF16, 1, false }, \
	  [PROFILE_MODELOPT] = { (name), DTYPE_F32, 0, false } }

#endif
