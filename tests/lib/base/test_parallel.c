/* Every index once, whatever the number of threads; the first error stops the rest. */
#include "lib/base/parallel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#undef fail /* CMocka's; ours is meant */

enum { COUNT = 1000, THREADS = 7 };

struct tally {
	int seen[COUNT];
	int by[THREADS];
	int bad; /* index that fails, or -1 */
};

static bool count_one(void *self, int thread, int index, error *err)
{
	struct tally *t = self;
	t->seen[index]++;
	t->by[thread]++;
	return index != t->bad || fail(err, EXIT_BAD_INPUT, "index %d", index);
}

static void test_each_index_once(void **state)
{
	error err;
	(void)state;
	for (int threads = 1; threads <= THREADS; threads += 3) {
		struct tally t = { .bad = -1 };
		int sum = 0;
		assert_true(parallel_run(threads, COUNT, &t, count_one, &err));
		for (int i = 0; i < COUNT; i++)
			assert_int_equal(t.seen[i], 1);
		for (int i = 0; i < THREADS; i++)
			sum += t.by[i];
		assert_int_equal(sum, COUNT);
		for (int i = threads; i < THREADS; i++)
			assert_int_equal(t.by[i], 0);
	}
}

static void test_a_failure_ends_it(void **state)
{
	struct tally t = { .bad = 10 };
	error err;
	(void)state;
	assert_false(parallel_run(1, COUNT, &t, count_one, &err));
	assert_string_equal(err.text, "index 10");
	assert_int_equal(t.seen[10], 1);
	assert_int_equal(t.seen[11], 0);
}

static void test_nothing_to_do(void **state)
{
	struct tally t = { .bad = -1 };
	error err;
	(void)state;
	assert_true(parallel_run(3, 0, &t, count_one, &err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_index_once),
		cmocka_unit_test(test_a_failure_ends_it),
		cmocka_unit_test(test_nothing_to_do),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
