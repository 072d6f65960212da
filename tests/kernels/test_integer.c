/* Small integers: every code, every BF16 number, ties and clamping. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "kernels/bits.h"
#include "kernels/integer.h"

#include <cmocka.h>

static void test_codes(void **state)
{
	(void)state;
	for (int code = -128; code <= 127; code++) {
		float x = (float)code * 0.375f, y;
		int8_t found;
		integer_encode(&x, 1, 0.375f, -128, 127, &found);
		assert_int_equal(found, code);
		integer_decode(&found, 1, 0.375f, &y);
		assert_true(y == x);
		integer_round_trip(&x, 1, 0.375f, -128, 127, &y);
		assert_true(y == x);
	}
}

static int expected_code(double v, int low, int high)
{
	double rounded = nearbyint(v);
	return rounded < low ? low : rounded > high ? high : (int)rounded;
}

static void check_every_bf16(int low, int high, float scale)
{
	for (uint32_t upper = 0; upper < 65536; upper++) {
		float x = float_of_bits(upper << 16), y;
		int8_t code;
		if (isnan(x))
			continue;
		int expected = expected_code((double)(x / scale), low, high);
		integer_round_trip(&x, 1, scale, low, high, &y);
		assert_true(y == (float)expected * scale);
		integer_encode(&x, 1, scale, low, high, &code);
		assert_int_equal(code, expected);
		expected = expected_code((double)(x * scale), low, high);
		integer_round_trip_divided(&x, 1, scale, low, high, scale, &y);
		assert_true(y == (float)expected / scale);
	}
}

static void test_every_bf16(void **state)
{
	(void)state;
	check_every_bf16(-128, 127, 1);
	check_every_bf16(-128, 127, 0.0123f);
	check_every_bf16(-8, 7, 3.7f);
}

static void test_ties(void **state)
{
	const float x[] = { 0.5f, 1.5f, -2.5f, 126.5f, 127.5f, -128.5f, 1e30f, -INFINITY };
	const int expected[] = { 0, 2, -2, 126, 127, -128, 127, -128 };
	int8_t codes[8];
	(void)state;
	integer_encode(x, 8, 1, -128, 127, codes);
	for (int i = 0; i < 8; i++)
		assert_int_equal(codes[i], expected[i]);
}

/* Half a step: only the nearest code passes, and both of a tie. */
static void test_find_far(void **state)
{
	(void)state;
	for (uint32_t upper = 0x3F00; upper < 0x4200; upper++) {
		const float w = -float_of_bits(upper << 16), scale = 0.25f;
		double exact = (double)(w / scale);
		for (int code = -128; code <= 127; code++) {
			const int8_t shipped = (int8_t)code;
			bool near = fabs((double)code - exact) <= 0.5;
			assert_int_equal(integer_find_far(&shipped, &w, 1, scale, 0.5f), near);
			near = fabs((double)code - exact) <= 1;
			assert_int_equal(integer_find_far(&shipped, &w, 1, scale, 1), near);
		}
	}
	const int8_t codes[3] = { 1, 2, 5 };
	const float w[3] = { 1, 2, 3 }, nan = NAN;
	assert_int_equal(integer_find_far(codes, w, 3, 1, 0.5f), 2);
	assert_int_equal(integer_find_far(codes, w, 2, 1, 0.5f), 2);
	assert_int_equal(integer_find_far(codes, &nan, 1, 1, 1e9f), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_codes),
		cmocka_unit_test(test_every_bf16),
		cmocka_unit_test(test_ties),
		cmocka_unit_test(test_find_far),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
