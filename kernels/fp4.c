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
