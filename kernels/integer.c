/* Clamping first lets rounding be an addition: for |v| < 2^22 the sum with
 * 1.5 * 2^23 has no bit left for a fraction. The bounds are whole numbers, so
 * clamping before or after rounding gives the same. */
#include "kernels/integer.h"

#include "kernels/portable.h"

static inline float round_within(float v, float low, float high)
{
	const float round_to_integer = 12582912.0f; /* 1.5 * 2^23 */
	v = v > low ? v : low;
	v = v < high ? v : high;
	return (v + round_to_integer) - round_to_integer;
}

VECTOR_CLONES
void integer_encode(const float *x, size_t n, float scale, int low, int high,
                    int8_t *codes)
{
	float least = (float)low, most = (float)high;
	for (size_t i = 0; i < n; i++)
		codes[i] = (int8_t)round_within(x[i] / scale, least, most);
}

VECTOR_CLONES
void integer_decode(const int8_t *codes, size_t n, float scale, float *y)
{
	for (size_t i = 0; i < n; i++)
		y[i] = (float)codes[i] * scale;
}

size_t integer_find_far(const int8_t *codes, const float *w, size_t n, float scale,
                        float steps)
{
	for (size_t i = 0; i < n; i++) {
		double off = (double)w[i] / (double)scale - (double)codes[i];
		if (!((off < 0 ? -off : off) <= (double)steps * (1 + 1e-6)))
			return i;
	}
	return n;
}

VECTOR_CLONES
void integer_round_trip_divided(const float *x, size_t n, float multiplier, int low,
                                int high, float divisor, float *y)
{
	float least = (float)low, most = (float)high;
	for (size_t i = 0; i < n; i++)
		y[i] = round_within(x[i] * multiplier, least, most) / divisor;
}

VECTOR_CLONES
void integer_round_trip(const float *x, size_t n, float scale, int low, int high,
                        float *y)
{
	float least = (float)low, most = (float)high;
	for (size_t i = 0; i < n; i++)
		y[i] = round_within(x[i] / scale, least, most) * scale;
}
