/* SHA-256: published vectors, files, and agreement with sha256sum. */
#include "lib/artifact/digest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

static void check(const char *data, size_t size, const char *expected)
{
	struct digest d;
	error err;
	assert_true(digest_bytes(data, size, &d, &err));
	assert_string_equal(d.hex, expected);
}

/* FIPS 180-4's examples. */
static void gives_the_published_values(void **state)
{
	(void)state;
	check("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	check("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	check("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
	      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

static void adds_up_pieces_of_any_size(void **state)
{
	(void)state;
	char a[997];
	struct digester digester;
	struct digest d;
	error err;
	memset(a, 'a', sizeof a);
	digester_begin(&digester);
	for (size_t left = 1000000, n = 1; left; left -= n, n = n * 7 % 991 + 1) {
		n = n < left ? n : left;
		digester_add(&digester, a, n);
	}
	assert_true(digester_end(&digester, &d, &err));
	assert_string_equal(
		d.hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void agrees_with_sha256sum(void **state)
{
	(void)state;
	static const char path[] = "demo/tiny-qwen2_5-vl/config.json";
	char line[256] = "";
	FILE *sum = popen("sha256sum demo/tiny-qwen2_5-vl/config.json", "r");
	assert_non_null(sum);
	assert_non_null(fgets(line, sizeof line, sum));
	assert_int_equal(pclose(sum), 0);
	struct digest theirs, ours;
	error err;
	uint64_t bytes;
	assert_true(digest_parse(line, DIGEST_HEX, &theirs));
	assert_true(digest_file(path, &ours, &bytes, &err));
	assert_true(digest_equal(&theirs, &ours));
}

static void reads_files_larger_than_its_buffer(void **state)
{
	(void)state;
	size_t size = (3 << 20) + 5;
	char *data = malloc(size), folder[PATH_BYTES], path[PATH_BYTES];
	struct digest of_file, of_bytes;
	error err;
	uint64_t bytes;
	assert_non_null(data);
	for (size_t i = 0; i < size; i++)
		data[i] = (char)(i * 2654435761u >> 13);
	assert_true(temp_folder_make(folder, &err));
	assert_true(temp_folder_write(folder, "large", data, size, &err));
	assert_true(temp_folder_write(folder, "empty", "", 0, &err));
	assert_true(join_path(path, sizeof path, folder, "large", &err));
	assert_true(digest_file(path, &of_file, &bytes, &err));
	assert_int_equal(bytes, size);
	assert_true(digest_bytes(data, size, &of_bytes, &err));
	assert_true(digest_equal(&of_file, &of_bytes));
	assert_true(join_path(path, sizeof path, folder, "empty", &err));
	assert_true(digest_file(path, &of_file, &bytes, &err));
	assert_int_equal(bytes, 0);
	assert_true(digest_bytes("", 0, &of_bytes, &err));
	assert_true(digest_equal(&of_file, &of_bytes));
	free(data);
	temp_folder_remove(folder);
}

static void names_what_is_no_file(void **state)
{
	(void)state;
	struct digest d;
	error err;
	uint64_t bytes;
	assert_false(digest_file("demo/absent", &d, &bytes, &err));
	expect_error(&err, EXIT_BAD_INPUT, "demo/absent", "No such file", NULL);
	assert_false(digest_file("demo", &d, &bytes, &err));
	expect_error(&err, EXIT_BAD_INPUT, "demo", "expected a regular file", "folder", NULL);
}

static void parses_only_digests(void **state)
{
	(void)state;
	char hex[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	struct digest d;
	assert_true(digest_parse(hex, 64, &d));
	assert_string_equal(d.hex, hex);
	assert_false(digest_parse(hex, 63, &d));
	hex[5] = 'F';
	assert_false(digest_parse(hex, 64, &d));
	hex[5] = 'g';
	assert_false(digest_parse(hex, 64, &d));
	hex[5] = '\0';
	assert_false(digest_parse(hex, 64, &d));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_the_published_values),
		cmocka_unit_test(adds_up_pieces_of_any_size),
		cmocka_unit_test(agrees_with_sha256sum),
		cmocka_unit_test(reads_files_larger_than_its_buffer),
		cmocka_unit_test(names_what_is_no_file),
		cmocka_unit_test(parses_only_digests),
	};
	return cmocka_run_group_tests_name("lib/artifact/digest", tests, NULL, NULL);
}
