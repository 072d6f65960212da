/* NVFP4: E2M1 elements, one E4M3 scale for 16 columns, one float32 scale above those,
 * for weights and inputs alike. The block scales of inputs are found as they come;
 * the upper one is calibrated.
 *
 *   upper = amax / (6 * 448);  block = e4m3(block amax / (6 * upper))
 *   value = e2m1(x / (block * upper)) * (block * upper)
 *
 * The block scales make it 4.5 bits a weight.
 *
 * modelopt, scored: 1 in place of a product below 1e-5 (its Triton kernel
 * fp4_fake_quant_block). Shipped: block scales of at least 2^-9, and 1 for a block of
 * zeros (modelopt/torch/quantization/qtensor/nvfp4_tensor.py).
 * quern: as shipped there, with upper rounded up to a power of two. Both it and its
 * reciprocal are exact then, so that readers that multiply by the upper scale
 * (ModelOpt's files) and readers that divide by its reciprocal (compressed-tensors')
 * get the same numbers; of a floating-point block scale that costs no bit. And a block
 * scale is never so small that the block is cut off by more than half a step. */
#include <math.h>

#include "kernels/amax.h"
#include "kernels/fp4.h"
#include "kernels/fp8.h"
#include "kernels/nibbles.h"
#include "lib/quant/formats/known.h"
#include "lib/quant/formats/packing.h"

enum { BLOCK = 16 };

static const float TINY_SCALE = 1e-5f, LEAST_BLOCK = 0x1p-9f, LEAST_UPPER = 0x1p-100f;

static float upper_scale(enum numerics n, float largest)
{
	float upper = largest / (FP4_MAX * FP8_MAX);
	if (largest == 0)
		return 1.0f;
	if (n == NUMERICS_MODELOPT)
		return upper;
	int exponent;
	float fraction = frexpf(fmaxf(upper, LEAST_UPPER), &exponent);
	return ldexpf(1.0f, fraction == 0.5f ? exponent - 1 : exponent);
}

/* The code of a block's scale. Small ones are few in E4M3, and the nearest may be so
 * much too small that the block's largest value lies beyond 7, more than half a step
 * above 6: quern takes the next one then. */
static uint8_t block_code(enum numerics n, const float *x, float upper)
{
	float block = amax(x, BLOCK) / (FP4_MAX * upper);
	uint8_t code = fp8_from_float(block == 0 ? 1.0f : fmaxf(block, LEAST_BLOCK));
	bool beyond = block * FP4_MAX > 7 * fp8_to_float(code);
	return n != NUMERICS_MODELOPT && beyond && block < FP8_MAX ? code + 1 : code;
}

static void round_blocks(enum numerics n, float upper, const float *x, size_t count,
                         float *y)
{
	for (size_t at = 0; at < count; at += BLOCK) {
		float scale;
		if (n == NUMERICS_MODELOPT) {
			float safe = upper > 0 ? upper : 1e-12f;
			float block = amax(x + at, BLOCK) / (FP4_MAX * safe);
			scale = fp8_to_float(fp8_from_float(block)) * upper;
			scale = scale >= TINY_SCALE ? scale : 1.0f;
		} else {
			scale = fp8_to_float(block_code(n, x + at, upper)) * upper;
		}
		fp4_round_trip(x + at, BLOCK, scale, y + at);
	}
}

static struct input_step input_step(enum numerics n, float largest)
{
	float upper = n == NUMERICS_MODELOPT ? largest / (FP4_MAX * FP8_MAX)
	                                     : upper_scale(n, largest);
	return (struct input_step){ upper, upper };
}

static void round_weight(enum numerics n, const float *w, int out, int in, float largest,
                         float *values)
{
	round_blocks(n, input_step(n, largest).decode, w, (size_t)out * (size_t)in, values);
}

static void round_input(enum numerics n, struct input_step step, const float *x, int rows,
                        int in, float *y)
{
	round_blocks(n, step.decode, x, (size_t)rows * (size_t)in, y);
}

/* ---- checkpoints ---- */

static float shipped_input_scale(enum numerics n, float largest)
{
	return upper_scale(n, n == NUMERICS_MODELOPT ? bf16_nearest(largest) : largest);
}

/* The first of two neighbours is the lower half of their byte. */
static void fill_codes(const struct packed_tensor *t, enum numerics n, const float *w,
                       int rows, int in, float whole, void *bytes)
{
	(void)t;
	for (size_t at = 0; at < (size_t)rows * (size_t)in; at += BLOCK) {
		uint8_t codes[BLOCK];
		float scale = fp8_to_float(block_code(n, w + at, whole)) * whole;
		fp4_encode(w + at, BLOCK, scale, codes);
		nibbles_join(codes, codes + 1, BLOCK / 2, 2, (uint8_t *)bytes + at / 2);
	}
}

static void fill_block_scales(const struct packed_tensor *t, enum numerics n,
                              const float *w, int rows, int in, float whole, void *bytes)
{
	(void)t;
	for (size_t i = 0; i < (size_t)rows * (size_t)in / BLOCK; i++)
		((uint8_t *)bytes)[i] = block_code(n, w + i * BLOCK, whole);
}

static int tensors(enum profile p, int out, int in, struct packed_tensor *list)
{
	list[0] = (struct packed_tensor){
		p == PROFILE_MODELOPT ? "weight" : "weight_packed", DTYPE_U8, 2, { out, in / 2 },
		fill_codes
	};
	list[1] = (struct packed_tensor){
		"weight_scale", DTYPE_F8_E4M3, 2, { out, in / BLOCK }, fill_block_scales
	};
	return 2;
}

/* The codes and the scale of a block, counted over the whole weight. */
static float read_block(const struct packed_weight *p, size_t block, uint8_t *codes)
{
	nibbles_split((const uint8_t *)p->data[0] + block * BLOCK / 2, BLOCK / 2, 2, codes,
	              codes + 1);
	return fp8_to_float(((const uint8_t *)p->data[1])[block]) * p->whole;
}

static void unpack(const struct packed_weight *p, int first, int rows, float *values)
{
	size_t blocks = (size_t)p->in / BLOCK;
	for (size_t b = 0; b < (size_t)rows * blocks; b++) {
		uint8_t codes[BLOCK];
		float scale = read_block(p, (size_t)first * blocks + b, codes);
		fp4_decode(codes, BLOCK, scale, values + b * BLOCK);
	}
}

static size_t find_far(const struct packed_weight *p, int first, int rows, const float *w,
                       float steps)
{
	size_t blocks = (size_t)p->in / BLOCK;
	for (size_t b = 0; b < (size_t)rows * blocks; b++) {
		uint8_t codes[BLOCK];
		float scale = read_block(p, (size_t)first * blocks + b, codes);
		size_t far = !is_scale(scale) ? 0
		                              : fp4_find_far(codes, w + b * BLOCK, BLOCK, scale,
		                                             steps);
		if (far < BLOCK)
			return b * BLOCK + far;
	}
	return (size_t)rows * (size_t)p->in;
}

static struct input_step served_step(float scale)
{
	return (struct input_step){ scale, scale };
}

const struct format FORMAT_NVFP4 = {
	.element = "nvfp4", .granularity = "block16", .bits = 4.5, .group = BLOCK,
	.round_weight = round_weight, .input_step = input_step, .round_input = round_input,
	.form = { .format = "nvfp4-pack-quantized", .algorithm = "NVFP4", .own_groups = true,
	          .weights = { 4, "float", "tensor_group", SCALE_STATIC, BLOCK,
	                       "torch.float8_e4m3fn" },
	          .inputs = { 4, "float", "tensor_group", SCALE_LOCAL, BLOCK,
	                      "torch.float8_e4m3fn" } },
	.tensors = tensors, .unpack = unpack, .find_far = find_far,
	.weight_scalar = {
		[PROFILE_UNIVERSAL] = { "weight_global_scale", DTYPE_F32, 1, true },
		[PROFILE_MODELOPT] = { "weight_scale_2", DTYPE_F32, 0, false } },
	.input_scalar = {
		[PROFILE_UNIVERSAL] = { "input_global_scale", DTYPE_F32, 1, true },
		[PROFILE_MODELOPT] = { "input_scale", DTYPE_F32, 0, false } },
	.weight_scale = upper_scale, .input_scale = shipped_input_scale,
	.served_step = served_step,
};
