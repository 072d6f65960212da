/* INT8, one scale a row of the weight, one static scale for its input. */
#include "kernels/amax.h"
#include "kernels/integer.h"
#include "lib/quant/formats/known.h"
#include "lib/quant/formats/packing.h"
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

/* ---- checkpoints ---- */

static float shipped_scale(enum numerics n, float largest)
{
	return integer_shipped_scale(n, largest, BITS);
}

static float shipped_input_scale(enum numerics n, float largest)
{
	return integer_shipped_scale(
		n, n == NUMERICS_MODELOPT ? bf16_nearest(largest) : largest, BITS);
}

static void fill_codes(const struct packed_tensor *t, enum numerics n, const float *w,
                       int rows, int in, float whole, void *bytes)
{
	size_t width = (size_t)in;
	(void)t, (void)whole;
	for (size_t at = 0; at < (size_t)rows * width; at += width)
		integer_encode(w + at, width, shipped_scale(n, amax(w + at, width)), -128, 127,
		               (int8_t *)bytes + at);
}

static void fill_row_scales(const struct packed_tensor *t, enum numerics n, const float *w,
                            int rows, int in, float whole, void *bytes)
{
	(void)whole;
	fill_scales(t, n, w, (size_t)rows, in, shipped_scale, bytes);
}

static int tensors(enum profile p, int out, int in, struct packed_tensor *list)
{
	list[0] = (struct packed_tensor){ "weight", DTYPE_I8, 2, { out, in }, fill_codes };
	list[1] = scale_tensor(p, out, 1);
	list[1].fill = fill_row_scales;
	return 2;
}

static void unpack(const struct packed_weight *p, int first, int rows, float *values)
{
	size_t width = (size_t)p->in, start = (size_t)first;
	for (size_t row = 0; row < (size_t)rows; row++)
		integer_decode((const int8_t *)p->data[0] + (start + row) * width, width,
		               packed_scale(p->profile, p->data[1], start + row),
		               values + row * width);
}

static size_t find_far(const struct packed_weight *p, int first, int rows, const float *w,
                       float steps)
{
	size_t width = (size_t)p->in, start = (size_t)first;
	for (size_t row = 0; row < (size_t)rows; row++) {
		float scale = packed_scale(p->profile, p->data[1], start + row);
		size_t far = !is_scale(scale) ? 0 : integer_find_far(
			(const int8_t *)p->data[0] + (start + row) * width, w + row * width, width,
			scale, steps);
		if (far < width)
			return row * width + far;
	}
	return (size_t)rows * width;
}

static struct input_step served_step(float scale)
{
	return (struct input_step){ scale, scale };
}

const struct format FORMAT_INT8_CHANNEL = {
	.element = "int8", .granularity = "channel", .bits = 8, .group = 1,
	.round_weight = round_weight, .input_step = input_step, .round_input = round_input,
	.form = { .format = "int-quantized", .algorithm = "W8A8_SQ_PER_CHANNEL",
	          .weights = { 8, "int", "channel", SCALE_STATIC, 0, NULL },
	          .inputs = { 8, "int", "tensor", SCALE_STATIC, 0, NULL } },
	.tensors = tensors, .unpack = unpack, .find_far = find_far,
	.input_scalar = TENSOR_SCALE("input_scale"), .input_scale = shipped_input_scale,
	.served_step = served_step,
};
