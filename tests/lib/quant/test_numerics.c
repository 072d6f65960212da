/* Scales and codes under both numerics, over every BF16 amax and every BF16 weight. */
#include "lib/quant/numerics.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/bits.h"
#include "kernels/fp8.h"
#include "tests/support/e4m3.h"
#include "tests/support/expect_error.h"
#include "tests/support/numeric.h"

#include <cmocka.h>

enum { PATTERNS = 65536, INFINITE = 0x7F80, WEIGHTS = 4096 };

static bool is_bf16(float x)
{
	return (bits_of_float(x) & 0xFFFF) == 0;
}

/* The BF16 number below a positive one. */
static float bf16_below(float x)
{
	return float_of_bits(bits_of_float(x) - 0x10000);
}

/* ---- rounding to BF16 ---- */

static void check_rounding(float x)
{
	float near = bf16_nearest(x), up = bf16_up(x);
	if (bits_of_float(near) != bits_of_float(bf16_reference((double)x)))
		fail_msg("%a: nearest BF16 is %a, found %a", (double)x,
		         (double)bf16_reference((double)x), (double)near);
	assert_true(is_bf16(up) && up >= x);
	float below = is_bf16(x) ? x : float_of_bits(bits_of_float(x) & 0xFFFF0000u);
	assert_true(is_bf16(x) ? up == x : x < 0 || below < x);
	if (!is_bf16(x)) /* no BF16 number lies between x and up */
		assert_true(up == below || up == float_of_bits(bits_of_float(below) + 0x10000));
}

static void rounds_to_bf16(void **state)
{
	(void)state;
	for (uint32_t bits = 0; bits < 0x7F800000u; bits += 2357) {
		check_rounding(float_of_bits(bits));
		check_rounding(float_of_bits(bits | 0x80000000u));
	}
	for (uint32_t pattern = 0; pattern < INFINITE; pattern += 7)
		for (uint32_t low = 0x7FFE; low <= 0x8002; low++) /* around each tie */
			check_rounding(float_of_bits(pattern << 16 | low));
	assert_true(isnan(bf16_nearest(NAN)));
	assert_true(bf16_nearest(FLT_MAX) == INFINITY);
	assert_true(bf16_up(0.0f) == 0.0f);
}

/* ---- scales of quern ---- */

/* The promise of numerics.h, in float64, where 448 * scale is exact. */
static void check_scale(float amax)
{
	float scale = fp8_shipped_weight_scale(NUMERICS_QUERN, amax);
	if (!is_bf16(scale) || !(scale >= FLT_MIN) || !isfinite(scale))
		fail_msg("amax %a: scale %a is no normal BF16 number", (double)amax,
		         (double)scale);
	if (!(448.0 * (double)scale >= (double)amax))
		fail_msg("amax %a: scale %a saturates", (double)amax, (double)scale);
	if (scale > FLT_MIN && 448.0 * (double)bf16_below(scale) >= (double)amax)
		fail_msg("amax %a: scale %a is not the least", (double)amax, (double)scale);
	assert_true(fp8_shipped_input_scale(NUMERICS_QUERN, amax) == scale);
	struct fp8_step step = fp8_step_for(NUMERICS_QUERN, amax);
	assert_true(step.decode == scale && step.encode == 1.0f / scale &&
	            isfinite(step.encode));
}

static void the_scale_is_the_least_that_does_not_saturate(void **state)
{
	(void)state;
	for (uint32_t pattern = 1; pattern < INFINITE; pattern++)
		check_scale(bf16_pattern(pattern));
	for (uint32_t bits = 1; bits < 0x7F800000u; bits += 4391) /* inputs are float32 */
		check_scale(float_of_bits(bits));
	/* Where amax/448 is a BF16 number, and one float32 to either side. */
	for (uint32_t pattern = 0x0500; pattern < 0x7B00; pattern++) {
		float exact = bf16_pattern(pattern) * 448.0f;
		assert_true(fp8_shipped_weight_scale(NUMERICS_QUERN, exact) ==
		            bf16_pattern(pattern));
		check_scale(nextafterf(exact, 0));
		check_scale(nextafterf(exact, FLT_MAX));
	}
}

static void nothing_of_a_tensor_saturates(void **state)
{
	(void)state;
	for (uint32_t pattern = 1; pattern < INFINITE; pattern++) {
		float amax = bf16_pattern(pattern), back;
		float scale = fp8_shipped_weight_scale(NUMERICS_QUERN, amax);
		uint8_t code;
		fp8_encode_weights(NUMERICS_QUERN, &amax, 1, scale, &code);
		fp8_decode(&code, 1, scale, &back);
		/* The largest weight comes back within half of the step below 448. */
		assert_true(fabs((double)back - (double)amax) <= 16 * (double)scale);
		if (scale > FLT_MIN)
			assert_true(code >= 0x7D); /* and the range is used: 443 or more of 448 */
	}
}

static void zero_and_subnormal_amax(void **state)
{
	(void)state;
	for (int n = NUMERICS_QUERN; n <= NUMERICS_MODELOPT; n++) {
		assert_true(fp8_shipped_weight_scale((enum numerics)n, 0) == 1.0f);
		assert_true(fp8_shipped_input_scale((enum numerics)n, 0) == 1.0f);
		assert_true(fp8_shipped_weight_scale((enum numerics)n, FLT_TRUE_MIN) == FLT_MIN);
		assert_true(fp8_shipped_weight_scale((enum numerics)n, FLT_MIN) == FLT_MIN);
		assert_true(fp8_shipped_weight_scale((enum numerics)n, 448 * FLT_MIN) ==
		            FLT_MIN);
	}
	const float zeros[3] = { 0.0f, -0.0f, 0.0f };
	uint8_t codes[3];
	fp8_encode_weights(NUMERICS_QUERN, zeros, 3, 1.0f, codes);
	assert_memory_equal(codes, ((uint8_t[]){ 0x00, 0x80, 0x00 }), 3);
	struct fp8_step step = fp8_step_for(NUMERICS_QUERN, 0);
	assert_true(step.encode == 1.0f && step.decode == 1.0f);
}

static void refuses_what_is_no_amax(void **state)
{
	(void)state;
	error err;
	assert_true(check_amax(0, "x", &err));
	assert_true(check_amax(FLT_TRUE_MIN, "x", &err));
	assert_true(check_amax(FLT_MAX, "x", &err));
	assert_false(check_amax(NAN, "layers.3", &err));
	expect_error(&err, EXIT_BAD_INPUT, "layers.3", "amax", "nan", NULL);
	assert_false(check_amax(INFINITY, "layers.4", &err));
	expect_error(&err, EXIT_BAD_INPUT, "layers.4", "inf", NULL);
	assert_false(check_amax(-1, "layers.5", &err));
	expect_error(&err, EXIT_BAD_INPUT, "layers.5", "-1", NULL);
}

/* ---- codes of quern ---- */

/* All BF16 weights under one scale: the code is that of the exact quotient. */
static void check_one_rounding(const float *w, uint8_t *codes, float scale)
{
	fp8_encode_weights(NUMERICS_QUERN, w, PATTERNS, scale, codes);
	for (uint32_t i = 0; i < PATTERNS; i++) {
		uint8_t expected = e4m3_nearest((double)w[i], (double)scale);
		if (codes[i] != expected)
			fail_msg("%a / %a: expected code %02x, found %02x", (double)w[i],
			         (double)scale, expected, codes[i]);
	}
}

static void one_rounding_for_every_bf16_weight(void **state)
{
	(void)state;
	float *w = malloc(PATTERNS * sizeof *w);
	uint8_t *codes = malloc(PATTERNS);
	assert_true(w && codes);
	for (uint32_t i = 0; i < PATTERNS; i++)
		w[i] = bf16_pattern(i);
	for (uint32_t fraction = 0; fraction < 128; fraction += 3) /* one binade */
		check_one_rounding(w, codes, bf16_pattern(0x3A00 | fraction));
	check_one_rounding(w, codes, FLT_MIN);
	check_one_rounding(w, codes, bf16_pattern(0x00FF));
	check_one_rounding(w, codes, bf16_pattern(0x7F7F));
	free(w);
	free(codes);
}

static void what_is_scored_is_what_is_shipped(void **state)
{
	(void)state;
	float w[WEIGHTS];
	uint8_t scored[WEIGHTS], shipped[WEIGHTS];
	for (uint32_t seed = 1; seed <= 50; seed++) {
		fill_random(w, WEIGHTS, ldexpf(1.0f, (int)seed - 25), seed);
		float amax = 0;
		for (int i = 0; i < WEIGHTS; i++) {
			w[i] = bf16_nearest(w[i]);
			amax = fmaxf(amax, fabsf(w[i]));
		}
		struct fp8_step step = fp8_step_for(NUMERICS_QUERN, amax);
		fp8_encode_scored(NUMERICS_QUERN, w, WEIGHTS, step, scored);
		fp8_encode_weights(NUMERICS_QUERN, w, WEIGHTS,
		                   fp8_shipped_weight_scale(NUMERICS_QUERN, amax), shipped);
		assert_memory_equal(scored, shipped, WEIGHTS);
	}
}

/* ---- modelopt ---- */

/* Each operation of the reference rounds to float32, here by way of float64. */
static void check_modelopt(float amax)
{
	float used = amax <= 0x1p-24f ? 1.0f : amax;
	float encode = (float)((double)(float)(1.0 / (double)used) * 448.0);
	struct fp8_step step = fp8_step_for(NUMERICS_MODELOPT, amax);
	if (step.encode != encode || step.decode != (float)(1.0 / (double)encode))
		fail_msg("amax %a: expected a step of %a, found %a", (double)amax,
		         (double)encode, (double)step.encode);
	double scale = (double)(float)((double)amax / 448.0);
	double least = (double)FLT_MIN;
	assert_true((double)fp8_shipped_weight_scale(NUMERICS_MODELOPT, amax) ==
	            fmax(scale, least));
	float rounded = bf16_reference((double)amax);
	if (rounded > 0 && isfinite(rounded))
		assert_true((double)fp8_shipped_input_scale(NUMERICS_MODELOPT, amax) ==
		            fmax((double)(float)((double)rounded / 448.0), least));
}

static void modelopt_steps_and_scales(void **state)
{
	(void)state;
	for (uint32_t bits = 1; bits < 0x7F800000u; bits += 3313)
		check_modelopt(float_of_bits(bits));
	check_modelopt(0x1p-24f);
	check_modelopt(nextafterf(0x1p-24f, 1));
	struct fp8_step step = fp8_step_for(NUMERICS_MODELOPT, 0);
	assert_true(step.encode == 448.0f && step.decode == 1.0f / 448.0f);
	/* Where the reciprocal and the quotient differ, it is the reciprocal. */
	int different = 0;
	for (uint32_t pattern = 0x3C00; pattern < 0x4100; pattern++) {
		float amax = bf16_pattern(pattern);
		different += fp8_step_for(NUMERICS_MODELOPT, amax).encode != 448.0f / amax;
	}
	assert_in_range(different, 1, 0x500 - 1);
}

static void modelopt_codes_round_twice_when_shipped(void **state)
{
	(void)state;
	float w[WEIGHTS];
	uint8_t codes[WEIGHTS];
	int twice = 0;
	fill_random(w, WEIGHTS, 0.3f, 11);
	const float amax = 0.3f;
	struct fp8_step step = fp8_step_for(NUMERICS_MODELOPT, amax);
	fp8_encode_scored(NUMERICS_MODELOPT, w, WEIGHTS, step, codes);
	for (int i = 0; i < WEIGHTS; i++)
		assert_int_equal(codes[i], e4m3_nearest((double)(w[i] * step.encode), 1));
	float scale = fp8_shipped_weight_scale(NUMERICS_MODELOPT, amax);
	fp8_encode_weights(NUMERICS_MODELOPT, w, WEIGHTS, scale, codes);
	for (int i = 0; i < WEIGHTS; i++) {
		float quotient = (float)((double)w[i] / (double)scale);
		uint8_t once = e4m3_nearest((double)w[i], (double)scale);
		uint8_t expected = e4m3_nearest((double)bf16_reference((double)quotient), 1);
		assert_int_equal(codes[i], expected);
		twice += once != expected;
	}
	assert_true(twice > 0);
}

static void names_are_read_as_written(void **state)
{
	(void)state;
	enum numerics n;
	assert_true(numerics_from_name("quern", &n) && n == NUMERICS_QUERN);
	assert_true(numerics_from_name("modelopt", &n) && n == NUMERICS_MODELOPT);
	assert_false(numerics_from_name("ModelOpt", &n));
	assert_false(numerics_from_name("", &n));
	assert_string_equal(numerics_name(NUMERICS_QUERN), "quern");
	assert_string_equal(numerics_name(NUMERICS_MODELOPT), "modelopt");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rounds_to_bf16),
		cmocka_unit_test(the_scale_is_the_least_that_does_not_saturate),
		cmocka_unit_test(nothing_of_a_tensor_saturates),
		cmocka_unit_test(zero_and_subnormal_amax),
		cmocka_unit_test(refuses_what_is_no_amax),
		cmocka_unit_test(one_rounding_for_every_bf16_weight),
		cmocka_unit_test(what_is_scored_is_what_is_shipped),
		cmocka_unit_test(modelopt_steps_and_scales),
		cmocka_unit_test(modelopt_codes_round_twice_when_shipped),
		cmocka_unit_test(names_are_read_as_written),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
