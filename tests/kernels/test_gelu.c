/* gelu against libm's float64 erf and its slope; the same bits one element at a
 * time as in one sweep, and as when they were checked. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "kernels/gelu.h"
#include "tests/support/numeric.h"

enum { N = 4003 };

static double gelu(double x)
{
	return 0.5 * x * (1 + erf(x * M_SQRT1_2));
}

/* -8 to 8, ends and zero included. */
static void fill(float *x)
{
	for (int i = 0; i < N; i++)
		x[i] = (float)(16.0 * i / (N - 1) - 8.0);
	x[0] = 0;
	x[1] = 100;
	x[2] = -100;
}

static void test_forward(void **state)
{
	(void)state;
	float x[N], y[N];
	double expected[N];
	fill(x);
	for (int i = 0; i < N; i++)
		expected[i] = gelu(x[i]);
	gelu_forward(y, x, N);
	assert_close(y, expected, N, 3e-7);
}

static double loss(const void *context, const double *x)
{
	return gelu(*x) * *(const float *)context;
}

static void test_backward(void **state)
{
	(void)state;
	float x[N], dy[N], dx[N];
	fill(x);
	fill_random(dy, N, 2, 1);
	gelu_backward(dx, dy, x, N);
	for (int i = 0; i < N; i++)
		assert_gradient(loss, &dy[i], &x[i], &dx[i], 1, 1e-6);
}

static void test_bits(void **state)
{
	(void)state;
	float x[N], y[N], dx[N];
	fill(x);
	gelu_forward(y, x, N);
	gelu_backward(dx, y, x, N);
	for (int i = 0; i < N; i++) {
		float one, slope;
		gelu_forward(&one, x + i, 1);
		gelu_backward(&slope, y + i, x + i, 1);
		assert_true(one == y[i] && slope == dx[i]);
	}
	assert_int_equal(hash_floats(y, N), 0xfe582e5c98fb6384u);
	assert_int_equal(hash_floats(dx, N), 0x739e63b8de3ed7a5u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forward),
		cmocka_unit_test(test_backward),
		cmocka_unit_test(test_bits),
	};
	return cmocka_run_group_tests_name("kernels/gelu", tests, NULL, NULL);
}
