/* The exponential that softmax, SiLU and GELU share: without branches, so that
 * loops over it vectorise, and without libm, whose last bit moves from release
 * to release. At most 1 ulp off (tests/kernels/test_exp.c); subnormal results,
 * overflow to infinity and NaN as IEEE would have them. */
#ifndef QUERN_KERNELS_EXP_H
#define QUERN_KERNELS_EXP_H

#include "kernels/bits.h"

/* 2^n for n in [-126, 127] */
static inline float power_of_two(int32_t n)
{
	return float_of_bits((uint32_t)(n + 127) << 23);
}

/* exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln(2)/2. The polynomial is a
 * minimax fit of (exp(r) - 1 - r) / r^2, relative error of exp(r) 3e-9. */
static inline float exp_portable(float x)
{
	const float round_to_integer = 12582912.0f; /* 1.5 * 2^23 */
	float clamped = x < -104.0f ? -104.0f : x;
	clamped = clamped > 89.0f ? 89.0f : clamped;
	float shifted = clamped * 1.44269504f + round_to_integer;
	float n = shifted - round_to_integer;
	/* ln 2 in two parts; the first has 9 bits, so n times it is exact. */
	float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
	float q = 1.381454e-3f;
	q = q * r + 8.3687452e-3f;
	q = q * r + 4.16683908e-2f;
	q = q * r + 1.66665204e-1f;
	q = q * r + 4.99999934e-1f;
	float e = 1.0f + (r + r * r * q);
	/* In two steps, because 2^n itself may be subnormal or too large. The
	 * integer sits in the low bits of `shifted`; NaN stays in `e`. */
	int32_t whole = (int32_t)(bits_of_float(shifted) - bits_of_float(round_to_integer));
	int32_t half = whole >> 1;
	return e * power_of_two(half) * power_of_two(whole - half);
}

#endif
