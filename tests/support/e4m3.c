/* See e4m3.h. */
#include "tests/support/e4m3.h"

#include <float.h>
#include <math.h>
#include <string.h>

double e4m3_value(uint8_t code)
{
	int exponent = code >> 3 & 15, fraction = code & 7;
	double sign = code & 0x80 ? -1 : 1;
	if ((code & 0x7F) == E4M3_NAN)
		return NAN;
	/* 1.fff times 2^(e - 7), below the first exponent 0.fff times 2^(1 - 7) */
	return sign * (exponent ? (8 + fraction) * (double)(1 << exponent) / 8 / 128
	                        : fraction / 8.0 / 64);
}

/* The border between code and code + 1 times scale: 5 bits times 24, exact. */
static double border_above(int code, double scale)
{
	return (e4m3_value((uint8_t)code) + e4m3_value((uint8_t)(code + 1))) / 2 * scale;
}

uint8_t e4m3_nearest(double x, double scale)
{
	double magnitude = fabs(x);
	uint8_t sign = signbit(x) ? 0x80 : 0;
	int low = 0, high = E4M3_LARGEST; /* the code is in [low, high] */
	if (isnan(x))
		return sign | E4M3_NAN;
	while (low < high) {
		int middle = (low + high) / 2;
		double border = border_above(middle, scale);
		if (magnitude > border || (magnitude == border && middle % 2))
			low = middle + 1;
		else
			high = middle;
	}
	return sign | (uint8_t)low;
}

float bf16_reference(double x)
{
	int exponent;
	if (x == 0 || !isfinite(x))
		return (float)x;
	frexp(x, &exponent);
	int spacing = exponent < -125 ? -133 : exponent - 8; /* as a power of two */
	double rounded = ldexp(nearbyint(ldexp(x, -spacing)), spacing);
	return fabs(rounded) > (double)FLT_MAX ? copysignf(INFINITY, (float)x)
	                                       : (float)rounded;
}

float bf16_pattern(uint32_t pattern)
{
	uint32_t bits = pattern << 16;
	float x;
	memcpy(&x, &bits, sizeof x);
	return x;
}
