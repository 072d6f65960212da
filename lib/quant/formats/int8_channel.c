/* INT8, one scale a row of the weight, one static scale for its input. */
#include "kernels/amax.h"
#include "lib/quant/formats/known.h"
#include "lib/quant/formats/scaled_integer.h"

enum { BITS = 8 };

static void round_weight(enum numerics n, const float *w, int out, int in, float whole,
                         float *values)
{
	size_t width = (size_t)in;
	(void)whole;
	for (size_t at = 0; at < (size_t)out * width; at += width)
		integer_round(n, integer_step(n, amax(w + at, width), BITS), BITS, w + at, width,
		              values + at);
}

static struct input_step input_step(enum numerics n, float largest)
{
	return integer_step(n, largest, BITS);
}

static void round_input(enum numerics n, struct input_step step, const float *x, int rows,
                        int in, float *y)
{
	integer_round(n, step, BITS, x, (size_t)rows * (size_t)in, y);
}

const struct format FORMAT_INT8_CHANNEL = {
	.element = "int8", .granularity = "channel", .bits = 8, .group = 1,
	.round_weight = round_weight, .input_step = input_step, .round_input = round_input,
};
