/* Listing files by pattern. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/list.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

static char folder[PATH_BYTES], before[PATH_BYTES];

static int enter(void **state)
{
	(void)state;
	static const char *const names[] = { "b.c", "a.c", ".hidden.c", "a.h", "x/one.c",
		"x/deep/two.c", "w/three.c" };
	error err;
	if (!getcwd(before, sizeof before) || !temp_folder_make(folder, &err) ||
	    chdir(folder) != 0 || mkdir("x", 0777) || mkdir("x/deep", 0777) || mkdir("w", 0777))
		return -1;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (!temp_folder_write(folder, names[i], "", 0, &err))
			return -1;
	return 0;
}

static int leave(void **state)
{
	(void)state;
	int failed = chdir(before);
	temp_folder_remove(folder);
	return failed;
}

static void sorts_within_a_pattern(void **state)
{
	(void)state;
	static const char *const expected[] = { "w/three.c", "x/one.c", "a.c", "b.c" };
	struct path_list list = { 0 };
	error err;
	assert_true(list_paths(&list, "*/*.c", &err));
	assert_true(list_paths(&list, "*.c", &err));
	assert_int_equal(list.count, 4);
	for (int i = 0; i < 4; i++)
		assert_string_equal(list.paths[i], expected[i]);
	free_paths(&list);
}

static void plain_names_and_nothing(void **state)
{
	(void)state;
	struct path_list list = { 0 };
	error err;
	assert_true(list_paths(&list, "x/deep/two.c", &err));
	assert_true(list_paths(&list, "x/deep/none.c", &err));
	assert_true(list_paths(&list, "nowhere/*.c", &err));
	assert_true(list_paths(&list, "a.c/*.c", &err));
	assert_int_equal(list.count, 1);
	assert_string_equal(list.paths[0], "x/deep/two.c");
	char pattern[PATH_BYTES + 8];
	snprintf(pattern, sizeof pattern, "%s/[a]*.c", folder);
	assert_true(list_paths(&list, pattern, &err));
	assert_int_equal(list.count, 2);
	snprintf(pattern, sizeof pattern, "%s/a.c", folder);
	assert_string_equal(list.paths[1], pattern);
	free_paths(&list);
}

static void grows(void **state)
{
	(void)state;
	struct path_list list = { 0 };
	error err;
	for (int i = 0; i < 100; i++)
		assert_true(list_paths(&list, "*.?", &err));
	assert_int_equal(list.count, 300);
	assert_string_equal(list.paths[0], "a.c");
	assert_string_equal(list.paths[299], "b.c");
	free_paths(&list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(sorts_within_a_pattern, enter, leave),
		cmocka_unit_test_setup_teardown(plain_names_and_nothing, enter, leave),
		cmocka_unit_test_setup_teardown(grows, enter, leave),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
