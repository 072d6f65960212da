/* INT4 weights, symmetric, one scale for 128 columns of a row; inputs stay as they
 * are. The cost is ModelOpt's: 4 bits, the scales not counted.
 *
 * Two codes a byte. compressed-tensors: neighbours of a row, offset by 8, eight of them
 * a little-endian I32 (compressed_tensors/compressors/pack_quantized/helpers.py).
 * ModelOpt: rows 2r and 2r + 1 of a column, in two's complement
 * (modelopt/torch/export/quant_utils.py, pack_int4_in_uint8). */
#include "kernels/amax.h"
#include "kernels/integer.h"
#include "kernels/nibbles.h"
#include "lib/quant/formats/int4.h"
#include "lib/quant/formats/known.h"
#include "lib/quant/formats/packing.h"
#include "lib/quant/formats/scaled_integer.h"

enum { BITS = 4, GROUP = INT4_GROUP, OFFSET = 8 };

void int4_round_weight(enum numerics n, const float *w, int out, int in, float whole,
                       float *values)
{
	size_t count = (size_t)out * (size_t)in;
	(void)whole;
	for (size_t at = 0; at < count; at += GROUP)
		integer_round(n, integer_step(n, amax(w + at, GROUP), BITS), BITS, w + at, GROUP,
		              values + at);
}

/* ---- checkpoints ---- */

static float shipped_scale(enum numerics n, float largest)
{
	return integer_shipped_scale(n, largest, BITS);
}

static void encode_group(enum numerics n, const float *w, int8_t *codes)
{
	integer_encode(w, GROUP, shipped_scale(n, amax(w, GROUP)), -OFFSET, OFFSET - 1, codes);
}

static void fill_neighbours(const struct packed_tensor *t, enum numerics n, const float *w,
                            int rows, int in, float whole, void *bytes)
{
	(void)t, (void)whole;
	for (size_t at = 0; at < (size_t)rows * (size_t)in; at += GROUP) {
		int8_t codes[GROUP];
		uint8_t shifted[GROUP];
		encode_group(n, w + at, codes);
		for (int i = 0; i < GROUP; i++)
			shifted[i] = (uint8_t)(codes[i] + OFFSET);
		nibbles_join(shifted, shifted + 1, GROUP / 2, 2, (uint8_t *)bytes + at / 2);
	}
}

static void fill_row_pairs(const struct packed_tensor *t, enum numerics n, const float *w,
                           int rows, int in, float whole, void *bytes)
{
	size_t width = (size_t)in;
	(void)t, (void)whole;
	for (size_t row = 0; row + 1 < (size_t)rows; row += 2)
		for (size_t column = 0; column < width; column += GROUP) {
			const float *upper = w + row * width + column;
			int8_t low[GROUP], high[GROUP];
			encode_group(n, upper, low);
			encode_group(n, upper + width, high);
			nibbles_join((const uint8_t *)low, (const uint8_t *)high, GROUP, 1,
			             (uint8_t *)bytes + row / 2 * width + column);
		}
}

static void fill_group_scales(const struct packed_tensor *t, enum numerics n,
                              const float *w, int rows, int in, float whole, void *bytes)
{
	(void)whole;
	fill_scales(t, n, w, (size_t)rows * (size_t)in / GROUP, GROUP, shipped_scale, bytes);
}

int int4_tensors(enum profile p, int out, int in, struct packed_tensor *list)
{
	list[1] = scale_tensor(p, out, in / GROUP);
	list[1].rank = 2;
	list[1].fill = fill_group_scales;
	if (p == PROFILE_MODELOPT) {
		list[0] = (struct packed_tensor){ "weight", DTYPE_U8, 2, { out / 2, in },
			fill_row_pairs };
		return 2;
	}
	list[0] = (struct packed_tensor){ "weight_packed", DTYPE_I32, 2, { out, in / 8 },
		fill_neighbours };
	list[2] = (struct packed_tensor){ "weight_shape", DTYPE_I64, 1, { 2 }, NULL };
	return 3;
}

/* The codes and the scale of a group, counted over the whole weight. */
static float read_group(const struct packed_weight *p, size_t group, int8_t *codes)
{
	size_t width = (size_t)p->in, row = group * GROUP / width;
	uint8_t found[2][GROUP];
	bool pairs = p->profile == PROFILE_MODELOPT;
	if (pairs)
		nibbles_split((const uint8_t *)p->data[0] + row / 2 * width + group * GROUP % width,
		              GROUP, 1, found[0], found[1]);
	else
		nibbles_split((const uint8_t *)p->data[0] + group * GROUP / 2, GROUP / 2, 2,
		              found[0], found[0] + 1);
	const uint8_t *own = found[pairs ? row % 2 : 0];
	for (int i = 0; i < GROUP; i++)
		codes[i] = (int8_t)((pairs ? own[i] ^ OFFSET : own[i]) - OFFSET);
	return packed_scale(p->profile, p->data[1], group);
}

void int4_unpack(const struct packed_weight *p, int first, int rows, float *values)
{
	size_t groups = (size_t)p->in / GROUP;
	for (size_t g = 0; g < (size_t)rows * groups; g++) {
		int8_t codes[GROUP];
		float scale = read_group(p, (size_t)first * groups + g, codes);
		integer_decode(codes, GROUP, scale, values + g * GROUP);
	}
}

size_t int4_find_far(const struct packed_weight *p, int first, int rows, const float *w,
                     float steps)
{
	size_t groups = (size_t)p->in / GROUP;
	for (size_t g = 0; g < (size_t)rows * groups; g++) {
		int8_t codes[GROUP];
		float scale = read_group(p, (size_t)first * groups + g, codes);
		size_t far = !is_scale(scale) ? 0
		                              : integer_find_far(codes, w + g * GROUP, GROUP, scale,
		                                                 steps);
		if (far < GROUP)
			return g * GROUP + far;
	}
	return (size_t)rows * (size_t)p->in;
}

const struct format FORMAT_INT4_GROUP = {
	.element = "int4", .granularity = "group128_weight_only", INT4_SHARED
};
