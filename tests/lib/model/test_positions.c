/* Window order against the way transformers goes about it (pad the grid with -1,
 * cut it into windows, drop the padding), and M-RoPE positions spelt out. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "lib/model/positions.h"
#include "lib/model/qwen.h"

#include <cmocka.h>

enum { MOST_CELLS = 400 };

static struct vision_config vision(int merge, int side)
{
	return (struct vision_config){ .merge = merge, .patch = 14,
		.window = side * merge * 14, .head_dim = 8 };
}

/* get_window_index of modeling_qwen2_5_vl.py: a grid that fills its windows gets a
 * whole window of padding more, whose empty segments unique_consecutive removes. */
static int reference_order(int rows, int columns, int side, int merge, int32_t *order,
                           int32_t *starts)
{
	int padded_rows = rows + side - rows % side;
	int padded_columns = columns + side - columns % side;
	int windows = 0, placed = 0;
	starts[0] = 0;
	for (int w = 0; w < padded_rows / side * (padded_columns / side); w++) {
		int top = w / (padded_columns / side) * side;
		int left = w % (padded_columns / side) * side;
		for (int i = 0; i < side * side; i++) {
			int y = top + i / side, x = left + i % side;
			int cell = y < rows && x < columns ? y * columns + x : -1;
			if (cell >= 0)
				order[placed++] = cell;
		}
		if (placed * merge * merge != starts[windows])
			starts[++windows] = placed * merge * merge;
	}
	return windows;
}

static void check_windows(int rows, int columns, int side, int merge)
{
	struct vision_config v = vision(merge, side);
	int32_t order[MOST_CELLS], starts[MOST_CELLS + 1];
	int32_t expected_order[MOST_CELLS], expected_starts[MOST_CELLS + 1];
	int windows = window_order(&v, rows * merge, columns * merge, order, starts);
	assert_int_equal(windows, reference_order(rows, columns, side, merge, expected_order,
	                                          expected_starts));
	assert_memory_equal(order, expected_order, (size_t)(rows * columns) * sizeof *order);
	assert_memory_equal(starts, expected_starts, (size_t)(windows + 1) * sizeof *starts);
}

static void test_windows(void **state)
{
	(void)state;
	for (int rows = 1; rows <= 9; rows++)
		for (int columns = 1; columns <= 9; columns++)
			for (int side = 1; side <= 4; side++)
				check_windows(rows, columns, side, 2);
	check_windows(17, 23, 4, 2);
	check_windows(5, 6, 3, 3);
	check_windows(7, 3, 4, 1);
}

/* A patch turns with its own row and column, wherever window order has put it:
 * with frequencies 1 and 0 the angle is the position itself. */
static void test_vision_angles(void **state)
{
	(void)state;
	enum { GRID_H = 6, GRID_W = 10, HALF = 4 };
	const float frequencies[2] = { 1, 0 };
	struct vision_config v = vision(2, 2);
	int32_t order[15], starts[16];
	float cosine[GRID_H * GRID_W * HALF], sine[GRID_H * GRID_W * HALF];
	int seen[GRID_H][GRID_W] = { { 0 } };
	window_order(&v, GRID_H, GRID_W, order, starts);
	vision_angles(&v, frequencies, GRID_H, GRID_W, order, cosine, sine);
	for (int row = 0; row < GRID_H * GRID_W; row++) {
		int cell = order[row / 4];
		int y = cell / 5 * 2 + row % 4 / 2, x = cell % 5 * 2 + row % 2;
		const float *c = cosine + row * HALF, *s = sine + row * HALF;
		seen[y][x]++;
		assert_true(c[0] == cosf((float)y) && s[0] == sinf((float)y));
		assert_true(c[2] == cosf((float)x) && s[2] == sinf((float)x));
		assert_true(c[1] == 1 && s[1] == 0 && c[3] == 1 && s[3] == 0);
	}
	for (int i = 0; i < GRID_H * GRID_W; i++)
		assert_int_equal(seen[i / GRID_W][i % GRID_W], 1);
}

static void test_text_angles(void **state)
{
	(void)state;
	struct text_config t = { .mrope_section = { 1, 2, 1 } };
	const float frequencies[4] = { 1, 0.5f, 0.25f, 2 };
	const int32_t positions[6] = { 3, 4, 5, 6, 7, 8 }; /* [3][2] */
	float cosine[8], sine[8];
	text_angles(&t, frequencies, positions, 2, cosine, sine);
	const float expected[8] = { 3, 2.5f, 1.25f, 14, 4, 3, 1.5f, 16 };
	for (int i = 0; i < 8; i++)
		assert_true(cosine[i] == cosf(expected[i]) && sine[i] == sinf(expected[i]));
}

static void test_mrope(void **state)
{
	(void)state;
	enum { IMAGE = 9, TOKENS = 11 };
	struct model_config c = { .vision = { .merge = 2 }, .image_token = IMAGE };
	int32_t ids[TOKENS] = { 1, 2, IMAGE, IMAGE, IMAGE, IMAGE, IMAGE, IMAGE, 3, 4, 5 };
	float values[1];
	struct sample s = { .tokens = TOKENS, .ids = ids,
		.patches = { .grid_h = 4, .grid_w = 6, .values = values } };
	const int32_t expected[3][TOKENS] = {
		{ 0, 1, 2, 2, 2, 2, 2, 2, 5, 6, 7 },
		{ 0, 1, 2, 2, 2, 3, 3, 3, 5, 6, 7 },
		{ 0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 7 },
	};
	int32_t found[3 * TOKENS];
	mrope_positions(&c, &s, found);
	assert_memory_equal(found, expected, sizeof found);
	s.patches = (struct patches){ 0 };
	mrope_positions(&c, &s, found);
	for (int i = 0; i < 3 * TOKENS; i++)
		assert_int_equal(found[i], i % TOKENS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_windows),
		cmocka_unit_test(test_vision_angles),
		cmocka_unit_test(test_text_angles),
		cmocka_unit_test(test_mrope),
	};
	return cmocka_run_group_tests_name("lib/model/positions", tests, NULL, NULL);
}
