/* Scales of symmetric integers; see scaled_integer.h. */
#include "lib/quant/formats/scaled_integer.h"

#include <float.h>
#include <math.h>

#include "kernels/integer.h"

static const float MODELOPT_TINY_AMAX = 0x1p-24f;

struct input_step integer_step(enum numerics n, float amax, int bits)
{
	float most = (float)((1 << (bits - 1)) - 1);
	if (n != NUMERICS_MODELOPT) {
		float scale = scale_above(amax, most);
		return (struct input_step){ scale, scale };
	}
	if (amax <= MODELOPT_TINY_AMAX)
		return (struct input_step){ 0.0f, 1.0f };
	return (struct input_step){ most / amax, most / amax };
}

float integer_shipped_scale(enum numerics n, float amax, int bits)
{
	float most = (float)((1 << (bits - 1)) - 1);
	if (n != NUMERICS_MODELOPT)
		return scale_above(amax, most);
	return amax == 0 ? 1.0f : fmaxf(amax / most, FLT_MIN);
}

void integer_round(enum numerics n, struct input_step step, int bits, const float *x,
                   size_t count, float *y)
{
	int most = (1 << (bits - 1)) - 1;
	if (n == NUMERICS_MODELOPT)
		integer_round_trip_divided(x, count, step.encode, -most - 1, most, step.decode,
		                           y);
	else
		integer_round_trip(x, count, step.decode, -most - 1, most, y);
}
