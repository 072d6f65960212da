/* Symmetric integers of few bits with one scale: what the INT8 and INT4 formats are
 * made of. Private to this folder. */
#ifndef QUERN_QUANT_FORMATS_SCALED_INTEGER_H
#define QUERN_QUANT_FORMATS_SCALED_INTEGER_H

#include <stddef.h>

#include "lib/quant/formats/format.h"

/* Values of `bits` bits run from -2^(bits-1) to `most` = 2^(bits-1) - 1; amax comes
 * to lie on `most`.
 *
 * modelopt: s = most/amax (0 for amax <= 2^-24: everything becomes 0), code =
 * round(x*s), value = code/s (modelopt/torch/quantization/tensor_quant.py).
 * quern: scale = amax/most rounded up to BF16, code = round(x/scale), value =
 * code*scale. encode and decode are s and s under modelopt, scale and scale under
 * quern. */
struct input_step integer_step(enum numerics n, float amax, int bits);

/* y[count] from x[count]; y may be x. */
void integer_round(enum numerics n, struct input_step step, int bits, const float *x,
                   size_t count, float *y);

/* The scale that a checkpoint carries: under quern that of integer_step, under modelopt
 * amax/most in float32 (1 for an amax of 0), by which its export divides. */
float integer_shipped_scale(enum numerics n, float amax, int bits);

#endif
