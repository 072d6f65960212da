/* matmul against sums in float64, over odd shapes, strides, with and without
 * bias and accumulation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kernels/matmul.h"
#include "tests/support/numeric.h"

enum { MOST = 64 * 400 };

struct buffers {
	float x[MOST], weight[MOST * 4], bias[512], y[MOST];
	double expected[MOST];
};

static int start(void **state)
{
	matmul_threads(1);
	*state = malloc(sizeof(struct buffers));
	return *state ? 0 : -1;
}

static int stop(void **state)
{
	free(*state);
	return 0;
}

static void fill(struct buffers *b, int rows, int out, int in)
{
	fill_random(b->x, (size_t)rows * (size_t)(in > out ? in : out), 1, 1);
	fill_random(b->weight, (size_t)out * (size_t)in, 1, 2);
	fill_random(b->bias, (size_t)out, 1, 3);
}

static void check_forward(struct buffers *b, int rows, int out, int in, int stride,
                          const float *bias)
{
	fill(b, rows, out, in);
	for (int i = 0; i < rows * stride; i++)
		b->y[i] = -7;
	matmul_forward(b->y, stride, b->x, b->weight, bias, rows, out, in);
	for (int r = 0; r < rows; r++)
		for (int o = 0; o < stride; o++) {
			double sum = o >= out ? -7 : bias ? bias[o] : 0;
			for (int i = 0; i < in && o < out; i++)
				sum += (double)b->x[r * in + i] * b->weight[o * in + i];
			b->expected[r * stride + o] = sum;
		}
	assert_close(b->y, b->expected, (size_t)(rows * stride), 1e-5);
}

static void check_backward(struct buffers *b, int rows, int out, int in, int stride,
                           bool accumulate)
{
	fill(b, rows, stride, in);
	fill_random(b->weight, (size_t)out * (size_t)in, 1, 2);
	for (int i = 0; i < rows * in; i++)
		b->y[i] = 3;
	matmul_backward(b->y, b->x, stride, b->weight, rows, out, in, accumulate);
	for (int r = 0; r < rows; r++)
		for (int i = 0; i < in; i++) {
			double sum = accumulate ? 3 : 0;
			for (int o = 0; o < out; o++)
				sum += (double)b->x[r * stride + o] * b->weight[o * in + i];
			b->expected[r * in + i] = sum;
		}
	assert_close(b->y, b->expected, (size_t)(rows * in), 1e-5);
}

static const int shapes[][3] = { { 1, 1, 1 },   { 1, 37, 53 },  { 2, 3, 1 },
	                         { 3, 1, 129 }, { 16, 16, 80 }, { 7, 85, 160 },
	                         { 33, 65, 31 }, { 64, 128, 100 } };

static void test_forward(void **state)
{
	struct buffers *b = *state;
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
		const int *s = shapes[i];
		check_forward(b, s[0], s[1], s[2], s[1], NULL);
		check_forward(b, s[0], s[1], s[2], s[1], b->bias);
		check_forward(b, s[0], s[1], s[2], s[1] + 5, b->bias);
	}
}

static void test_backward(void **state)
{
	struct buffers *b = *state;
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
		const int *s = shapes[i];
		check_backward(b, s[0], s[1], s[2], s[1], false);
		check_backward(b, s[0], s[1], s[2], s[1], true);
		check_backward(b, s[0], s[1], s[2], s[1] + 3, true);
	}
}

/* The bits must not depend on what was computed before. */
static void test_repeats(void **state)
{
	struct buffers *b = *state;
	fill(b, 60, 300, 77);
	matmul_forward(b->y, 300, b->x, b->weight, b->bias, 60, 300, 77);
	uint64_t first = hash_floats(b->y, 60 * 300);
	matmul_forward(b->y, 300, b->x, b->weight, b->bias, 60, 300, 77);
	assert_true(hash_floats(b->y, 60 * 300) == first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forward),
		cmocka_unit_test(test_backward),
		cmocka_unit_test(test_repeats),
	};
	return cmocka_run_group_tests_name("kernels/matmul", tests, start, stop);
}
