/* The score's sum: against float64, in the order that its header promises, at every
 * length around a vector's; differences in place. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/score.h"
#include "tests/support/numeric.h"

#include <cmocka.h>

enum { MANY = 100003, LANES_TAKEN = 16 };

/* Element i goes to lane i % 16; lanes are then added pairwise, upper half to lower. */
static double sum_in_order(const float *g, const float *d, size_t n)
{
	double lanes[LANES_TAKEN] = { 0 };
	for (size_t i = 0; i < n; i++) {
		volatile float product = g[i] * d[i];
		volatile double square = (double)product * (double)product;
		lanes[i % LANES_TAKEN] += square;
	}
	for (int step = LANES_TAKEN / 2; step; step /= 2)
		for (int lane = 0; lane < step; lane++)
			lanes[lane] += lanes[lane + step];
	return lanes[0];
}

static void fill(float **g, float **d, size_t n)
{
	*g = malloc(n * sizeof **g);
	*d = malloc(n * sizeof **d);
	assert_true(*g && *d);
	fill_random(*g, n, 1e-3f, 1);
	fill_random(*d, n, 2.0f, 2);
}

static void sums_what_it_says(void **state)
{
	(void)state;
	float *g, *d;
	double naive = 0;
	fill(&g, &d, MANY);
	for (size_t i = 0; i < MANY; i++)
		naive += (double)g[i] * (double)d[i] * (double)g[i] * (double)d[i];
	double found = sum_squared_products(g, d, MANY);
	/* One float32 rounding of each product, in random directions. */
	assert_true(fabs(found - naive) <= 1e-8 * naive);
	assert_true(naive > 0);
	free(g);
	free(d);
}

static void the_order_is_fixed(void **state)
{
	(void)state;
	float *g, *d;
	fill(&g, &d, MANY);
	for (size_t n = 0; n <= 100; n++)
		for (size_t from = 0; from < 5; from++)
			assert_true(sum_squared_products(g + from, d + 2 * from, n) ==
			            sum_in_order(g + from, d + 2 * from, n));
	assert_true(sum_squared_products(g, d, MANY) == sum_in_order(g, d, MANY));
	assert_true(sum_squared_products(g, d, 0) == 0);
	free(g);
	free(d);
}

/* Squares of small scores leave float32's range long before float64's. */
static void small_and_large_products_count(void **state)
{
	(void)state;
	const float tiny = 1e-15f, huge = 1e15f;
	const float products[2] = { tiny * tiny, huge * huge };
	assert_true(sum_squared_products(&tiny, &tiny, 1) ==
	            (double)products[0] * (double)products[0]);
	assert_true(sum_squared_products(&huge, &huge, 1) ==
	            (double)products[1] * (double)products[1]);
}

static void what_is_no_number_shows(void **state)
{
	(void)state;
	float g[40], d[40];
	fill_random(g, 40, 1.0f, 3);
	fill_random(d, 40, 1.0f, 4);
	for (size_t i = 0; i < 40; i++) {
		float kept = g[i];
		g[i] = NAN;
		assert_true(isnan(sum_squared_products(g, d, 40)));
		g[i] = INFINITY;
		assert_true(isinf(sum_squared_products(g, d, 40)));
		g[i] = kept;
	}
	const float most = FLT_MAX;
	assert_true(isinf(sum_squared_products(&most, &most, 1)));
}

static void subtracts_in_place(void **state)
{
	(void)state;
	enum { COUNT = 77 };
	float plain[COUNT], perturbed[COUNT], apart[COUNT + 1];
	fill_random(plain, COUNT, 3.0f, 5);
	fill_random(perturbed, COUNT, 3.0f, 6);
	for (size_t n = 0; n <= COUNT; n++) {
		float inside[COUNT];
		memcpy(inside, perturbed, sizeof inside);
		apart[n] = 7.0f;
		subtract(apart, perturbed, plain, n);
		subtract(inside, inside, plain, n);
		assert_true(apart[n] == 7.0f);
		for (size_t i = 0; i < n; i++)
			assert_true(apart[i] == perturbed[i] - plain[i] && inside[i] == apart[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_what_it_says),
		cmocka_unit_test(the_order_is_fixed),
		cmocka_unit_test(small_and_large_products_count),
		cmocka_unit_test(what_is_no_number_shows),
		cmocka_unit_test(subtracts_in_place),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
