/* exp_portable against libm's float64 exp: error in ulps over the whole range,
 * the ends of the range, and what is no number. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "kernels/portable.h"

#include "kernels/exp.h"

static double error_in_ulps(float x)
{
	double exact = exp((double)x);
	float found = exp_portable(x);
	if (isinf(found))
		return exact > 3.4028235677973366e38 ? 0 : INFINITY;
	float nearest = (float)exact;
	float spacing = nextafterf(nearest, INFINITY) - nearest;
	return fabs((double)found - exact) / (double)spacing;
}

/* Every 97th float from -105 to 90: about 23 million in all, through every
 * exponent, subnormal arguments included. */
static void test_error(void **state)
{
	(void)state;
	double worst = 0;
	float at = 0;
	for (int sign = 0; sign < 2; sign++)
		for (uint32_t bits = 0; bits <= bits_of_float(105.0f); bits += 97) {
			float x = float_of_bits(bits | (uint32_t)sign << 31);
			if (x > 90.0f)
				break;
			double error = error_in_ulps(x);
			if (error > worst) {
				worst = error;
				at = x;
			}
		}
	print_message("largest error %.3f ulp, at %a\n", worst, (double)at);
	assert_true(worst <= 1.0);
}

static void test_ends(void **state)
{
	(void)state;
	assert_true(exp_portable(0.0f) == 1.0f);
	assert_true(exp_portable(-0.0f) == 1.0f);
	assert_true(isfinite(exp_portable(88.7228f)));
	assert_true(isinf(exp_portable(88.7229f)));
	assert_true(isinf(exp_portable(1e30f)));
	assert_true(isinf(exp_portable(INFINITY)));
	assert_true(exp_portable(-103.9f) > 0.0f);
	assert_true(exp_portable(-104.1f) == 0.0f);
	assert_true(exp_portable(-INFINITY) == 0.0f);
	assert_true(isnan(exp_portable(NAN)));
	assert_true(isnan(exp_portable(-NAN)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_error),
		cmocka_unit_test(test_ends),
	};
	return cmocka_run_group_tests_name("kernels/exp", tests, NULL, NULL);
}
