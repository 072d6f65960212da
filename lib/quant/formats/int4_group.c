/* INT4 weights, symmetric, one scale for 128 columns of a row; inputs stay as they
 * are. The cost is ModelOpt's: 4 bits, the scales not counted. */
#include "kernels/amax.h"
#include "lib/quant/formats/known.h"
#include "lib/quant/formats/scaled_integer.h"

enum { BITS = 4, GROUP = 128 };

static void round_weight(enum numerics n, const float *w, int out, int in, float whole,
                         float *values)
{
	size_t count = (size_t)out * (size_t)in;
	(void)whole;
	for (size_t at = 0; at < count; at += GROUP)
		integer_round(n, integer_step(n, amax(w + at, GROUP), BITS), BITS, w + at, GROUP,
		              values + at);
}

const struct format FORMAT_INT4_GROUP = {
	.element = "int4", .granularity = "group128_weight_only", .bits = 4, .group = GROUP,
	.round_weight = round_weight,
};
