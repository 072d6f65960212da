/* Rows of logits against the definition in long double. */
#include "kernels/divergence.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { VOCAB = 1003, ROWS = 5 };

static float noise(uint32_t *state, float size)
{
	*state = *state * 1664525u + 1013904223u;
	return ((float)(*state >> 8) / 8388608.0f - 1) * size;
}

static long double log_sum(const float *x, int n)
{
	long double largest = x[0], sum = 0;
	for (int i = 1; i < n; i++)
		largest = x[i] > largest ? x[i] : largest;
	for (int i = 0; i < n; i++)
		sum += expl((long double)x[i] - largest);
	return largest + logl(sum);
}

static long double defined_kl(const float *p, const float *q, int n)
{
	long double lp = log_sum(p, n), lq = log_sum(q, n), kl = 0;
	for (int i = 0; i < n; i++)
		kl += expl(p[i] - lp) * ((p[i] - lp) - (q[i] - lq));
	return kl;
}

static void test_meets_the_definition(void **state)
{
	static const float sizes[] = { 3, 0.3f, 0.01f };
	float base[ROWS * VOCAB], other[ROWS * VOCAB];
	struct divergence d[ROWS];
	uint32_t seed = 7;
	(void)state;
	for (int s = 0; s < 3; s++) {
		for (int i = 0; i < ROWS * VOCAB; i++) {
			base[i] = noise(&seed, 12);
			other[i] = base[i] + noise(&seed, sizes[s]);
		}
		divergence_of_rows(d, base, other, ROWS, VOCAB);
		for (int row = 0; row < ROWS; row++) {
			double kl = (double)defined_kl(base + row * VOCAB, other + row * VOCAB, VOCAB);
			double squared = 0;
			for (int i = row * VOCAB; i < (row + 1) * VOCAB; i++)
				squared += ((double)base[i] - other[i]) * ((double)base[i] - other[i]);
			assert_true(fabs(d[row].kl - kl) <= 1e-4 * kl + 2e-8);
			assert_true(fabs(d[row].squared * VOCAB / squared - 1) < 1e-12);
		}
	}
}

static void test_equal_rows_are_exactly_equal(void **state)
{
	float base[VOCAB];
	struct divergence d;
	uint32_t seed = 3;
	(void)state;
	for (int i = 0; i < VOCAB; i++)
		base[i] = noise(&seed, 30);
	divergence_of_rows(&d, base, base, 1, VOCAB);
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
		cmocka_unit_test(test_meets_the_definition),
		cmocka_unit_test(test_equal_rows_are_exactly_equal),
		cmocka_unit_test(test_agreement_is_of_the_first_largest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
