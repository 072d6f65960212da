/* The options that several tools share: defaults, shares of the work, formats. */
#include "tools/arguments.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/expect_error.h"

#include <cmocka.h>

static void data_options_have_defaults(void **state)
{
	(void)state;
	struct data_arguments a = { 0 };
	struct option options[DATA_OPTIONS + 1] = { 0 };
	const struct command command = { .tool = "t", .purpose = "", .options = options };
	char *argv[] = { (char *)"t", (char *)"--model=m", (char *)"--tree=t",
		(char *)"--out=o", (char *)"--captions", (char *)"c", (char *)"--max-tokens=9" };
	error err;
	data_options(&a, options);
	assert_int_equal(parse_options(&command, 7, argv, NULL, &err), PARSE_OK);
	assert_string_equal(a.source.model, "m");
	assert_string_equal(a.source.captions, "c");
	assert_null(a.source.calib_db);
	assert_string_equal(a.source.prompt, "answer");
	assert_string_equal(a.source.on_bad_sample, "stop");
	assert_int_equal(a.source.samples, 16);
	assert_int_equal(a.source.block_samples, 16);
	assert_int_equal(a.source.max_tokens, 9);
	assert_int_equal(a.source.max_pixels, 0);
	assert_string_equal(a.part, "0/1");
	assert_string_equal(a.tree, "t");
	assert_string_equal(a.out, "o");
	for (int missing = 1; missing <= 3; missing++) {
		char *kept = argv[missing];
		argv[missing] = (char *)"--samples=1";
		assert_int_equal(parse_options(&command, 7, argv, NULL, &err), PARSE_FAILED);
		expect_error(&err, EXIT_USAGE, "is required", NULL);
		argv[missing] = kept;
	}
}

static void parts_are_numbered_from_zero(void **state)
{
	(void)state;
	static const char *const bad[] = { "", "1", "1/", "/2", "2/2", "-1/2", "0/0", "0/-1",
		"0/1x", "0/1 ", "a/b", "0x1/2", "4294967296/4294967297", "1.0/2" };
	int part = -1, parts = -1;
	error err;
	assert_true(part_parse("0/1", &part, &parts, &err) && part == 0 && parts == 1);
	assert_true(part_parse("7/4096", &part, &parts, &err) && part == 7 && parts == 4096);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		if (part_parse(bad[i], &part, &parts, &err))
			fail_msg("let pass: \"%s\"", bad[i]);
		expect_error(&err, EXIT_USAGE, "--part: expected I/N", NULL);
	}
}

static void formats_are_checked(void **state)
{
	(void)state;
	struct format_arguments a;
	struct option options[FORMAT_OPTIONS + 1] = { 0 };
	const struct command command = { .tool = "t", .purpose = "", .options = options };
	char *argv[] = { (char *)"t", (char *)"--numerics=modelopt", (char *)"--exclude=a",
		(char *)"--scale-per-member", (char *)"--exclude=b*" };
	error err;
	format_options(&a, options);
	assert_true(format_check(&a, &err));
	assert_int_equal(a.numerics, NUMERICS_QUERN);
	assert_string_equal(a.name, "FP8_DEFAULT_CFG");
	assert_false(a.scale_per_member);
	assert_int_equal(parse_options(&command, 5, argv, NULL, &err), PARSE_OK);
	assert_true(format_check(&a, &err));
	assert_int_equal(a.numerics, NUMERICS_MODELOPT);
	assert_true(a.scale_per_member);
	assert_int_equal(a.exclude.count, 2);
	assert_string_equal(a.exclude.values[1], "b*");
	a.numerics_text = "exact";
	assert_false(format_check(&a, &err));
	expect_error(&err, EXIT_USAGE, "--numerics", "\"exact\"", NULL);
	options_free(&a.exclude);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_options_have_defaults),
		cmocka_unit_test(parts_are_numbered_from_zero),
		cmocka_unit_test(formats_are_checked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
