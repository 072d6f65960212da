/* Rows of logits against float64: sum of P (log P - log Q), with Q - P, which adds up to
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
	double total = 0, zp = log_sum(p), zq = log_sum(q);
	for (int i = 0; i < VOCAB; i++) {
		double lp = (double)p[i] - zp, lq = (double)q[i] - zq;
		total += exp(lp) * (expm1(lq - lp) + (lp - lq));
	}
	return total;
}

static double expected_squared(const float *p, const float *q)
{
	double total = 0;
	for (int i = 0; i < VOCAB; i++)
		total += ((double)p[i] - q[i]) * ((double)p[i] - q[i]);
	return total / VOCAB;
}

static void check(const char *what, float apart, double found, double truth,
                  double tolerance)
{
	if (!(fabs(found - truth) <= tolerance * truth))
		fail_msg("%s, %g apart: expected %.9g, found %.9g", what, (double)apart, truth,
		         found);
}

static void compare(float apart, double tolerance)
{
	static float p[ROWS * VOCAB], q[ROWS * VOCAB];
	struct divergence rows[ROWS];
	double total = 0;
	fill_random(p, ROWS * VOCAB, 20, 1);
	fill_random(q, ROWS * VOCAB, apart, 2);
	for (int i = 0; i < ROWS * VOCAB; i++)
		q[i] += p[i];
	divergence_of_rows(rows, p, q, ROWS, VOCAB);
	for (int row = 0; row < ROWS; row++) {
		const float *a = p + row * VOCAB, *b = q + row * VOCAB;
		total += expected(a, b);
		check("KL of a row", apart, rows[row].kl, expected(a, b), tolerance);
		check("squared", apart, rows[row].squared, expected_squared(a, b), 1e-12);
	}
	check("KL", apart, divergence(p, q, ROWS, VOCAB), total, tolerance);
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
	struct divergence d;
	divergence_of_rows(&d, p, p, 1, VOCAB);
	assert_true(d.kl == 0 && d.squared == 0 && d.agrees == 1);
}

static void test_agreement_is_of_the_first_largest(void **state)
{
	const float base[] = { 1, 5, 5, 0 }, first[] = { 0, 2, 1, 2 }, later[] = { 0, 1, 2, 2 };
	struct divergence d;
	(void)state;
	divergence_of_rows(&d, base, first, 1, 4);
	assert_int_equal(d.agrees, 1);
	divergence_of_rows(&d, base, later, 1, 4);
	assert_int_equal(d.agrees, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_definition),
		cmocka_unit_test(test_equal),
		cmocka_unit_test(test_agreement_is_of_the_first_largest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
