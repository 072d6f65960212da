/* rope against the rotation of complex numbers in float64; the backward undoes
 * the forward, which for a rotation is its transpose too. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/rope.h"
#include "tests/support/numeric.h"

enum { ROWS = 5, HEADS = 3, MOST_DIM = 80, MOST_STRIDE = 260 };

struct angles {
	float cosine[ROWS * MOST_DIM / 2], sine[ROWS * MOST_DIM / 2];
};

static void fill_angles(struct angles *a, int n)
{
	float angle[ROWS * MOST_DIM / 2];
	fill_random(angle, (size_t)n, 3, 1);
	for (int i = 0; i < n; i++) {
		a->cosine[i] = cosf(angle[i]);
		a->sine[i] = sinf(angle[i]);
	}
}

static void check(int head_dim, int stride)
{
	struct angles a;
	float x[ROWS * MOST_STRIDE], turned[ROWS * MOST_STRIDE];
	double expected[ROWS * MOST_STRIDE], original[ROWS * MOST_STRIDE];
	int half = head_dim / 2;
	fill_angles(&a, ROWS * half);
	fill_random(x, sizeof x / sizeof *x, 1, 2);
	memcpy(turned, x, sizeof x);
	for (int i = 0; i < ROWS * stride; i++)
		expected[i] = original[i] = x[i];
	for (int r = 0; r < ROWS; r++)
		for (int h = 0; h < HEADS; h++)
			for (int i = 0; i < half; i++) {
				int low = r * stride + h * head_dim + i, high = low + half;
				double c = a.cosine[r * half + i], s = a.sine[r * half + i];
				expected[low] = original[low] * c - original[high] * s;
				expected[high] = original[low] * s + original[high] * c;
			}
	rope_forward(turned, stride, a.cosine, a.sine, ROWS, HEADS, head_dim);
	assert_close(turned, expected, (size_t)(ROWS * stride), 1e-6);
	rope_backward(turned, stride, a.cosine, a.sine, ROWS, HEADS, head_dim);
	assert_close(turned, original, (size_t)(ROWS * stride), 1e-6);
}

static void test_shapes(void **state)
{
	(void)state;
	check(80, 240);
	check(80, 251); /* more than heads in a row: the rest must stay as it is */
	check(32, 96);
	check(6, 18);
	check(2, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_shapes) };
	return cmocka_run_group_tests_name("kernels/rope", tests, NULL, NULL);
}
