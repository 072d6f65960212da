/* FP8 E4M3, one scale a row of the weight, one a token of the input, the latter
 * found as the token comes: nothing of the input is calibrated.
 *
 * Under numerics quern a weight's scale is rounded up to BF16 as in numerics.h, and a
 * token's is amax/448 in float32, as servers compute it. */
#include <math.h>

#include "kernels/amax.h"
#include "kernels/fp8.h"
#include "lib/quant/formats/known.h"

static void round_weight(enum numerics n, const float *w, int out, int in, float whole,
                         float *values)
{
	size_t width = (size_t)in;
	(void)whole;
	for (size_t at = 0; at < (size_t)out * width; at += width)
		FORMAT_FP8_TENSOR.round_weight(n, w + at, 1, in, amax(w + at, width),
		                               values + at);
}

static struct input_step input_step(enum numerics n, float largest)
{
	(void)n, (void)largest;
	return (struct input_step){ 0 };
}

static struct fp8_step token_step(enum numerics n, float largest)
{
	if (n == NUMERICS_MODELOPT)
		return fp8_step_for(n, largest);
	float scale = largest > 0 ? fmaxf(largest / FP8_MAX, 0x1p-126f) : 1.0f;
	return (struct fp8_step){ 1.0f / scale, scale };
}

static void round_input(enum numerics n, struct input_step unused, const float *x,
                        int rows, int in, float *y)
{
	size_t width = (size_t)in;
	(void)unused;
	for (size_t at = 0; at < (size_t)rows * width; at += width) {
		struct fp8_step step = token_step(n, amax(x + at, width));
		fp8_round_trip(x + at, width, step.encode, step.decode, y + at);
	}
}

const struct format FORMAT_FP8_CHANNEL = {
	.element = "fp8_e4m3", .granularity = "channel_token", .bits = 8, .group = 1,
	.round_weight = round_weight, .input_step = input_step, .round_input = round_input,
};
