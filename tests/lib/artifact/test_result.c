/* The form of a result on disk: what is written is read, nothing else is. */
#include "lib/artifact/result.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/expect_error.h"

static const struct output some[] = {
	{ "scores.json",
	  { "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
	  12345678901234567890u },
	{ "a name with spaces \xc3\xa9",
	  { "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" }, 0 },
};

/* A copy without a byte to spare, so that a sanitizer sees any read beyond. */
static bool parses(const char *data, size_t size)
{
	struct result r;
	error err;
	bool whole;
	char *copy = malloc(size + 1);
	assert_non_null(copy);
	memcpy(copy, data, size);
	copy[size] = '\0'; /* as read_file leaves it */
	assert_true(result_parse(copy, size, &r, &whole, &err));
	free(copy);
	result_free(&r);
	return whole;
}

static void reads_what_it_writes(void **state)
{
	(void)state;
	text t = { 0 };
	struct result r;
	error err;
	bool whole;
	assert_true(result_print(some, 2, &t, &err));
	assert_true(result_parse(t.data, t.length, &r, &whole, &err));
	assert_true(whole);
	assert_int_equal(r.count, 2);
	for (size_t i = 0; i < 2; i++) {
		const struct output *o = result_output(&r, some[i].name);
		assert_ptr_equal(o, &r.outputs[i]);
		assert_true(digest_equal(&o->digest, &some[i].digest));
		assert_int_equal(o->bytes, some[i].bytes);
	}
	assert_null(result_output(&r, "scores"));
	result_free(&r);
	result_free(&r);
	text_free(&t);
}

static void may_be_empty(void **state)
{
	(void)state;
	text t = { 0 };
	error err;
	assert_true(result_print(NULL, 0, &t, &err));
	assert_true(parses(t.data, t.length));
	text_free(&t);
}

static void notices_every_flipped_bit_and_every_cut(void **state)
{
	(void)state;
	text t = { 0 };
	error err;
	assert_true(result_print(some, 2, &t, &err));
	for (size_t i = 0; i < t.length; i++) {
		for (int bit = 0; bit < 8; bit++) {
			t.data[i] ^= (char)(1 << bit);
			if (parses(t.data, t.length))
				fail_msg("byte %zu, bit %d went unnoticed", i, bit);
			t.data[i] ^= (char)(1 << bit);
		}
		if (parses(t.data, i))
			fail_msg("the first %zu bytes passed for the whole", i);
	}
	assert_true(parses(t.data, t.length));
	text_add(&t, "\n", 1);
	assert_false(parses(t.data, t.length));
	text_free(&t);
}

/* Lines that are sealed properly but not in order. */
static void refuses_other_lines(void **state)
{
	(void)state;
	static const char *const bodies[] = {
		"",
		"quern result 2\n",
		"quern result 1\noutput\n",
		"quern result 1\noutput ba7816bf 5 a\n",
		"quern result 1\noutput "
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad -5 a\n",
		"quern result 1\noutput "
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad 5\n",
		"quern result 1\noutput "
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad 5 \n",
		"quern result 1\noutput "
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad "
		"99999999999999999999 a\n",
		"quern result 1\noutput "
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad 5 a",
	};
	for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
		text t = { 0 };
		struct digest seal;
		error err;
		assert_true(digest_bytes(bodies[i], strlen(bodies[i]), &seal, &err));
		text_printf(&t, "%ssha256 %s\n", bodies[i], seal.hex);
		if (parses(t.data, t.length))
			fail_msg("accepted: %s", bodies[i]);
		text_free(&t);
	}
}

static void refuses_names_that_break_a_line(void **state)
{
	(void)state;
	static const char *const names[] = { "", "a\nb", "a\x7f", "\t" };
	for (size_t i = 0; i < 4; i++) {
		struct output o = some[0];
		text t = { 0 };
		error err;
		o.name = names[i];
		assert_false(result_print(&o, 1, &t, &err));
		expect_error(&err, EXIT_INTERNAL, "no name for an output", NULL);
		text_free(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_it_writes),
		cmocka_unit_test(may_be_empty),
		cmocka_unit_test(notices_every_flipped_bit_and_every_cut),
		cmocka_unit_test(refuses_other_lines),
		cmocka_unit_test(refuses_names_that_break_a_line),
	};
	return cmocka_run_group_tests_name("lib/artifact/result", tests, NULL, NULL);
}
