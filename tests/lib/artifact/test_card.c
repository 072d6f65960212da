/* The seal of a model card: no bit and no byte of a card changes unseen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "lib/artifact/card.h"
#include "lib/artifact/digest.h"
#include "lib/base/file.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

static char folder[PATH_BYTES], list[PATH_BYTES], card[PATH_BYTES];
static const char files[] = "{\"config.json\": {\"bytes\": 2}}\n";

static void put(const char *name, const char *content, size_t size)
{
	error err;
	assert_true(temp_folder_write(folder, name, content, size, &err));
}

/* A sealed card of the list. */
static text make_card(void)
{
	text t = { 0 };
	error err;
	struct digest digest;
	assert_true(digest_bytes(files, strlen(files), &digest, &err));
	text_printf(&t, "# half\n\nA checkpoint.\n\nSHA-256: `%s`\n", digest.hex);
	assert_true(card_seal(&t, &err));
	return t;
}

static int make(void **state)
{
	(void)state;
	error err;
	if (!temp_folder_make(folder, &err))
		return -1;
	put("files.json", files, strlen(files));
	return join_path(list, sizeof list, folder, "files.json", &err) &&
	       join_path(card, sizeof card, folder, CARD_FILE, &err) ? 0 : -1;
}

static int clean(void **state)
{
	(void)state;
	temp_folder_remove(folder);
	return 0;
}

static void a_card_is_read_without_its_seal(void **state)
{
	(void)state;
	text t = make_card(), read = { 0 };
	error err;
	put(CARD_FILE, t.data, t.length);
	assert_true(card_check(folder, list, &err));
	assert_true(card_read(card, &read, &err));
	assert_true(read.length < t.length);
	assert_memory_equal(read.data, t.data, read.length);
	assert_true(card_seal(&read, &err));
	assert_string_equal(read.data, t.data);
	text_free(&read);
	text_free(&t);
}

static void every_bit_and_every_cut_is_found(void **state)
{
	(void)state;
	text t = make_card();
	error err;
	for (size_t i = 0; i < t.length; i++) {
		for (int bit = 0; bit < 8; bit++) {
			t.data[i] ^= (char)(1 << bit);
			put(CARD_FILE, t.data, t.length);
			t.data[i] ^= (char)(1 << bit);
			assert_false(card_check(folder, list, &err));
			assert_int_equal(err.code, EXIT_BAD_INPUT);
		}
		put(CARD_FILE, t.data, i);
		assert_false(card_check(folder, list, &err));
	}
	text_puts(&t, "\n");
	put(CARD_FILE, t.data, t.length);
	assert_false(card_check(folder, list, &err));
	text_free(&t);
}

/* Whole, but beside the files of another checkpoint. */
static void the_card_of_something_else_is_found(void **state)
{
	(void)state;
	text t = make_card();
	error err;
	put(CARD_FILE, t.data, t.length);
	put("files.json", "{}\n", 3);
	assert_false(card_check(folder, list, &err));
	assert_non_null(strstr(err.text, "it is the card of something else"));
	text_free(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_card_is_read_without_its_seal, make, clean),
		cmocka_unit_test_setup_teardown(every_bit_and_every_cut_is_found, make, clean),
		cmocka_unit_test_setup_teardown(the_card_of_something_else_is_found, make, clean),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
