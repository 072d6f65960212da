/* Cross entropy against float64, its gradient against the slope; logits that
 * would overflow a naive exponential; one row, odd and large vocabularies. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cross_entropy.h"
#include "tests/support/numeric.h"

struct context {
	const int32_t *targets;
	int rows, vocab;
};

static double row_loss(const double *x, int vocab, int32_t target)
{
	double largest = x[0], sum = 0;
	for (int i = 1; i < vocab; i++)
		largest = x[i] > largest ? x[i] : largest;
	for (int i = 0; i < vocab; i++)
		sum += exp(x[i] - largest);
	return largest + log(sum) - x[target];
}

static double mean_loss(const void *context, const double *x)
{
	const struct context *c = context;
	double sum = 0;
	for (int r = 0; r < c->rows; r++)
		sum += row_loss(x + r * c->vocab, c->vocab, c->targets[r]);
	return sum / c->rows;
}

enum { MOST_ROWS = 3, MOST_VOCAB = 131 };

static void check(int rows, int vocab, float magnitude)
{
	float x[MOST_ROWS * MOST_VOCAB], gradient[MOST_ROWS * MOST_VOCAB];
	float largest[MOST_ROWS], sum[MOST_ROWS];
	double losses[MOST_ROWS], row[MOST_VOCAB];
	int32_t targets[MOST_ROWS] = { vocab - 1, 0, vocab / 2 };
	size_t n = (size_t)(rows * vocab);
	fill_random(x, n, magnitude, 1);
	memcpy(gradient, x, n * sizeof *x);
	cross_entropy_forward(losses, largest, sum, x, targets, rows, vocab);
	for (int r = 0; r < rows; r++) {
		for (int i = 0; i < vocab; i++)
			row[i] = x[r * vocab + i];
		double expected = row_loss(row, vocab, targets[r]);
		assert_true(fabs(losses[r] - expected) < 1e-6 * (1 + expected));
	}
	cross_entropy_backward(gradient, largest, sum, targets, rows, vocab,
	                       1.0f / (float)rows);
	struct context c = { targets, rows, vocab };
	assert_gradient(mean_loss, &c, x, gradient, n, 1e-6);
}

static void test_shapes(void **state)
{
	(void)state;
	check(1, 1, 1);
	check(1, 5, 1);
	check(3, 16, 10);
	check(2, 131, 200); /* exp(200) has no float32 */
}

static void test_large_vocabulary(void **state)
{
	(void)state;
	enum { VOCAB = 152064 };
	float *x = malloc(VOCAB * sizeof *x);
	double *wide = malloc(VOCAB * sizeof *wide);
	assert_true(x && wide);
	fill_random(x, VOCAB, 4, 2);
	for (int i = 0; i < VOCAB; i++)
		wide[i] = x[i];
	double loss;
	float largest, sum;
	int32_t target = 151643;
	cross_entropy_forward(&loss, &largest, &sum, x, &target, 1, VOCAB);
	assert_true(fabs(loss - row_loss(wide, VOCAB, target)) < 1e-6);
	free(x);
	free(wide);
}

static void test_bits(void **state)
{
	(void)state;
	enum { VOCAB = 1300 };
	float x[2 * VOCAB], largest[2], sum[2];
	double losses[2];
	int32_t targets[2] = { 1, 1299 };
	fill_random(x, 2 * VOCAB, 6, 3);
	cross_entropy_forward(losses, largest, sum, x, targets, 2, VOCAB);
	cross_entropy_backward(x, largest, sum, targets, 2, VOCAB, 0.5f);
	assert_int_equal(hash_floats(sum, 2), 0xa13ff539365955fbu);
	assert_int_equal(hash_floats(x, 2 * VOCAB), 0x7b4b8329183d174eu);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_large_vocabulary),
		cmocka_unit_test(test_bits),
	};
	return cmocka_run_group_tests_name("kernels/cross_entropy", tests, NULL, NULL);
}
