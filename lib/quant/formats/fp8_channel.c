/* FP8 E4M3, one scale a row of the weight, one a token of the input, the latter
 * found as the token comes: nothing of the input is calibrated.
 *
 * Under numerics quern a weight's scale is rounded up to BF16 as in numerics.h, and a
 * token's is amax/448 in float32, as servers compute it. */
#include <math.h>

#include "kernels/amax.h"
#include "kernels/fp8.h"
#include "lib/quant/formats/known.h"
#include "lib/quant/formats/packing.h"

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

/* ---- checkpoints ---- */

/* ModelOpt's export divides by the float32 scale and rounds once here, unlike its
 * export of one scale a tensor (modelopt/torch/export/quant_utils.py). */
static void fill_codes(const struct packed_tensor *t, enum numerics n, const float *w,
                       int rows, int in, float whole, void *bytes)
{
	size_t width = (size_t)in;
	(void)t, (void)whole;
	for (size_t at = 0; at < (size_t)rows * width; at += width)
		fp8_encode_divided(w + at, width, fp8_shipped_weight_scale(n, amax(w + at, width)),
		                   (uint8_t *)bytes + at);
}

static void fill_row_scales(const struct packed_tensor *t, enum numerics n, const float *w,
                            int rows, int in, float whole, void *bytes)
{
	(void)whole;
	fill_scales(t, n, w, (size_t)rows, in, fp8_shipped_weight_scale, bytes);
}

static int tensors(enum profile p, int out, int in, struct packed_tensor *list)
{
	list[0] = (struct packed_tensor){ "weight", DTYPE_F8_E4M3, 2, { out, in }, fill_codes };
	list[1] = scale_tensor(p, out, 1);
	list[1].fill = fill_row_scales;
	return 2;
}

static void unpack(const struct packed_weight *p, int first, int rows, float *values)
{
	size_t width = (size_t)p->in, start = (size_t)first;
	for (size_t row = 0; row < (size_t)rows; row++)
		fp8_decode((const uint8_t *)p->data[0] + (start + row) * width, width,
		           packed_scale(p->profile, p->data[1], start + row), values + row * width);
}

static size_t find_far(const struct packed_weight *p, int first, int rows, const float *w,
                       float steps)
{
	size_t width = (size_t)p->in, start = (size_t)first;
	for (size_t row = 0; row < (size_t)rows; row++) {
		float scale = packed_scale(p->profile, p->data[1], start + row);
		size_t far = !is_scale(scale) ? 0 : fp8_find_far(
			(const uint8_t *)p->data[0] + (start + row) * width, w + row * width, width,
			scale, steps);
		if (far < width)
			return row * width + far;
	}
	return (size_t)rows * width;
}

const struct format FORMAT_FP8_CHANNEL = {
	.element = "fp8_e4m3", .granularity = "channel_token", .bits = 8, .group = 1,
	.round_weight = round_weight, .input_step = input_step, .round_input = round_input,
	.form = { .format = "float-quantized", .algorithm = "FP8_PER_CHANNEL_PER_TOKEN",
	          .weights = { 8, "float", "channel", SCALE_STATIC, 0, NULL },
	          .inputs = { 8, "float", "token", SCALE_DYNAMIC, 0, NULL } },
	.tensors = tensors, .unpack = unpack, .find_far = find_far,
};
