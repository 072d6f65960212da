/* Key texts: their form, and that different facts never give one text. */
#include "lib/artifact/key.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct digest zeros = {
	"0000000000000000000000000000000000000000000000000000000000000000"
};

static void is_plain_lines_in_order(void **state)
{
	(void)state;
	struct key key = { 0 };
	struct digest d, of_text;
	error err;
	key_begin(&key, "score", &zeros);
	key_add(&key, "prompt", "answer");
	key_addf(&key, "scale", "%.17g", 0.5);
	key_input(&key, "image 1.jpg", &zeros);
	static const char expected[] =
		"tool score\n"
		"tool_sources 0000000000000000000000000000000000000000000000000000000000000000\n"
		"prompt answer\n"
		"scale 0.5\n"
		"input image\\x201.jpg "
		"0000000000000000000000000000000000000000000000000000000000000000\n";
	assert_true(key_digest(&key, &d, &err));
	assert_string_equal(key.text.data, expected);
	assert_true(digest_bytes(expected, strlen(expected), &of_text, &err));
	assert_true(digest_equal(&d, &of_text));
	key_free(&key);
}

/* A key of one or two facts, as its digest. */
static struct digest digest_of(const char *name, const char *value, const char *name2,
                               const char *value2)
{
	struct key key = { 0 };
	struct digest d;
	error err;
	key_add(&key, name, value);
	if (name2)
		key_add(&key, name2, value2);
	assert_true(key_digest(&key, &d, &err));
	key_free(&key);
	return d;
}

static void keeps_different_facts_apart(void **state)
{
	(void)state;
	const struct digest all[] = {
		digest_of("a", "b", NULL, NULL),
		digest_of("a", "b\n", NULL, NULL),
		digest_of("a", "b\\n", NULL, NULL),
		digest_of("a", "b\\\n", NULL, NULL),
		digest_of("a", "b\nc d", NULL, NULL),
		digest_of("a", "b", "c", "d"),
		digest_of("c", "d", "a", "b"),
		digest_of("a b", "", NULL, NULL),
		digest_of("a", " b", NULL, NULL),
		digest_of("a", "b ", NULL, NULL),
		digest_of("a", "\x1b", NULL, NULL),
		digest_of("a", "\\x1b", NULL, NULL),
		digest_of("a", "\r", NULL, NULL),
		digest_of("a", "\xc3\xa9", NULL, NULL),
	};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		for (size_t j = 0; j < i; j++)
			if (digest_equal(&all[i], &all[j]))
				fail_msg("facts %zu and %zu give the same key", i, j);
	const struct digest again = digest_of("a", "b\nc d", NULL, NULL);
	assert_true(digest_equal(&all[4], &again));
}

static void holds_no_control_characters(void **state)
{
	(void)state;
	struct key key = { 0 };
	char all[256];
	for (int i = 1; i < 256; i++)
		all[i - 1] = (char)i;
	all[255] = '\0';
	key_add(&key, all, all);
	for (size_t i = 0; i + 1 < key.text.length; i++) {
		unsigned char c = (unsigned char)key.text.data[i];
		assert_true(c >= ' ' && c != 127);
	}
	assert_int_equal(key.text.data[key.text.length - 1], '\n');
	key_free(&key);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_plain_lines_in_order),
		cmocka_unit_test(keeps_different_facts_apart),
		cmocka_unit_test(holds_no_control_characters),
	};
	return cmocka_run_group_tests_name("lib/artifact/key", tests, NULL, NULL);
}
