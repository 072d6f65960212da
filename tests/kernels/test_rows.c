/* Moving rows and adding them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "kernels/add.h"
#include "kernels/rows.h"
#include "tests/support/numeric.h"

enum { ROWS = 5, WIDTH = 7 };

static void test_gather_and_scatter(void **state)
{
	(void)state;
	float x[ROWS * WIDTH], picked[3 * WIDTH], back[ROWS * WIDTH] = { 0 };
	const int32_t index[3] = { 4, 0, 2 };
	fill_random(x, ROWS * WIDTH, 1, 1);
	gather_rows(picked, x, index, 3, WIDTH);
	for (int i = 0; i < 3; i++)
		assert_memory_equal(picked + i * WIDTH, x + index[i] * WIDTH,
		                    WIDTH * sizeof(float));
	scatter_rows(back, picked, index, 3, WIDTH);
	for (int r = 0; r < ROWS; r++)
		for (int i = 0; i < WIDTH; i++)
			assert_true(back[r * WIDTH + i] ==
			            (r % 2 ? 0.0f : x[r * WIDTH + i]));
}

static void test_add(void **state)
{
	(void)state;
	float a[ROWS * WIDTH], b[ROWS * WIDTH], sum[ROWS * WIDTH];
	fill_random(a, ROWS * WIDTH, 1, 1);
	fill_random(b, ROWS * WIDTH, 1, 2);
	add(sum, a, b, ROWS * WIDTH);
	add(b, a, b, ROWS * WIDTH);
	for (int i = 0; i < ROWS * WIDTH; i++)
		assert_true(sum[i] == b[i]);
	add(a, a, a, ROWS * WIDTH);
	float again[ROWS * WIDTH];
	fill_random(again, ROWS * WIDTH, 1, 1);
	for (int i = 0; i < ROWS * WIDTH; i++)
		assert_true(a[i] == 2 * again[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gather_and_scatter),
		cmocka_unit_test(test_add),
	};
	return cmocka_run_group_tests_name("kernels/rows", tests, NULL, NULL);
}
