/* Scales and codes under both numerics; see numerics.h. */
#include "lib/quant/numerics.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels/fp8.h"

/* ModelOpt treats amax up to this as 1 when it fake-quantises
 * (modelopt/torch/quantization/tensor_quant.py). */
static const float MODELOPT_TINY_AMAX = 0x1p-24f;

const char *numerics_name(enum numerics n)
{
	return n == NUMERICS_MODELOPT ? "modelopt" : "quern";
}

bool numerics_from_name(const char *name, enum numerics *out)
{
	for (int n = NUMERICS_QUERN; n <= NUMERICS_MODELOPT; n++) {
		if (strcmp(name, numerics_name(n)) == 0) {
			*out = n;
			return true;
		}
	}
	return false;
}

static uint32_t bits_of(float x)
{
	uint32_t u;
	memcpy(&u, &x, sizeof u);
	return u;
}

static float float_of(uint32_t u)
{
	float x;
	memcpy(&x, &u, sizeof x);
	return x;
}

float bf16_nearest(float x)
{
	if (isnan(x))
		return x;
	uint32_t u = bits_of(x);
	return float_of((u + 0x7FFF + ((u >> 16) & 1)) & 0xFFFF0000u);
}

float bf16_up(float x)
{
	uint32_t u = bits_of(x);
	bool exact = (u & 0xFFFF) == 0;
	bool negative = u >> 31;
	u &= 0xFFFF0000u;
	return float_of(exact || negative ? u : u + 0x10000u);
}

/* The quotient is taken in float32, so it may lie below amax/most by half a unit;
 * rounding up to BF16 covers that unless it was BF16-exact by accident, hence the
 * check by multiplication. */
float scale_above(float amax, float most)
{
	if (amax == 0)
		return 1.0f;
	float scale = bf16_up(amax / most);
	if ((double)scale * (double)most < amax)
		scale = bf16_up(nextafterf(scale, FLT_MAX));
	return scale < FLT_MIN ? FLT_MIN : scale;
}

static float quern_scale(float amax)
{
	return scale_above(amax, FP8_MAX);
}

struct fp8_step fp8_step_for(enum numerics n, float amax)
{
	if (n == NUMERICS_MODELOPT) {
		/* `448.0 / amax` on a torch tensor is its reciprocal times 448. */
		float s = 1.0f / (amax <= MODELOPT_TINY_AMAX ? 1.0f : amax) * FP8_MAX;
		return (struct fp8_step){ .encode = s, .decode = 1.0f / s };
	}
	float scale = quern_scale(amax);
	return (struct fp8_step){ .encode = 1.0f / scale, .decode = scale };
}

void fp8_encode_scored(enum numerics n, const float *w, size_t count,
                       struct fp8_step step, uint8_t *codes)
{
	if (n == NUMERICS_MODELOPT)
		fp8_encode(w, count, step.encode, codes);
	else
		fp8_encode_divided(w, count, step.decode, codes);
}

static float modelopt_scale(float amax)
{
	return amax == 0 ? 1.0f : fmaxf(amax / FP8_MAX, FLT_MIN);
}

float fp8_shipped_weight_scale(enum numerics n, float amax)
{
	return n == NUMERICS_MODELOPT ? modelopt_scale(amax) : quern_scale(amax);
}

float fp8_shipped_input_scale(enum numerics n, float amax)
{
	return n == NUMERICS_MODELOPT ? modelopt_scale(bf16_nearest(amax))
	                              : quern_scale(amax);
}

float fp8_shipped_cache_scale(enum numerics n, float amax)
{
	return fp8_shipped_input_scale(n, amax);
}

void fp8_encode_weights(enum numerics n, const float *w, size_t count, float scale,
                        uint8_t *codes)
{
	if (n == NUMERICS_MODELOPT)
		fp8_encode_through_bf16(w, count, scale, codes);
	else
		fp8_encode_divided(w, count, scale, codes);
}

bool check_amax(float amax, const char *what, error *err)
{
	if (isfinite(amax) && amax >= 0)
		return true;
	return fail(err, EXIT_BAD_INPUT, "%s: amax: expected a finite number >= 0, found %g",
	            what, (double)amax);
}
