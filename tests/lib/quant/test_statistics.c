/* Statistics against figures worked out by hand. */
#include "lib/quant/statistics.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void near(double found, double expected)
{
	if (fabs(found - expected) > 1e-12)
		fail_msg("expected %.15g, found %.15g", expected, found);
}

static void test_mean_and_error(void **state)
{
	const double values[] = { 1, 2, 3, 4 };
	struct estimate e = estimate_ratio(values, NULL, 4);
	(void)state;
	near(e.mean, 2.5);
	near(e.error, sqrt(5.0 * 4 / 3) / 4); /* the usual s / sqrt(n) */
	near(e.error, sqrt(5.0 / 3) / 2);
}

static void test_ratio_of_sums(void **state)
{
	/* Equal ratios in all samples: no error, however unequal the samples are. */
	const double values[] = { 2, 6, 0 }, weights[] = { 1, 3, 0 };
	struct estimate e = estimate_ratio(values, weights, 3);
	(void)state;
	near(e.mean, 2);
	near(e.error, 0);
}

static void test_one_sample_has_no_error(void **state)
{
	const double values[] = { 3, 8 }, weights[] = { 2, 0 };
	(void)state;
	near(estimate_ratio(values, weights, 2).mean, 1.5);
	near(estimate_ratio(values, weights, 2).error, -1);
	near(estimate_ratio(values, weights, 0).error, -1);
}

static void test_quantiles(void **state)
{
	double values[200], five[] = { 5, 1, 4, 2, 3 }, four[] = { 4, 1, 3, 2 };
	(void)state;
	for (int i = 0; i < 200; i++)
		values[i] = 200 - i;
	near(quantile(values, 200, 0.99), 198);
	near(quantile(values, 200, 1), 200);
	near(median(five, 5), 3);
	near(median(four, 4), 2.5);
}

static void test_rank_correlation(void **state)
{
	const double a[] = { 1, 2, 3, 4, 5 }, up[] = { 10, 20, 30, 40, 500 };
	const double down[] = { 5, 4, 3, 2, 1 }, flat[] = { 1, 1, 1, 1, 1 };
	const double ties[] = { 1, 2, 2, 4, 5 };
	double r;
	error err;
	(void)state;
	assert_true(rank_correlation(a, up, 5, &r, &err));
	near(r, 1);
	assert_true(rank_correlation(a, down, 5, &r, &err));
	near(r, -1);
	assert_true(rank_correlation(a, flat, 5, &r, &err));
	near(r, 0);
	/* ranks 0 1.5 1.5 3 4: covariance 9.5, squares 10 and 9.5 */
	assert_true(rank_correlation(a, ties, 5, &r, &err));
	near(r, 9.5 / sqrt(10 * 9.5));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mean_and_error),
		cmocka_unit_test(test_ratio_of_sums),
		cmocka_unit_test(test_one_sample_has_no_error),
		cmocka_unit_test(test_quantiles),
		cmocka_unit_test(test_rank_correlation),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
