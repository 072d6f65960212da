/* KL divergence against float64: sum of P (log P - log Q), with Q - P, which adds up to
 * nothing, added to every term, or float64 would cancel too. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include "kernels/divergence.h"
#include "tests/support/numeric.h"

#include <cmocka.h>

enum { ROWS = 3, VOCAB = 1003 };

static double log_sum(const float *x)
{
	double sum = 0, most = x[0];
	for (int i = 0; i < VOCAB; i++)
		most = fmax(most, (double)x[i]);
	for (int i = 0; i < VOCAB; i++)
		sum += exp((double)x[i] - most);
	return most + log(sum);
}

static double expected(const float *p, const float *q)
{
	double total = 0;
	for (int row = 0; row < ROWS; row++, p += VOCAB, q += VOCAB) {
		double zp = log_sum(p), zq = log_sum(q);
		for (int i = 0; i < VOCAB; i++) {
			double lp = (double)p[i] - zp, lq = (double)q[i] - zq;
			total += exp(lp) * (expm1(lq - lp) + (lp - lq));
		}
	}
	return total;
}

static void compare(float apart, double tolerance)
{
	static float p[ROWS * VOCAB], q[ROWS * VOCAB];
	fill_random(p, ROWS * VOCAB, 20, 1);
	fill_random(q, ROWS * VOCAB, apart, 2);
	for (int i = 0; i < ROWS * VOCAB; i++)
		q[i] += p[i];
	double found = divergence(p, q, ROWS, VOCAB), truth = expected(p, q);
	if (!(fabs(found - truth) <= tolerance * truth))
		fail_msg("%g apart: expected %.9g, found %.9g", (double)apart, truth, found);
}

static void test_definition(void **state)
{
	(void)state;
	compare(10, 1e-6);
	compare(1, 1e-6);
	compare(1e-2f, 1e-6);
	compare(1e-4f, 1e-5);
}

static void test_equal(void **state)
{
	static float p[ROWS * VOCAB];
	(void)state;
	fill_random(p, ROWS * VOCAB, 30, 3);
	assert_true(divergence(p, p, ROWS, VOCAB) == 0);
	assert_true(divergence(p, p, 0, VOCAB) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_definition),
		cmocka_unit_test(test_equal),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
