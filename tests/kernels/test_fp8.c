/* FP8 against its definition: every code, every float around every border, every
 * BF16 number; the ways to encode against each other; the check of shipped codes. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/bits.h"
#include "kernels/fp8.h"
#include "tests/support/e4m3.h"
#include "tests/support/numeric.h"

#include <cmocka.h>

enum { PATTERNS = 65536 };

static void expect_code(uint8_t found, uint8_t expected, double x)
{
	if (found != expected)
		fail_msg("%a: expected code %02x, found %02x", x, expected, found);
}

static void check_float(float x)
{
	expect_code(fp8_from_float(x), e4m3_nearest((double)x, 1), (double)x);
}

/* ---- single numbers ---- */

static void decodes_every_code(void **state)
{
	(void)state;
	for (int code = 0; code < 256; code++) {
		float found = fp8_to_float((uint8_t)code);
		double expected = e4m3_value((uint8_t)code);
		if (isnan(expected))
			assert_true(isnan(found));
		else if ((double)found != expected)
			fail_msg("code %02x: expected %g, found %g", code, expected, (double)found);
		assert_int_equal(!signbit(found), code < 128);
		assert_int_equal(fp8_from_float(found), code);
	}
}

/* 2,000 floats on either side of each code's value and of each border between two,
 * the first number that would round beyond 448 included; then coarsely all others. */
static void encodes_around_every_border(void **state)
{
	(void)state;
	for (int code = 0; code <= E4M3_LARGEST; code++) {
		double value = e4m3_value((uint8_t)code);
		double next = code < E4M3_LARGEST ? e4m3_value((uint8_t)(code + 1)) : 480;
		const double centres[2] = { value, (value + next) / 2 };
		for (int c = 0; c < 2; c++) {
			uint32_t centre = bits_of_float((float)centres[c]);
			for (int32_t off = -2000; off <= 2000; off++) {
				uint32_t bits = centre + (uint32_t)off;
				if ((int64_t)centre + off < 0)
					continue;
				check_float(float_of_bits(bits));
				check_float(float_of_bits(bits | 0x80000000u));
			}
		}
	}
	for (uint64_t bits = 0; bits <= UINT32_MAX; bits += 3989)
		check_float(float_of_bits((uint32_t)bits));
}

static void encodes_what_is_no_usual_number(void **state)
{
	(void)state;
	assert_int_equal(fp8_from_float(0.0f), 0x00);
	assert_int_equal(fp8_from_float(-0.0f), 0x80);
	assert_int_equal(fp8_from_float(INFINITY), 0x7E);
	assert_int_equal(fp8_from_float(-INFINITY), 0xFE);
	assert_int_equal(fp8_from_float(FLT_MAX), 0x7E);
	assert_int_equal(fp8_from_float(464.0f), 0x7E);
	assert_int_equal(fp8_from_float(480.0f), 0x7E);
	assert_int_equal(fp8_from_float(FLT_TRUE_MIN), 0x00);
	assert_int_equal(fp8_from_float(0x1p-10f), 0x00); /* half the least, to even */
	assert_int_equal(fp8_from_float(0x1.000002p-10f), 0x01);
	assert_int_equal(fp8_from_float(0x3p-10f), 0x02); /* a tie between 1 and 2 */
	assert_int_equal(fp8_from_float(0x1.FFFFFEp-7f), 0x08);
	assert_int_equal(fp8_from_float(NAN), 0x7F);
	assert_int_equal(fp8_from_float(-NAN), 0xFF);
	assert_int_equal(fp8_from_float(float_of_bits(0x7F800001u)), 0x7F);
	assert_int_equal(fp8_from_float(float_of_bits(0xFF800001u)), 0xFF);
}

/* ---- arrays ---- */

static float *all_bf16(void)
{
	float *x = malloc(PATTERNS * sizeof *x);
	assert_non_null(x);
	for (uint32_t i = 0; i < PATTERNS; i++)
		x[i] = bf16_pattern(i);
	return x;
}

/* A float32 product or quotient by way of float64: the product is exact there, and
 * a quotient's 53 bits leave no room for a second rounding to matter. */
static float product(float x, float y)
{
	return (float)((double)x * (double)y);
}

static float quotient(float x, float y)
{
	return (float)((double)x / (double)y);
}

static void encodes_every_bf16(void **state)
{
	(void)state;
	static const float factors[] = { 1.0f, 448.0f, 0.0123456f, 1e-30f, 1e30f, 3.0f };
	float *x = all_bf16();
	uint8_t *codes = malloc(PATTERNS);
	assert_non_null(codes);
	for (size_t f = 0; f < sizeof factors / sizeof *factors; f++) {
		float by = factors[f];
		fp8_encode(x, PATTERNS, by, codes);
		for (int i = 0; i < PATTERNS; i++)
			expect_code(codes[i], e4m3_nearest((double)product(x[i], by), 1),
			            (double)x[i]);
		fp8_encode_divided(x, PATTERNS, by, codes);
		for (int i = 0; i < PATTERNS; i++)
			expect_code(codes[i], e4m3_nearest((double)quotient(x[i], by), 1),
			            (double)x[i]);
		fp8_encode_through_bf16(x, PATTERNS, by, codes);
		for (int i = 0; i < PATTERNS; i++) {
			float rounded = bf16_reference((double)quotient(x[i], by));
			expect_code(codes[i], e4m3_nearest((double)rounded, 1), (double)x[i]);
		}
	}
	free(x);
	free(codes);
}

/* NaN is one value here, whatever its payload. */
static bool same_value(float a, float b)
{
	return bits_of_float(a) == bits_of_float(b) || (isnan(a) && isnan(b));
}

static void comes_back_as_encoded(void **state)
{
	(void)state;
	static const float steps[][2] = { { 1.0f, 1.0f }, { 37.25f, 1 / 37.25f },
		{ 1e-3f, 1e3f }, { 0x1p126f, 0x1p-126f } };
	float *x = all_bf16(), *back = malloc(PATTERNS * sizeof *back);
	float *decoded = malloc(PATTERNS * sizeof *decoded);
	uint8_t *codes = malloc(PATTERNS);
	assert_true(back && decoded && codes);
	for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
		fp8_encode(x, PATTERNS, steps[s][0], codes);
		fp8_decode(codes, PATTERNS, steps[s][1], decoded);
		fp8_round_trip(x, PATTERNS, steps[s][0], steps[s][1], back);
		for (int i = 0; i < PATTERNS; i++) {
			float expected = product((float)e4m3_value(codes[i]), steps[s][1]);
			if (!same_value(decoded[i], expected) || !same_value(back[i], expected))
				fail_msg("%a: expected %a, decoded %a, came back %a", (double)x[i],
				         (double)expected, (double)decoded[i], (double)back[i]);
		}
	}
	free(x);
	free(back);
	free(decoded);
	free(codes);
}

/* Lengths around a vector's, at any offset: the same codes, and nothing beyond. */
static void lengths_do_not_matter(void **state)
{
	(void)state;
	enum { MOST = 70 };
	float x[MOST + 3], y[MOST + 1];
	uint8_t codes[MOST + 1];
	fill_random(x, MOST + 3, 500.0f, 5);
	for (size_t n = 0; n <= MOST; n++) {
		const float *from = x + n % 4;
		memset(codes, 0x55, sizeof codes);
		y[n] = 12345.0f;
		fp8_encode(from, n, 0.9f, codes);
		fp8_round_trip(from, n, 0.9f, 2.0f, y);
		for (size_t i = 0; i < n; i++) {
			expect_code(codes[i], fp8_from_float(from[i] * 0.9f), (double)from[i]);
			assert_true(y[i] == fp8_to_float(codes[i]) * 2.0f);
		}
		assert_int_equal(codes[n], 0x55);
		assert_true(y[n] == 12345.0f);
	}
}

/* ---- the check of shipped codes ---- */

/* Whether `code` is a nearest one of x / scale: -0 is 0, and of a tie both are. */
static bool is_nearest(uint8_t code, double x, double scale)
{
	double value = e4m3_value(code) * scale;
	double best = fabs(e4m3_value(e4m3_nearest(x, scale)) * scale - x);
	return !isnan(value) && fabs(value - x) == best;
}

/* Every weight with every code: found unless the code is a nearest one. Weights are
 * such that code values times scale and all differences are exact. */
static void finds_every_wrong_code(void **state)
{
	(void)state;
	const float scale = 0x1.5p-9f;
	for (int code = 0; code < 256; code++) {
		double value = e4m3_value((uint8_t)code);
		if (isnan(value))
			continue;
		for (int off = -9; off <= 9; off++) {
			/* Sixteenths of the least spacing around: on codes, borders, between. */
			double step = fmax(fabs(value) / 256, 0x1p-13);
			double exact = value + off * step;
			if (fabs(exact) > 448)
				continue;
			float w = (float)(exact * (double)scale);
			assert_true((double)w == exact * (double)scale);
			for (int shipped = 0; shipped < 256; shipped++) {
				const uint8_t candidate = (uint8_t)shipped;
				bool far = fp8_find_far(&candidate, &w, 1, scale, 0.5f) == 0;
				if (far == is_nearest(candidate, (double)w, (double)scale))
					fail_msg("weight %a, code %02x: %s", (double)w, shipped,
					         far ? "refused" : "let pass");
			}
		}
	}
}

/* With a whole step allowed, the neighbours on both sides of the exact value pass
 * and nothing else. */
static void a_step_reaches_both_neighbours(void **state)
{
	(void)state;
	for (int code = 0; code < E4M3_LARGEST; code++) {
		double low = e4m3_value((uint8_t)code), high = e4m3_value((uint8_t)(code + 1));
		const float w = (float)(low + (high - low) / 4);
		for (int shipped = 0; shipped < 128; shipped++) {
			const uint8_t candidate = (uint8_t)shipped;
			bool far = fp8_find_far(&candidate, &w, 1, 1.0f, 1.0f) == 0;
			assert_int_equal(far, shipped != code && shipped != code + 1);
		}
	}
}

static void finds_the_first_of_many(void **state)
{
	(void)state;
	enum { COUNT = 1000 };
	float w[COUNT];
	uint8_t codes[COUNT];
	fill_random(w, COUNT, 0.05f, 9);
	const float scale = 0.05f / 448;
	fp8_encode_divided(w, COUNT, scale, codes);
	assert_int_equal(fp8_find_far(codes, w, COUNT, scale, 0.5f), COUNT);
	for (size_t at = 0; at < COUNT; at++) {
		uint8_t kept = codes[at];
		for (int bit = 0; bit < 8; bit++) {
			codes[at] = (uint8_t)(kept ^ (1 << bit));
			assert_int_equal(fp8_find_far(codes, w, COUNT, scale, 0.5f), at);
		}
		codes[at] = kept;
	}
	assert_int_equal(fp8_find_far(codes, w, 0, scale, 0.5f), 0);
}

static void nan_is_always_far(void **state)
{
	(void)state;
	const uint8_t codes[2] = { 0x7F, 0xFF };
	const float w[2] = { 1.0f, -1.0f };
	const uint8_t zero = 0;
	const float nan = NAN;
	assert_int_equal(fp8_find_far(codes, w, 2, 1.0f, 1e9f), 0);
	assert_int_equal(fp8_find_far(codes + 1, w + 1, 1, 1.0f, 1e9f), 0);
	assert_int_equal(fp8_find_far(&zero, &nan, 1, 1.0f, 1e9f), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decodes_every_code),
		cmocka_unit_test(encodes_around_every_border),
		cmocka_unit_test(encodes_what_is_no_usual_number),
		cmocka_unit_test(encodes_every_bf16),
		cmocka_unit_test(comes_back_as_encoded),
		cmocka_unit_test(lengths_do_not_matter),
		cmocka_unit_test(finds_every_wrong_code),
		cmocka_unit_test(a_step_reaches_both_neighbours),
		cmocka_unit_test(finds_the_first_of_many),
		cmocka_unit_test(nan_is_always_far),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
