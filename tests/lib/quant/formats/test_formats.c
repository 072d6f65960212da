/* Every format: how far what comes back may be from what went in, what shares a scale,
 * and the reference's arithmetic where it is ours to reproduce. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include "kernels/bits.h"
#include "lib/quant/formats/format.h"
#include "lib/quant/groups.h"
#include "tests/support/e4m3.h"
#include "tests/support/expect_error.h"
#include "tests/support/numeric.h"

#include <cmocka.h>

enum { OUT = 6, IN = 256, COUNT = OUT * IN };

static const enum numerics BOTH[] = { NUMERICS_QUERN, NUMERICS_MODELOPT };

static float largest_of(const float *x, int n)
{
	float largest = 0;
	for (int i = 0; i < n; i++)
		largest = fmaxf(largest, fabsf(x[i]));
	return largest;
}

/* BF16 weights whose rows differ in size by a factor of ten. */
static void make_weights(float *w)
{
	fill_random(w, COUNT, 1, 5);
	for (int i = 0; i < COUNT; i++)
		w[i] = bf16_nearest(w[i] * powf(10, (float)(i / IN) - 4));
}

/* The most that rounding may move x: half a step of the element, relative to it or
 * absolute below its smallest normal, `most` being what amax maps to. */
static float bound_of(const struct format *f, float x, float amax)
{
	float m = fabsf(x);
	if (strcmp(f->element, "fp8_e4m3") == 0)
		return fmaxf(m / 16, amax / 448 / 1024) * 1.01f + amax * 0.008f / 16;
	if (strcmp(f->element, "int8") == 0)
		return amax / 127 * 0.51f;
	if (strcmp(f->element, "int4") == 0)
		return amax / 7 * 0.51f;
	/* NVFP4: steps of 2 just below 6, and a block scale that is off by 1/16. */
	return amax / 6 * 1.1f;
}

/* The largest magnitude of what shares x's scale. */
static float amax_at(const struct format *f, const float *w, int i, float whole)
{
	if (strcmp(f->granularity, "tensor") == 0)
		return whole;
	int width = f->group > 1 ? f->group : IN;
	return largest_of(w + i / width * width, width);
}

static void test_error_bounds(void **state)
{
	float w[COUNT], values[COUNT];
	(void)state;
	make_weights(w);
	for (int k = 0; format_at(k); k++)
		for (int n = 0; n < 2; n++) {
			const struct format *f = format_at(k);
			float whole = largest_of(w, COUNT);
			f->round_weight(BOTH[n], w, OUT, IN, whole, values);
			for (int i = 0; i < COUNT; i++)
				if (fabsf(values[i] - w[i]) > bound_of(f, w[i], amax_at(f, w, i, whole)))
					fail_msg("%s %s, %s: %g came back as %g", f->element, f->granularity,
					         numerics_name(BOTH[n]), (double)w[i], (double)values[i]);
		}
}

/* Rounding what was rounded changes nothing, up to the scale's own rounding; and it
 * may be done in place. */
static void test_in_place(void **state)
{
	float w[COUNT], values[COUNT], again[COUNT];
	(void)state;
	make_weights(w);
	for (int k = 0; format_at(k); k++)
		for (int n = 0; n < 2; n++) {
			const struct format *f = format_at(k);
			float whole = largest_of(w, COUNT);
			f->round_weight(BOTH[n], w, OUT, IN, whole, values);
			memcpy(again, w, sizeof w);
			f->round_weight(BOTH[n], again, OUT, IN, whole, again);
			assert_memory_equal(again, values, sizeof values);
		}
}

static void test_zero(void **state)
{
	float w[COUNT] = { 0 }, values[COUNT];
	(void)state;
	for (int k = 0; format_at(k); k++)
		for (int n = 0; n < 2; n++) {
			const struct format *f = format_at(k);
			f->round_weight(BOTH[n], w, OUT, IN, 0, values);
			for (int i = 0; i < COUNT; i++)
				assert_true(values[i] == 0);
			if (!f->round_input)
				continue;
			f->round_input(BOTH[n], f->input_step(BOTH[n], 0), w, OUT, IN, values);
			for (int i = 0; i < COUNT; i++)
				assert_true(values[i] == 0);
		}
}

/* Static inputs beyond the calibrated amax are clipped to it; NVFP4's, under numerics
 * quern, to what its upper scale reaches, a power of two away. */
static void test_static_inputs(void **state)
{
	const float x[16] = { 0.5f, -3, 1, 2, 100, -100, 0, 1e-3f };
	float y[16];
	(void)state;
	for (int k = 0; format_at(k); k++)
		for (int n = 0; n < 2; n++) {
			const struct format *f = format_at(k);
			if (!f->round_input || strcmp(f->granularity, "channel_token") == 0)
				continue;
			f->round_input(BOTH[n], f->input_step(BOTH[n], 4), x, 1, 16, y);
			if (strcmp(f->element, "nvfp4") == 0 && BOTH[n] == NUMERICS_QUERN) {
				assert_true(y[4] == 6 * 448 * 0x1p-9f && y[5] == -y[4]);
				continue;
			}
			assert_true(y[4] >= 3.99f && y[4] <= 4.1f);
			assert_true(y[5] <= -3.99f && y[5] >= -4.1f);
		}
}

/* Per token: each row by itself, whatever was calibrated. */
static void test_token_inputs(void **state)
{
	const struct format *f = format_find("fp8_e4m3", "channel_token");
	float x[COUNT], y[COUNT];
	(void)state;
	make_weights(x);
	for (int n = 0; n < 2; n++) {
		f->round_input(BOTH[n], f->input_step(BOTH[n], 1e-9f), x, OUT, IN, y);
		for (int row = 0; row < OUT; row++) {
			float amax = largest_of(x + row * IN, IN);
			for (int i = row * IN; i < (row + 1) * IN; i++)
				assert_true(fabsf(y[i] - x[i]) <= bound_of(f, x[i], amax));
			assert_true(fabsf(largest_of(y + row * IN, IN) / amax - 1) < 1e-6f);
		}
	}
}

/* ---- the reference's arithmetic, spelt out a second time ---- */

/* INT8 of nvidia-modelopt 0.47 on the CPU: s = 127/amax, clamp(round(x s)) / s. Every
 * BF16 number, as a weight of a row of amax 3. */
static void test_modelopt_int8(void **state)
{
	const struct format *f = format_find("int8", "channel");
	float s = 127.0f / 3.0f;
	(void)state;
	for (uint32_t upper = 0; upper < 65536; upper++) {
		float row[2] = { 3, float_of_bits(upper << 16) }, values[2];
		if (!(fabsf(row[1]) <= 3))
			continue;
		f->round_weight(NUMERICS_MODELOPT, row, 1, 2, 0, values);
		assert_true(values[1] == nearbyintf(row[1] * s) / s);
	}
	const float beyond = -3.1f;
	float low;
	f->round_input(NUMERICS_MODELOPT, f->input_step(NUMERICS_MODELOPT, 3), &beyond, 1, 1,
	               &low);
	assert_true(low == -128 / s); /* the range is not narrowed */
}

/* FP8 per channel: s = (1/amax) 448, e4m3(x s) (1/s). */
static void test_modelopt_fp8_channel(void **state)
{
	const struct format *f = format_find("fp8_e4m3", "channel_token");
	float s = 1.0f / 3.0f * 448.0f, back = 1.0f / s;
	(void)state;
	for (uint32_t upper = 0; upper < 65536; upper++) {
		float row[2] = { 3, float_of_bits(upper << 16) }, values[2];
		if (!(fabsf(row[1]) <= 3))
			continue;
		f->round_weight(NUMERICS_MODELOPT, row, 1, 2, 0, values);
		assert_true(values[1] ==
		            (float)e4m3_value(e4m3_nearest((double)(row[1] * s), 1)) * back);
	}
}

/* Under numerics quern a weight's scale is exact in BF16 and nothing saturates: the
 * largest weight comes back no smaller than half a step below itself. */
static void test_quern_scales(void **state)
{
	(void)state;
	for (uint32_t upper = 0x3000; upper < 0x4F00; upper++) {
		float amax = float_of_bits(upper << 16);
		float scale = scale_above(amax, 127);
		assert_true((bits_of_float(scale) & 0xFFFF) == 0);
		assert_true((double)scale * 127 >= amax);
		assert_true((double)scale * 127 <= amax * 1.01);
	}
}

/* ---- the list, and shapes ---- */

static void test_list(void **state)
{
	(void)state;
	for (int k = 0; format_at(k); k++)
		assert_ptr_equal(format_find(format_at(k)->element, format_at(k)->granularity),
		                 format_at(k));
	assert_null(format_find("fp8_e4m3", "channel"));
	assert_null(format_find("fp9", "tensor"));
	assert_true(format_find("nvfp4", "block16")->bits == 4.5);
	assert_true(format_find("int4", "group128_weight_only")->bits == 4);
}

static void test_shapes(void **state)
{
	struct linear_shape linears[] = {
		{ "visual.blocks.0.mlp.gate_proj", 340, 160, true },
		{ "visual.blocks.0.mlp.up_proj", 340, 160, true },
		{ "visual.blocks.0.mlp.down_proj", 160, 340, true },
	};
	const struct format *f = format_find("nvfp4", "block16");
	arena memory = { 0 };
	struct group_list groups;
	error err;
	(void)state;
	assert_true(make_groups(linears, 3, NULL, 0, &memory, &groups, &err));
	assert_false(keep_takeable(&groups, linears, f, "MINE", false, &err));
	expect_error(&err, EXIT_BAD_INPUT, "MINE", "visual.blocks.0.mlp.down_proj", "340", "16",
	             NULL);
	assert_true(make_groups(linears, 3, NULL, 0, &memory, &groups, &err));
	assert_true(keep_takeable(&groups, linears, f, "MINE", true, &err));
	assert_int_equal(groups.count, 1);
	assert_string_equal(groups.groups[0].name,
	                    "visual.blocks.0.mlp.gate_proj.quant_recipe");
	const char *const include[] = { "*.down_proj" };
	assert_true(make_groups(linears, 3, NULL, 0, &memory, &groups, &err));
	keep_included(&groups, linears, include, 1);
	assert_int_equal(groups.count, 1);
	assert_string_equal(groups.groups[0].name,
	                    "visual.blocks.0.mlp.down_proj.quant_recipe");
	arena_free(&memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_error_bounds),
		cmocka_unit_test(test_in_place),
		cmocka_unit_test(test_zero),
		cmocka_unit_test(test_static_inputs),
		cmocka_unit_test(test_token_inputs),
		cmocka_unit_test(test_modelopt_int8),
		cmocka_unit_test(test_modelopt_fp8_channel),
		cmocka_unit_test(test_quern_scales),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_shapes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
