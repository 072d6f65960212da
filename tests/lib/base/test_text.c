/* Growing texts: any pieces in any order, and failures remembered until asked for. */
#include "lib/base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "tests/support/expect_error.h"

#include <cmocka.h>

static void grows_piece_by_piece(void **state)
{
	(void)state;
	text t = { 0 };
	error err;
	for (int i = 0; i < 5000; i++) {
		text_puts(&t, "ab");
		text_printf(&t, "%d%s", i % 10, "");
		text_add(&t, "xyz", 1);
		assert_int_equal(t.length, 4 * (i + 1));
		assert_int_equal(t.data[t.length], '\0');
	}
	assert_true(text_ok(&t, &err));
	for (int i = 0; i < 5000; i++) {
		const char expected[4] = { 'a', 'b', (char)('0' + i % 10), 'x' };
		assert_memory_equal(t.data + 4 * i, expected, 4);
	}
	text_free(&t);
	assert_null(t.data);
	assert_int_equal(t.length, 0);
}

static void holds_empty_pieces_and_zero_bytes(void **state)
{
	(void)state;
	text t = { 0 };
	error err;
	assert_true(text_ok(&t, &err));
	text_puts(&t, "");
	assert_non_null(t.data);
	assert_string_equal(t.data, "");
	text_add(&t, "a\0b", 3);
	assert_int_equal(t.length, 3);
	assert_memory_equal(t.data, "a\0b", 4);
	text_free(&t);
}

/* Pieces around the sizes at which the memory grows. */
static void takes_pieces_of_any_size(void **state)
{
	(void)state;
	char piece[2000];
	memset(piece, 'p', sizeof piece - 1);
	piece[sizeof piece - 1] = '\0';
	for (size_t first = 250; first < 262; first++) {
		for (size_t second = 250; second < 262; second++) {
			text t = { 0 };
			text_add(&t, piece, first);
			text_printf(&t, "%.*s", (int)second, piece);
			assert_int_equal(t.length, first + second);
			assert_int_equal(strlen(t.data), first + second);
			text_free(&t);
		}
	}
}

static void remembers_failures(void **state)
{
	(void)state;
	text t = { 0 };
	error err;
	text_puts(&t, "kept");
	text_add(&t, "never read", SIZE_MAX - 2);
	assert_true(t.failed);
	text_puts(&t, " and nothing more");
	text_printf(&t, "%d", 5);
	assert_string_equal(t.data, "kept");
	assert_false(text_ok(&t, &err));
	expect_error(&err, EXIT_ENVIRONMENT, "a text", NULL);
	text_free(&t);
	/* A format that cannot be carried out must not vanish from a key or a path. */
	const wchar_t unprintable[2] = { 0xD800, 0 };
	text_printf(&t, "%ls", unprintable);
	assert_false(text_ok(&t, &err));
	text_free(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(grows_piece_by_piece),
		cmocka_unit_test(holds_empty_pieces_and_zero_bytes),
		cmocka_unit_test(takes_pieces_of_any_size),
		cmocka_unit_test(remembers_failures),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
