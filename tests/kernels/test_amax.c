/* amax with the largest element at every place of odd lengths; NaN and infinity
 * are reported wherever they stand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "kernels/amax.h"
#include "tests/support/numeric.h"

enum { MOST = 67 };

static void test_places(void **state)
{
	(void)state;
	float x[MOST];
	for (size_t n = 1; n <= MOST; n++)
		for (size_t place = 0; place < n; place++) {
			fill_random(x, n, 1, (uint32_t)n);
			x[place] = place % 2 ? -3.5f : 3.5f;
			assert_true(amax(x, n) == 3.5f);
			x[(place + 1) % n] = -INFINITY;
			assert_true(isinf(amax(x, n)) && amax(x, n) > 0);
			x[place] = -NAN;
			assert_true(isnan(amax(x, n)));
		}
}

static void test_small(void **state)
{
	(void)state;
	const float zeros[] = { -0.0f, 0.0f }, tiny[] = { 0.0f, -1e-45f };
	assert_true(amax(zeros, 2) == 0 && !signbit(amax(zeros, 2)));
	assert_true(amax(zeros, 0) == 0);
	assert_true(amax(tiny, 2) == 1e-45f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_small),
	};
	return cmocka_run_group_tests_name("kernels/amax", tests, NULL, NULL);
}
