/* FP4: all 16 codes, and the nearest of them for every BF16 number. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
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
	}
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
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
