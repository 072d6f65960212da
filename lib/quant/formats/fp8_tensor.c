/* FP8 E4M3, one scale a weight and one static scale for its input: what every
 * server loads. Scales: numerics.h. */
#include "kernels/fp8.h"
#include "lib/quant/formats/known.h"
#include "lib/quant/formats/packing.h"

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

/* ---- checkpoints ---- */

static void fill_codes(const struct packed_tensor *t, enum numerics n, const float *w,
                       int rows, int in, float whole, void *bytes)
{
	(void)t;
	fp8_encode_weights(n, w, (size_t)rows * (size_t)in, whole, bytes);
}

static int tensors(enum profile p, int out, int in, struct packed_tensor *list)
{
	(void)p;
	list[0] = (struct packed_tensor){ "weight", DTYPE_F8_E4M3, 2, { out, in }, fill_codes };
	return 1;
}

static void unpack(const struct packed_weight *p, int first, int rows, float *values)
{
	size_t width = (size_t)p->in;
	fp8_decode((const uint8_t *)p->data[0] + (size_t)first * width, (size_t)rows * width,
	           p->whole, values);
}

static size_t find_far(const struct packed_weight *p, int first, int rows, const float *w,
                       float steps)
{
	size_t width = (size_t)p->in;
	if (!is_scale(p->whole))
		return 0;
	return fp8_find_far((const uint8_t *)p->data[0] + (size_t)first * width, w,
	                    (size_t)rows * width, p->whole, steps);
}

static struct input_step served_step(float scale)
{
	return (struct input_step){ 1.0f / scale, scale };
}

const struct format FORMAT_FP8_TENSOR = {
	.element = "fp8_e4m3", .granularity = "tensor", .bits = 8, .group = 1,
	.on_gpu = true, .round_weight = round_weight, .input_step = input_step,
	.round_input = round_input,
	.form = { .format = "float-quantized", .algorithm = "FP8",
	          .own_groups = true, .bilingual = true,
	          .weights = { 8, "float", "tensor", SCALE_STATIC, 0, NULL },
	          .inputs = { 8, "float", "tensor", SCALE_STATIC, 0, NULL } },
	.tensors = tensors, .unpack = unpack, .find_far = find_far,
	.weight_scalar = TENSOR_SCALE("weight_scale"),
	.input_scalar = TENSOR_SCALE("input_scale"),
	.weight_scale = fp8_shipped_weight_scale, .input_scale = fp8_shipped_input_scale,
	.served_step = served_step,
};
