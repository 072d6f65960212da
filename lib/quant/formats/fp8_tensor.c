/* FP8 E4M3, one scale a weight and one static scale for its input: what every
 * server loads. Scales: numerics.h. */
#include "kernels/fp8.h"
#include "lib/quant/formats/known.h"

/* Codes at a time: what of a weight is rounded by way of a small buffer. */
enum { STRETCH = 4096 };

static void round_weight(enum numerics n, const float *w, int out, int in, float amax,
                         float *values)
{
	struct fp8_step step = fp8_step_for(n, amax);
	size_t count = (size_t)out * (size_t)in;
	uint8_t codes[STRETCH];
	for (size_t at = 0; at < count; at += STRETCH) {
		size_t some = count - at < STRETCH ? count - at : STRETCH;
		fp8_encode_scored(n, w + at, some, step, codes);
		fp8_decode(codes, some, step.decode, values + at);
	}
}

static struct input_step input_step(enum numerics n, float amax)
{
	struct fp8_step step = fp8_step_for(n, amax);
	return (struct input_step){ step.encode, step.decode };
}

static void round_input(enum numerics n, struct input_step step, const float *x, int rows,
                        int in, float *y)
{
	(void)n;
	fp8_round_trip(x, (size_t)rows * (size_t)in, step.encode, step.decode, y);
}

const struct format FORMAT_FP8_TENSOR = {
	.element = "fp8_e4m3", .granularity = "tensor", .bits = 8, .group = 1,
	.exportable = true, .on_gpu = true, .round_weight = round_weight, .input_step = input_step,
	.round_input = round_input,
};
