/* How an amax becomes a scale: the one place for that rule.
 *
 * NUMERICS_QUERN (default): scale = amax/448 rounded UP to a BF16 value, so that
 * readers that keep scales in F32 and readers that keep them in BF16 agree to the
 * bit and nothing saturates. One rounding from weight to code.
 * NUMERICS_MODELOPT: what nvidia-modelopt 0.47 does, for parity: scoring
 * multiplies by s = (1/amax)*448 and back by 1/s (its CPU path; the CUDA extension
 * takes 448/amax, one ulp away for some amax, which flips every weight that lies
 * on a tie); export divides by the float32 scale
 * amax/448 and rounds to BF16 before it rounds to E4M3; input amax are rounded to
 * BF16 before export (the model is cast first). */
#ifndef QUERN_QUANT_NUMERICS_H
#define QUERN_QUANT_NUMERICS_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/error.h"

enum numerics { NUMERICS_QUERN, NUMERICS_MODELOPT };

const char *numerics_name(enum numerics n); /* "quern", "modelopt" */
bool numerics_from_name(const char *name, enum numerics *out);

/* Quantise with code = e4m3(x * encode), come back with value(code) * decode. */
struct fp8_step {
	float encode, decode;
};

/* The step that scoring and serving use for a tensor of this amax (finite, >= 0). */
struct fp8_step fp8_step_for(enum numerics n, float amax);

/* codes[count] of weights as scoring sees them, for a step of fp8_step_for. Under
 * NUMERICS_QUERN these are the codes that are shipped. */
void fp8_encode_scored(enum numerics n, const float *w, size_t count,
                       struct fp8_step step, uint8_t *codes);

/* The scale that a checkpoint carries for a tensor of this amax. An amax of 0
 * gives 1 (all codes are zero then); an amax so small that the scale would be
 * subnormal gives 2^-126. */
float fp8_shipped_weight_scale(enum numerics n, float amax);
float fp8_shipped_input_scale(enum numerics n, float amax);

/* The same for keys or values of a layer's cache: activations, as inputs are. */
float fp8_shipped_cache_scale(enum numerics n, float amax);

/* The rule of NUMERICS_QUERN for any format: amax/most, rounded up to BF16; 1 for an
 * amax of 0, at least 2^-126. */
float scale_above(float amax, float most);

/* codes[n] of weights w[n] that will be shipped with `scale`. */
void fp8_encode_weights(enum numerics n, const float *w, size_t count, float scale,
                        uint8_t *codes);

/* Fails on NaN, Inf or a negative amax, naming `what`. */
bool check_amax(float amax, const char *what, error *err);

/* The nearest BF16 value, ties to even; and the next one that is not below x. */
float bf16_nearest(float x);
float bf16_up(float x);

#endif
