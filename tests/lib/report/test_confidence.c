/* How sure a ranking is, on blocks whose answer is known. */
#include "lib/report/confidence.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { GROUPS = 10, BLOCKS = 4 };

/* A baseline of given block scores. */
static void make_baseline(struct found_baseline *b, struct scored_group *groups,
                          double *scores, error *err)
{
	*b = (struct found_baseline){ .block_count = BLOCKS, .block_scores = scores };
	b->ranked.groups = groups;
	b->ranked.count = GROUPS;
	for (int g = 0; g < GROUPS; g++) {
		groups[g] = (struct scored_group){ .name = "group", .format_count = 2 };
		for (int i = 0; i < BLOCKS; i++)
			groups[g].importance += scores[g * BLOCKS + i];
	}
	assert_true(rank_groups(&b->ranked, err));
}

static void test_errors_and_cuts(void **state)
{
	double scores[GROUPS * BLOCKS];
	struct scored_group groups[GROUPS];
	struct found_baseline b;
	struct confidence c;
	arena memory = { 0 };
	error err;
	(void)state;
	/* Far apart and the same in every block, but group 5, which swings. */
	for (int g = 0; g < GROUPS; g++)
		for (int i = 0; i < BLOCKS; i++)
			scores[g * BLOCKS + i] = pow(10, g);
	scores[5 * BLOCKS] = 2e5;
	scores[5 * BLOCKS + 1] = 0.5e5;
	scores[5 * BLOCKS + 3] = 0.5e5;
	make_baseline(&b, groups, scores, &err);
	assert_true(confidence_make(&c, &b, &memory, &err));
	assert_true(c.errors[4] == 0);
	/* mean 1e5, squares 1e10 + 0.25e10 + 0 + 0.25e10 = 1.5e10, times 4/3 */
	assert_true(fabs(c.errors[5] / sqrt(2e10) - 1) < 1e-12);
	/* The cut below group 5, at 1.26e5, lies within two of its errors of 4e5. */
	assert_true(fabs(c.unsure[4] - 0.1) < 1e-12);
	assert_true(c.unsure[0] == 0 && c.unsure[8] == 0);
	/* After block 1 group 5 has 2e5, still above group 4 (1e4) and below 6 (1e6). */
	for (int i = 0; i < BLOCKS; i++)
		assert_true(c.settled[4 * BLOCKS + i] == 1);
	arena_free(&b.ranked.memory);
	arena_free(&memory);
}

static void test_a_cut_that_settles_late(void **state)
{
	double scores[GROUPS * BLOCKS];
	struct scored_group groups[GROUPS];
	struct found_baseline b;
	struct confidence c;
	arena memory = { 0 };
	error err;
	(void)state;
	for (int g = 0; g < GROUPS; g++)
		for (int i = 0; i < BLOCKS; i++)
			scores[g * BLOCKS + i] = g + 1;
	scores[0] = 11; /* group 0 looks the worst at first: 11, 12, 13, 14 against 4(g+1) */
	make_baseline(&b, groups, scores, &err);
	assert_true(confidence_make(&c, &b, &memory, &err));
	/* In the end group 0 has 14, that is rank 4 (after 8, 12, and before 16). */
	assert_int_equal(b.ranked.groups[0].rank, 3);
	assert_true(c.settled[2 * BLOCKS] < 1);
	assert_true(c.settled[2 * BLOCKS + BLOCKS - 1] == 1);
	arena_free(&b.ranked.memory);
	arena_free(&memory);
}

static void test_no_blocks_no_confidence(void **state)
{
	struct found_baseline b = { 0 };
	struct confidence c;
	arena memory = { 0 };
	error err;
	(void)state;
	assert_true(confidence_make(&c, &b, &memory, &err));
	for (int cut = 0; cut < CUTS; cut++)
		assert_true(c.unsure[cut] == -1);
	arena_free(&memory);
}

static void test_cut_sizes(void **state)
{
	(void)state;
	assert_int_equal(cut_size(43, 0), 5);
	assert_int_equal(cut_size(43, 4), 22);
	assert_int_equal(cut_size(43, 8), 39);
	assert_int_equal(cut_size(24, 1), 5);
	assert_int_equal(cut_size(1, 0), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_errors_and_cuts),
		cmocka_unit_test(test_a_cut_that_settles_late),
		cmocka_unit_test(test_no_blocks_no_confidence),
		cmocka_unit_test(test_cut_sizes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
