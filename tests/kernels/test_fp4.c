/* FP4: all 16 codes, and the nearest of them for every BF16 number. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "kernels/bits.h"
#include "kernels/fp4.h"

#include <cmocka.h>

static const float VALUES[8] = { 0, 0.5f, 1, 1.5f, 2, 3, 4, 6 };

static void test_codes(void **state)
{
	(void)state;
	for (unsigned code = 0; code < 16; code++) {
		float value = fp4_to_float((uint8_t)code);
		assert_true(fabsf(value) == VALUES[code & 7]);
		assert_int_equal(!!signbit(value), code >> 3);
		assert_int_equal(fp4_from_float(value), code);
	}
}

/* The nearest magnitude, a tie to the even code. */
static unsigned nearest(double magnitude)
{
	unsigned best = 0;
	for (unsigned code = 1; code < 8; code++) {
		double now = fabs((double)VALUES[code] - magnitude);
		double before = fabs((double)VALUES[best] - magnitude);
		if (now < before || (now == before && code % 2 == 0))
			best = code;
	}
	return best;
}

static void test_every_bf16(void **state)
{
	(void)state;
	for (uint32_t upper = 0; upper < 65536; upper++) {
		float x = float_of_bits(upper << 16), y;
		if (isnan(x))
			continue;
		unsigned expected = nearest(fmin(fabs((double)x), 1e6)) | (upper >> 15) << 3;
		assert_int_equal(fp4_from_float(x), expected);
		fp4_round_trip(&x, 1, 1.0f, &y);
		assert_true(y == fp4_to_float((uint8_t)expected));
		uint8_t code;
		fp4_encode(&x, 1, 1.0f, &code);
		assert_int_equal(code, x == 0 ? 0 : expected);
		fp4_decode(&code, 1, 0.5f, &y);
		assert_true(y == fp4_to_float((uint8_t)expected) / 2);
	}
}

/* With half a step only the nearest codes pass, of a tie both; beyond 6 the last one
 * passes for another half step. */
static void test_find_far(void **state)
{
	(void)state;
	for (uint32_t upper = 0; upper < 0x4100; upper++) {
		const float w = -float_of_bits(upper << 16);
		double least = 1e9, m = fabs((double)w);
		for (int code = 0; code < 8; code++)
			least = fmin(least, fabs((double)VALUES[code] - m));
		for (unsigned code = 0; code < 16; code++) {
			const uint8_t shipped = (uint8_t)code;
			double off = fabs((double)fp4_to_float(shipped) - (double)w);
			bool near = off <= least && m <= 7;
			size_t found = fp4_find_far(&shipped, &w, 1, 1.0f, 0.5f);
			if ((found == 1) != near)
				fail_msg("%g as %u: %s", (double)w, code, found ? "let pass" : "refused");
		}
	}
	const uint8_t codes[2] = { 2, 9 };
	const float w[2] = { 2, -4 }, nan = NAN;
	assert_int_equal(fp4_find_far(codes, w, 2, 2.0f, 0.5f), 1);
	assert_int_equal(fp4_find_far(codes, &nan, 1, 2.0f, 1e9f), 0);
}

static void test_scale(void **state)
{
	const float x[] = { 0.75f, -9, 100, -0.125f };
	float y[4];
	(void)state;
	fp4_round_trip(x, 4, 0.5f, y);
	/* 1.5, -18 (saturates), 200 (saturates), -0.25 (a tie, to 0) */
	assert_true(y[0] == 0.75f && y[1] == -3 && y[2] == 3 && y[3] == 0);
	assert_int_equal(fp4_from_float(NAN) & 7, 7);
	assert_int_equal(fp4_from_float(INFINITY), 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_codes),
		cmocka_unit_test(test_every_bf16),
		cmocka_unit_test(test_scale),
		cmocka_unit_test(test_find_far),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
