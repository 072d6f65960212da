/* What stands for weights in checkpoints: packed and unpacked, every format gives in
 * both profiles what was scored, every finite BF16 number comes back within half a step,
 * codes and scales are the reference's where its numerics are asked for, and damage is
 * seen. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/amax.h"
#include "kernels/bits.h"
#include "lib/quant/formats/format.h"
#include "tests/support/e4m3.h"
#include "tests/support/numeric.h"

#include <cmocka.h>

enum { OUT = 256, IN = 256, COUNT = OUT * IN };

/* A weight with its tensors. */
struct packed {
	struct packed_tensor list[MAX_PACKED];
	int count;
	size_t bytes[MAX_PACKED];
	struct packed_weight weight;
};

static size_t bytes_of(const struct packed_tensor *t)
{
	size_t bytes = dtype_bytes(t->dtype);
	for (int i = 0; i < t->rank; i++)
		bytes *= (size_t)t->shape[i];
	return bytes;
}

/* In two goes, as whoever does not want to hold a whole weight does it. */
static void fill(const struct packed_tensor *t, enum numerics n, const float *w, int out,
                 int in, float whole, char *bytes)
{
	int first = out / 4 * 2;
	size_t row = bytes_of(t) / (size_t)out;
	t->fill(t, n, w, first, in, whole, bytes);
	t->fill(t, n, w + (size_t)first * (size_t)in, out - first, in, whole,
	        bytes + row * (size_t)first);
}

static struct packed pack(const struct format *f, enum profile p, enum numerics n,
                          const float *w, int out, int in)
{
	struct packed packed = { .weight = { p, out, in, 1, { NULL } } };
	if (f->weight_scale)
		packed.weight.whole = f->weight_scale(n, amax(w, (size_t)out * (size_t)in));
	packed.count = f->tensors(p, out, in, packed.list);
	for (int i = 0; i < packed.count; i++) {
		const struct packed_tensor *t = &packed.list[i];
		char *bytes = malloc(packed.bytes[i] = bytes_of(t));
		assert_non_null(bytes);
		if (t->fill)
			fill(t, n, w, out, in, packed.weight.whole, bytes);
		packed.weight.data[i] = bytes;
	}
	return packed;
}

static void drop(struct packed *packed)
{
	for (int i = 0; i < packed->count; i++)
		free((void *)(uintptr_t)packed->weight.data[i]);
}

/* Every finite BF16 number once; the others are 0. What is smaller than any weight that
 * matters (2^-80) is 0 too: scales stop at 2^-126. */
static void fill_every_bf16(float *w)
{
	for (uint32_t upper = 0; upper < COUNT; upper++) {
		float x = float_of_bits(upper << 16);
		w[upper] = isfinite(x) && fabsf(x) >= 0x1p-80f ? x : 0;
	}
}

static void fill_weights(float *w)
{
	fill_random(w, COUNT, 0.05f, 3);
	for (int i = 0; i < COUNT; i++)
		w[i] = bf16_nearest(w[i] * powf(10, (float)(i / IN % 5) - 4));
	memset(w + 7 * IN, 0, IN * sizeof *w);
}

static void check_round_trip(const struct format *f, enum profile p, const float *w)
{
	static float shipped[COUNT], scored[COUNT];
	struct packed packed = pack(f, p, NUMERICS_QUERN, w, OUT, IN);
	f->round_weight(NUMERICS_QUERN, w, OUT, IN, amax(w, COUNT), scored);
	f->unpack(&packed.weight, 0, 100, shipped);
	f->unpack(&packed.weight, 100, OUT - 100, shipped + 100 * IN);
	for (int i = 0; i < COUNT; i++)
		if (shipped[i] != scored[i])
			fail_msg("%s %s, %s: %a was scored as %a, shipped as %a", f->element,
			         f->granularity, profile_name(p), (double)w[i], (double)scored[i],
			         (double)shipped[i]);
	size_t far = f->find_far(&packed.weight, 0, OUT, w, 0.5f);
	if (far != COUNT)
		fail_msg("%s %s, %s: %a came back as %a", f->element, f->granularity,
		         profile_name(p), (double)w[far], (double)shipped[far]);
	assert_int_equal(f->find_far(&packed.weight, 50, 3, w + 50 * IN, 0.5f), 3 * IN);
	drop(&packed);
}

/* What is scored is what is shipped, and nothing is further away than half a step. */
static void test_round_trip(void **state)
{
	static float weights[COUNT], all[COUNT];
	(void)state;
	fill_weights(weights);
	fill_every_bf16(all);
	for (int k = 0; format_at(k); k++)
		for (enum profile p = PROFILE_UNIVERSAL; p <= PROFILE_MODELOPT; p++) {
			check_round_trip(format_at(k), p, weights);
			check_round_trip(format_at(k), p, all);
		}
}

/* Under modelopt a code may be the second nearest: it rounds some of them twice. */
static void test_modelopt_bounds(void **state)
{
	static float weights[COUNT];
	(void)state;
	fill_weights(weights);
	for (int k = 0; format_at(k); k++) {
		const struct format *f = format_at(k);
		struct packed packed = pack(f, PROFILE_MODELOPT, NUMERICS_MODELOPT, weights, OUT,
		                            IN);
		assert_int_equal(f->find_far(&packed.weight, 0, OUT, weights, 1), COUNT);
		drop(&packed);
	}
}

/* Damage to codes: the second of a pair to the upper half of the range. */
static void test_damage(void **state)
{
	static float weights[COUNT];
	(void)state;
	fill_weights(weights);
	for (int k = 0; format_at(k); k++) {
		const struct format *f = format_at(k);
		for (enum profile p = PROFILE_UNIVERSAL; p <= PROFILE_MODELOPT; p++) {
			struct packed packed = pack(f, p, NUMERICS_QUERN, weights, OUT, IN);
			for (size_t at = 0; at < packed.bytes[0]; at += 1009) {
				char *byte = (char *)(uintptr_t)packed.weight.data[0] + at;
				*byte ^= 0x40;
				assert_true(f->find_far(&packed.weight, 0, OUT, weights, 0.5f) < COUNT);
				*byte ^= 0x40;
			}
			packed.weight.whole = f->weight_scale ? -packed.weight.whole : 1;
			if (packed.count > 1)
				memset((void *)(uintptr_t)packed.weight.data[1], 0xFF, packed.bytes[1]);
			assert_int_equal(f->find_far(&packed.weight, 0, OUT, weights, 1e9f), 0);
			drop(&packed);
		}
	}
}

/* ---- the tensors of each language ---- */

static void expect_tensor(const struct packed_tensor *t, const char *suffix,
                          const char *dtype, int rank, int64_t first, int64_t second)
{
	assert_string_equal(t->suffix, suffix);
	assert_string_equal(dtype_name(t->dtype), dtype);
	assert_int_equal(t->rank, rank);
	assert_int_equal(t->shape[0], first);
	if (rank > 1)
		assert_int_equal(t->shape[1], second);
}

static void expect_scalar(const struct packed_scalar *s, const char *suffix,
                          const char *dtype, int rank)
{
	assert_string_equal(s->suffix, suffix);
	assert_string_equal(dtype_name(s->dtype), dtype);
	assert_int_equal(s->rank, rank);
}

static void test_universal_tensors(void **state)
{
	struct packed_tensor list[MAX_PACKED];
	const enum profile p = PROFILE_UNIVERSAL;
	const struct format *f = format_find("fp8_e4m3", "channel_token");
	(void)state;
	assert_int_equal(f->tensors(p, 6, 256, list), 2);
	expect_tensor(&list[0], "weight", "F8_E4M3", 2, 6, 256);
	expect_tensor(&list[1], "weight_scale", "BF16", 2, 6, 1);
	assert_null(f->input_scalar[p].suffix);
	f = format_find("int8", "channel");
	assert_int_equal(f->tensors(p, 6, 256, list), 2);
	expect_tensor(&list[0], "weight", "I8", 2, 6, 256);
	expect_tensor(&list[1], "weight_scale", "BF16", 2, 6, 1);
	expect_scalar(&f->input_scalar[p], "input_scale", "BF16", 1);
	f = format_find("int4", "group128_weight_only");
	assert_int_equal(f->tensors(p, 6, 256, list), 3);
	expect_tensor(&list[0], "weight_packed", "I32", 2, 6, 32);
	expect_tensor(&list[1], "weight_scale", "BF16", 2, 6, 2);
	expect_tensor(&list[2], "weight_shape", "I64", 1, 2, 0);
	f = format_find("nvfp4", "block16");
	assert_int_equal(f->tensors(p, 6, 256, list), 2);
	expect_tensor(&list[0], "weight_packed", "U8", 2, 6, 128);
	expect_tensor(&list[1], "weight_scale", "F8_E4M3", 2, 6, 16);
	expect_scalar(&f->weight_scalar[p], "weight_global_scale", "F32", 1);
	expect_scalar(&f->input_scalar[p], "input_global_scale", "F32", 1);
	assert_true(f->weight_scalar[p].reciprocal && f->input_scalar[p].reciprocal);
}

static void test_modelopt_tensors(void **state)
{
	struct packed_tensor list[MAX_PACKED];
	const enum profile p = PROFILE_MODELOPT;
	const struct format *f = format_find("fp8_e4m3", "channel_token");
	(void)state;
	assert_int_equal(f->tensors(p, 6, 256, list), 2);
	expect_tensor(&list[1], "weight_scale", "F32", 1, 6, 0);
	f = format_find("int8", "channel");
	assert_int_equal(f->tensors(p, 6, 256, list), 2);
	expect_tensor(&list[0], "weight", "I8", 2, 6, 256);
	expect_tensor(&list[1], "weight_scale", "F32", 1, 6, 0);
	expect_scalar(&f->input_scalar[p], "input_scale", "F32", 0);
	f = format_find("int4", "group128_weight_only");
	assert_int_equal(f->tensors(p, 6, 256, list), 2);
	expect_tensor(&list[0], "weight", "U8", 2, 3, 256);
	expect_tensor(&list[1], "weight_scale", "F32", 2, 6, 2);
	assert_int_equal(f->tensors(p, 6, 128, list), 2);
	expect_tensor(&list[1], "weight_scale", "F32", 2, 6, 1);
	f = format_find("nvfp4", "block16");
	assert_int_equal(f->tensors(p, 6, 256, list), 2);
	expect_tensor(&list[0], "weight", "U8", 2, 6, 128);
	expect_tensor(&list[1], "weight_scale", "F8_E4M3", 2, 6, 16);
	expect_scalar(&f->weight_scalar[p], "weight_scale_2", "F32", 0);
	expect_scalar(&f->input_scalar[p], "input_scale", "F32", 0);
}

/* ---- the reference's codes and scales, spelt out a second time ---- */

static float float_at(const void *data, int index)
{
	float x;
	memcpy(&x, (const char *)data + (size_t)index * sizeof x, sizeof x);
	return x;
}

/* Every BF16 number between -3 and 3, in rows whose largest is 3. */
static void fill_up_to_three(float *w)
{
	fill_every_bf16(w);
	for (int i = 0; i < COUNT; i++) {
		w[i] = fabsf(w[i]) <= 3 ? w[i] : 0;
		if (i % 128 == 0)
			w[i] = 3;
	}
}

/* scale = amax/127 a row, code = clamp(round(w / scale)). */
static void test_modelopt_int8(void **state)
{
	static float w[COUNT];
	const struct format *f = format_find("int8", "channel");
	(void)state;
	fill_up_to_three(w);
	struct packed packed = pack(f, PROFILE_MODELOPT, NUMERICS_MODELOPT, w, OUT, IN);
	const int8_t *codes = packed.weight.data[0];
	for (int i = 0; i < COUNT; i++) {
		assert_true(float_at(packed.weight.data[1], i / IN) == 3.0f / 127.0f);
		assert_int_equal(codes[i], (int)nearbyintf(w[i] / (3.0f / 127.0f)));
	}
	assert_true(f->input_scale(NUMERICS_MODELOPT, 1.0f) == 1.0f / 127.0f);
	assert_true(f->input_scale(NUMERICS_MODELOPT, 1.001f) == 1.0f / 127.0f); /* as BF16 */
	drop(&packed);
}

/* scale = amax/448 a row, code = e4m3(w / scale). */
static void test_modelopt_fp8_channel(void **state)
{
	static float w[COUNT];
	const struct format *f = format_find("fp8_e4m3", "channel_token");
	(void)state;
	fill_up_to_three(w);
	struct packed packed = pack(f, PROFILE_MODELOPT, NUMERICS_MODELOPT, w, OUT, IN);
	const uint8_t *codes = packed.weight.data[0];
	for (int i = 0; i < COUNT; i++) {
		assert_true(float_at(packed.weight.data[1], i / IN) == 3.0f / 448.0f);
		assert_int_equal(codes[i], e4m3_nearest((double)(w[i] / (3.0f / 448.0f)), 1));
	}
	drop(&packed);
}

/* scale = amax/7 a group; rows 2r and 2r + 1 of a column in the lower and upper half. */
static void test_modelopt_int4(void **state)
{
	static float w[COUNT];
	const struct format *f = format_find("int4", "group128_weight_only");
	(void)state;
	fill_up_to_three(w);
	struct packed packed = pack(f, PROFILE_MODELOPT, NUMERICS_MODELOPT, w, OUT, IN);
	const uint8_t *bytes = packed.weight.data[0];
	for (int i = 0; i < COUNT; i++) {
		int row = i / IN, code = (int)nearbyintf(w[i] / (3.0f / 7.0f));
		assert_true(float_at(packed.weight.data[1], i / 128) == 3.0f / 7.0f);
		assert_int_equal(bytes[row / 2 * IN + i % IN] >> row % 2 * 4 & 15, code & 15);
	}
	drop(&packed);
}

/* upper = amax/2688; block = e4m3 of block amax / (6 upper), at least 2^-9, 1 for a
 * block of zeros; code by borders, ties to the even code; neighbours share a byte. */
static void test_modelopt_nvfp4(void **state)
{
	static const float borders[7] = { 0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5 };
	static float w[COUNT];
	const struct format *f = format_find("nvfp4", "block16");
	const float upper = 3.0f / 2688.0f;
	(void)state;
	fill_up_to_three(w);
	memset(w + 32, 0, 16 * sizeof *w);
	struct packed packed = pack(f, PROFILE_MODELOPT, NUMERICS_MODELOPT, w, OUT, IN);
	const uint8_t *bytes = packed.weight.data[0], *scales = packed.weight.data[1];
	assert_true(packed.weight.whole == upper);
	for (int i = 0; i < COUNT; i++) {
		float block = amax(w + i / 16 * 16, 16) / (6.0f * upper);
		block = block == 0 ? 1 : fmaxf(block, 0x1p-9f);
		uint8_t scale = e4m3_nearest((double)block, 1);
		assert_int_equal(scales[i / 16], scale);
		float scaled = fabsf(w[i] / ((float)e4m3_value(scale) * upper));
		int code = 0;
		for (int b = 0; b < 7; b++)
			code += b % 2 ? scaled >= borders[b] : scaled > borders[b];
		assert_int_equal(bytes[i / 2] >> i % 2 * 4 & 15, code | (w[i] < 0) << 3);
	}
	drop(&packed);
}

/* compressed-tensors' INT4: eight neighbours, offset by 8, the first lowest. */
static void test_universal_int4(void **state)
{
	const struct format *f = format_find("int4", "group128_weight_only");
	static float w[2 * 128];
	(void)state;
	for (int i = 0; i < 256; i++)
		w[i] = (float)(i % 15 - 7);
	struct packed packed = pack(f, PROFILE_UNIVERSAL, NUMERICS_QUERN, w, 2, 128);
	for (int i = 0; i < 256; i++) {
		uint32_t word;
		memcpy(&word, (const char *)packed.weight.data[0] + i / 8 * 4, sizeof word);
		assert_int_equal((int)(word >> i % 8 * 4 & 15) - 8, i % 15 - 7);
	}
	drop(&packed);
}

/* NVFP4's upper scales are powers of two, exact both ways, and nothing exceeds 448. */
static void test_upper_scales(void **state)
{
	const struct format *f = format_find("nvfp4", "block16");
	(void)state;
	for (uint32_t upper = 0x2000; upper < 0x7F00; upper++) {
		float largest = float_of_bits(upper << 16);
		float scale = f->weight_scale(NUMERICS_QUERN, largest);
		assert_int_equal(bits_of_float(scale) & 0x7FFFFF, 0);
		assert_true(1 / (1 / scale) == scale);
		assert_true((double)scale * 2688 >= (double)largest);
		assert_true((double)scale * 2688 <= (double)largest * 2);
		assert_true(f->input_scale(NUMERICS_QUERN, largest) == scale);
	}
	assert_true(f->weight_scale(NUMERICS_QUERN, 0) == 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_modelopt_bounds),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_universal_tensors),
		cmocka_unit_test(test_modelopt_tensors),
		cmocka_unit_test(test_modelopt_int8),
		cmocka_unit_test(test_modelopt_fp8_channel),
		cmocka_unit_test(test_modelopt_int4),
		cmocka_unit_test(test_modelopt_nvfp4),
		cmocka_unit_test(test_universal_int4),
		cmocka_unit_test(test_upper_scales),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
