/* Arenas: pieces are aligned, zeroed and apart from each other; sizes that cannot be
 * are refused. */
#include "lib/base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "tests/support/expect_error.h"

#include <cmocka.h>

enum { PIECES = 3000 };

static void pieces_are_aligned_zeroed_and_apart(void **state)
{
	(void)state;
	arena a = { 0 };
	unsigned char *pieces[PIECES];
	error err;
	for (int i = 0; i < PIECES; i++) {
		size_t size = (size_t)(i * i) % 700; /* 0 among them */
		pieces[i] = arena_alloc(&a, size, 1, &err);
		assert_non_null(pieces[i]);
		assert_int_equal((uintptr_t)pieces[i] % 64, 0);
		for (size_t b = 0; b < size; b++)
			assert_int_equal(pieces[i][b], 0);
		memset(pieces[i], i % 255 + 1, size);
	}
	for (int i = 0; i < PIECES; i++)
		for (size_t b = 0; b < (size_t)(i * i) % 700; b++)
			assert_int_equal(pieces[i][b], i % 255 + 1);
	arena_free(&a);
	assert_null(a.newest);
	arena_free(&a); /* harmless */
}

/* Around the size of a chunk, and far above it. */
static void large_pieces_fit(void **state)
{
	(void)state;
	static const size_t sizes[] = { 65535, 65536, 65537, 65472, 1, 10 << 20, 64, 65536 };
	arena a = { 0 };
	error err;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		char *piece = arena_alloc(&a, sizes[i], 1, &err);
		assert_non_null(piece);
		assert_int_equal(piece[0] | piece[sizes[i] - 1], 0);
		memset(piece, 0x5A, sizes[i]);
	}
	arena_free(&a);
}

static void refuses_sizes_that_cannot_be(void **state)
{
	(void)state;
	arena a = { 0 };
	error err;
	assert_null(arena_alloc(&a, SIZE_MAX, 8, &err));
	expect_error(&err, EXIT_ENVIRONMENT, "memory", NULL);
	assert_null(arena_alloc(&a, SIZE_MAX / 2 + 1, 1, &err));
	expect_error(&err, EXIT_ENVIRONMENT, "memory", NULL);
	assert_null(arena_alloc(&a, (size_t)1 << 33, (size_t)1 << 33, &err));
	expect_error(&err, EXIT_ENVIRONMENT, "memory", NULL);
	assert_non_null(arena_alloc(&a, SIZE_MAX, 0, &err));
	assert_non_null(arena_alloc(&a, 0, SIZE_MAX, &err));
	assert_non_null(arena_alloc(&a, 4, 4, &err)); /* and goes on */
	arena_free(&a);
}

static void keeps_texts(void **state)
{
	(void)state;
	arena a = { 0 };
	error err;
	char source[] = "layers.0.mlp";
	char *copy = arena_text(&a, source, 8, &err);
	char *printed = arena_printf(&a, &err, "%s.%d", source, 7);
	memset(source, 'x', sizeof source - 1);
	assert_string_equal(copy, "layers.0");
	assert_string_equal(printed, "layers.0.mlp.7");
	assert_string_equal(arena_text(&a, "", 0, &err), "");
	const wchar_t unprintable[2] = { 0xD800, 0 };
	assert_null(arena_printf(&a, &err, "<%ls>", unprintable));
	expect_error(&err, EXIT_INTERNAL, "<%ls>", NULL);
	arena_free(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_are_aligned_zeroed_and_apart),
		cmocka_unit_test(large_pieces_fit),
		cmocka_unit_test(refuses_sizes_that_cannot_be),
		cmocka_unit_test(keeps_texts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
