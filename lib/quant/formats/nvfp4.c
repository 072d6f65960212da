/* NVFP4: E2M1 elements, one E4M3 scale for 16 columns, one float32 scale above those,
 * for weights and inputs alike. The block scales of inputs are found as they come;
 * the upper one is calibrated.
 *
 *   upper = amax / (6 * 448);  block = e4m3(block amax / (6 * upper))
 *   value = e2m1(x / (block * upper)) * (block * upper)
 *
 * with 1 in place of a product below 1e-5, both numerics alike (ModelOpt's Triton
 * kernel fp4_fake_quant_block). The block scales make it 4.5 bits a weight. */
#include "kernels/amax.h"
#include "kernels/fp4.h"
#include "kernels/fp8.h"
#include "lib/quant/formats/known.h"

enum { BLOCK = 16 };

static const float TINY_SCALE = 1e-5f;

static void round_blocks(float upper, const float *x, size_t count, float *y)
{
	float safe = upper > 0 ? upper : 1e-12f;
	for (size_t at = 0; at < count; at += BLOCK) {
		float block = amax(x + at, BLOCK) / (FP4_MAX * safe);
		float scale = fp8_to_float(fp8_from_float(block)) * upper;
		fp4_round_trip(x + at, BLOCK, scale >= TINY_SCALE ? scale : 1.0f, y + at);
	}
}

static struct input_step input_step(enum numerics n, float largest)
{
	float upper = largest / (FP4_MAX * FP8_MAX);
	(void)n;
	return (struct input_step){ upper, upper };
}

static void round_weight(enum numerics n, const float *w, int out, int in, float largest,
                         float *values)
{
	round_blocks(input_step(n, largest).decode, w, (size_t)out * (size_t)in, values);
}

static void round_input(enum numerics n, struct input_step step, const float *x, int rows,
                        int in, float *y)
{
	(void)n;
	round_blocks(step.decode, x, (size_t)rows * (size_t)in, y);
}

const struct format FORMAT_NVFP4 = {
	.element = "nvfp4", .granularity = "block16", .bits = 4.5, .group = BLOCK,
	.round_weight = round_weight, .input_step = input_step, .round_input = round_input,
};
