/* rmsnorm against its formula in float64, the backward against the formula's
 * slope, and both against the bits they had when they were checked. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/rmsnorm.h"
#include "tests/support/numeric.h"

enum { ROWS = 3, WIDTH = 85 };
static const float eps = 1e-6f;

struct context {
	const float *weight, *dy;
	int rows, width;
};

static void normalise(const struct context *c, const double *x, double *y)
{
	for (int r = 0; r < c->rows; r++) {
		double squares = 0;
		for (int i = 0; i < c->width; i++)
			squares += x[r * c->width + i] * x[r * c->width + i];
		double scale = 1 / sqrt(squares / c->width + (double)eps);
		for (int i = 0; i < c->width; i++)
			y[r * c->width + i] = x[r * c->width + i] * scale * c->weight[i];
	}
}

static double loss(const void *context, const double *x)
{
	const struct context *c = context;
	double y[ROWS * WIDTH], sum = 0;
	normalise(c, x, y);
	for (int i = 0; i < c->rows * c->width; i++)
		sum += y[i] * c->dy[i];
	return sum;
}

static void check(int rows, int width, float magnitude)
{
	float x[ROWS * WIDTH], weight[WIDTH], dy[ROWS * WIDTH], y[ROWS * WIDTH];
	float dx[ROWS * WIDTH];
	double x64[ROWS * WIDTH], expected[ROWS * WIDTH];
	size_t n = (size_t)(rows * width);
	fill_random(x, n, magnitude, 1);
	fill_random(weight, (size_t)width, 2, 2);
	fill_random(dy, n, 1, 3);
	struct context c = { weight, dy, rows, width };
	for (size_t i = 0; i < n; i++)
		x64[i] = x[i];
	normalise(&c, x64, expected);
	rmsnorm_forward(y, x, weight, rows, width, eps);
	assert_close(y, expected, n, 2e-6);
	memset(dx, 0, sizeof dx);
	rmsnorm_backward(dx, dy, x, weight, rows, width, eps);
	assert_gradient(loss, &c, x, dx, n, 1e-5);
}

static void test_shapes(void **state)
{
	(void)state;
	check(1, 1, 1);
	check(1, 16, 1);
	check(3, 17, 1);
	check(2, 64, 30);
	check(3, 85, 1);
}

static void test_backward_adds(void **state)
{
	(void)state;
	float x[20], weight[20], dy[20], from_zero[20] = { 0 }, from_one[20];
	fill_random(x, 20, 1, 4);
	fill_random(weight, 20, 1, 5);
	fill_random(dy, 20, 1, 6);
	for (int i = 0; i < 20; i++)
		from_one[i] = 1;
	rmsnorm_backward(from_zero, dy, x, weight, 1, 20, eps);
	rmsnorm_backward(from_one, dy, x, weight, 1, 20, eps);
	for (int i = 0; i < 20; i++)
		assert_true(fabsf(from_one[i] - 1 - from_zero[i]) < 1e-6f);
}

static void test_zero_row(void **state)
{
	(void)state;
	float x[18] = { 0 }, weight[18], y[18];
	fill_random(weight, 18, 1, 7);
	rmsnorm_forward(y, x, weight, 1, 18, eps);
	for (int i = 0; i < 18; i++)
		assert_true(y[i] == 0);
}

static void test_bits(void **state)
{
	(void)state;
	float x[ROWS * WIDTH], weight[WIDTH], dy[ROWS * WIDTH], y[ROWS * WIDTH];
	fill_random(x, ROWS * WIDTH, 3, 8);
	fill_random(weight, WIDTH, 1, 9);
	fill_random(dy, ROWS * WIDTH, 1, 10);
	rmsnorm_forward(y, x, weight, ROWS, WIDTH, eps);
	rmsnorm_backward(dy, y, x, weight, ROWS, WIDTH, eps);
	assert_int_equal(hash_floats(y, ROWS * WIDTH), 0xf4744dfaca55fee9u);
	assert_int_equal(hash_floats(dy, ROWS * WIDTH), 0x2152ef67f1005f4u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_backward_adds),
		cmocka_unit_test(test_zero_row),
		cmocka_unit_test(test_bits),
	};
	return cmocka_run_group_tests_name("kernels/rmsnorm", tests, NULL, NULL);
}
