/* FP4 by comparisons: seven midpoints part eight magnitudes; see fp4.h. */
#include "kernels/fp4.h"

#include "kernels/portable.h"

#include "kernels/bits.h"

/* A midpoint goes to the neighbour whose last bit is 0, so it counts as below
 * (>) where the lower one is even and as above (>=) where it is odd. */
static inline uint32_t magnitude_code(float m)
{
	return (uint32_t)(m > 0.25f) + (uint32_t)(m >= 0.75f) + (uint32_t)(m > 1.25f) +
	       (uint32_t)(m >= 1.75f) + (uint32_t)(m > 2.5f) + (uint32_t)(m >= 3.5f) +
	       (uint32_t)!(m <= 5.0f);
}

/* Codes 0 to 4 are halves, 5 to 7 are 3, 4 and 6. */
static inline float magnitude_value(uint32_t code)
{
	float half = (float)(int32_t)code * 0.5f;
	float large = (float)(int32_t)code - 2.0f + (code == 7 ? 1.0f : 0.0f);
	return code < 5 ? half : large;
}

static inline float round_to_fp4(float x)
{
	uint32_t sign = bits_of_float(x) & 0x80000000u;
	float m = float_of_bits(bits_of_float(x) & 0x7FFFFFFFu);
	return float_of_bits(bits_of_float(magnitude_value(magnitude_code(m))) | sign);
}

uint8_t fp4_from_float(float x)
{
	uint32_t u = bits_of_float(x);
	float m = float_of_bits(u & 0x7FFFFFFFu);
	uint32_t code = m == m ? magnitude_code(m) : 7;
	return (uint8_t)(u >> 28 & 8) | (uint8_t)code;
}

float fp4_to_float(uint8_t code)
{
	float m = magnitude_value(code & 7);
	return code & 8 ? -m : m;
}

VECTOR_CLONES
void fp4_round_trip(const float *x, size_t n, float scale, float *y)
{
	for (size_t i = 0; i < n; i++)
		y[i] = round_to_fp4(x[i] / scale) * scale;
}

VECTOR_CLONES
void fp4_encode(const float *x, size_t n, float scale, uint8_t *codes)
{
	for (size_t i = 0; i < n; i++) {
		float m = float_of_bits(bits_of_float(x[i] / scale) & 0x7FFFFFFFu);
		uint32_t sign = x[i] < 0 ? 8u : 0u;
		codes[i] = (uint8_t)(sign | magnitude_code(m));
	}
}

VECTOR_CLONES
void fp4_decode(const uint8_t *codes, size_t n, float scale, float *y)
{
	for (size_t i = 0; i < n; i++) {
		float m = magnitude_value(codes[i] & 7u) * scale;
		y[i] = codes[i] & 8u ? -m : m;
	}
}

/* The spacing on the side of `m` (a magnitude that E2M1 holds) where `exact` lies:
 * 0.5 up to 2, 1 up to 4, then 2. */
static inline double spacing_towards(float m, double exact)
{
	if (exact < (double)m)
		return m <= 2 ? 0.5 : m <= 4 ? 1 : 2;
	return m < 2 ? 0.5 : m < 4 ? 1 : 2;
}

size_t fp4_find_far(const uint8_t *codes, const float *w, size_t n, float scale,
                    float steps)
{
	for (size_t i = 0; i < n; i++) {
		double exact = (double)w[i] / (double)scale;
		float m = magnitude_value(codes[i] & 7u);
		double off = (codes[i] & 8u ? -exact : exact) - (double)m;
		double most = (double)steps * spacing_towards(m, off + (double)m);
		if (!((off < 0 ? -off : off) <= most * (1 + 1e-6)))
			return i;
	}
	return n;
}
