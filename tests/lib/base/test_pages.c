/* pages_alloc: usable to the last byte, aligned, and no surprise at the ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/pages.h"

#include <cmocka.h>

static void test_sizes(void **state)
{
	static const size_t sizes[] = { 1, 63, 64, 4097, (2 << 20) - 1, 2 << 20, (5 << 20) + 1 };
	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		unsigned char *memory = pages_alloc(sizes[i]);
		assert_non_null(memory);
		assert_true((uintptr_t)memory % 64 == 0);
		memset(memory, 0xA5, sizes[i]);
		assert_int_equal(memory[sizes[i] - 1], 0xA5);
		free(memory);
	}
}

static void test_ends(void **state)
{
	(void)state;
	free(pages_alloc(0));
	assert_null(pages_alloc(SIZE_MAX));
	assert_null(pages_alloc(SIZE_MAX - 100));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_ends),
	};
	return cmocka_run_group_tests_name("lib/base/pages", tests, NULL, NULL);
}
