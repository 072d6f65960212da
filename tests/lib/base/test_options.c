/* Command lines: what is taken, what is refused and how that is said, what --help
 * shows. */
#include "lib/base/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/expect_error.h"

#include <cmocka.h>

/* What a tool would have. */
struct arguments {
	const char *model, *out;
	int64_t samples;
	bool full;
	struct option_list exclude, operands;
};

enum { MOST_WORDS = 16 };

static enum parse_outcome parse(struct arguments *a, bool operands, error *err,
                                const char *const *words)
{
	const struct option options[] = {
		{ "model", OPTION_TEXT, &a->model, "DIR", "a folder", true },
		{ "out", OPTION_TEXT, &a->out, "FILE", "a file", false },
		{ "samples", OPTION_INTEGER, &a->samples, "N", "how many", false },
		{ "full", OPTION_FLAG, &a->full, NULL, "all of it", false },
		{ "exclude", OPTION_LIST, &a->exclude, "GLOB", "leave out", false },
		{ 0 },
	};
	const struct command command = { .tool = "test", .purpose = "Tests options.",
		.operands = operands ? "FILE..." : NULL, .options = options };
	char *argv[MOST_WORDS + 1] = { (char *)"test" };
	int argc = 1;
	*a = (struct arguments){ .out = "default", .samples = 16 };
	for (; *words; words++)
		argv[argc++] = (char *)*words;
	return parse_options(&command, argc, argv, operands ? &a->operands : NULL, err);
}

static void release(struct arguments *a)
{
	options_free(&a->exclude);
	options_free(&a->operands);
}

#define WORDS(...) (const char *const[]){ __VA_ARGS__, NULL }

static void takes_every_kind(void **state)
{
	(void)state;
	struct arguments a;
	error err;
	assert_int_equal(parse(&a, true, &err,
	                       WORDS("--model", "m", "--samples=32", "one", "--exclude", "a*",
	                             "--full", "--exclude=--b", "two", "--", "--out", "-x")),
	                 PARSE_OK);
	assert_string_equal(a.model, "m");
	assert_string_equal(a.out, "default");
	assert_int_equal(a.samples, 32);
	assert_true(a.full);
	assert_int_equal(a.exclude.count, 2);
	assert_string_equal(a.exclude.values[0], "a*");
	assert_string_equal(a.exclude.values[1], "--b");
	assert_int_equal(a.operands.count, 4);
	assert_string_equal(a.operands.values[0], "one");
	assert_string_equal(a.operands.values[1], "two");
	assert_string_equal(a.operands.values[2], "--out");
	assert_string_equal(a.operands.values[3], "-x");
	release(&a);
}

static void values_may_look_like_anything(void **state)
{
	(void)state;
	struct arguments a;
	error err;
	assert_int_equal(parse(&a, false, &err,
	                       WORDS("--model", "--full", "--out=", "--samples", "0")), PARSE_OK);
	assert_string_equal(a.model, "--full");
	assert_string_equal(a.out, "");
	assert_false(a.full);
	assert_int_equal(a.samples, 0);
	release(&a);
	assert_int_equal(parse(&a, false, &err,
	                       WORDS("--model=a=b", "--model", "c", "--samples",
	                             "9223372036854775807")), PARSE_OK);
	assert_string_equal(a.model, "c"); /* the last one counts */
	assert_true(a.samples == INT64_MAX);
	release(&a);
}

static void refuses_what_it_does_not_know(void **state)
{
	(void)state;
	static const struct {
		const char *words[4];
		const char *says;
	} cases[] = {
		{ { "--models", "x" }, "unknown option --models (see --help)" },
		{ { "--mode=x" }, "unknown option --mode " },
		{ { "--model" }, "--model: expected DIR after it" },
		{ { "--out", "x" }, "--model DIR is required" },
		{ { "--full=yes" }, "--full takes no value" },
		{ { "--samples", "-1" }, "--samples: expected a whole number >= 0, found \"-1\"" },
		{ { "--samples", "12x" }, "found \"12x\"" },
		{ { "--samples=" }, "found \"\"" },
		{ { "--samples", "1.5" }, "found \"1.5\"" },
		{ { "--samples", "9223372036854775808" }, "found \"9223372036854775808\"" },
		{ { "word" }, "unexpected \"word\"" },
		{ { "-m" }, "unexpected \"-m\"" },
		{ { "--", "--model" }, "unexpected \"--model\"" },
		{ { "--=x" }, "unknown option --" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct arguments a;
		error err;
		assert_int_equal(parse(&a, false, &err, cases[i].words), PARSE_FAILED);
		expect_error(&err, EXIT_USAGE, cases[i].says, NULL);
		release(&a);
	}
}

/* Runs parse with standard output going to a file, and gives what was printed. */
static void print_help(char *text, size_t size)
{
	struct arguments a;
	error err;
	FILE *file = tmpfile();
	assert_non_null(file);
	fflush(stdout);
	int kept = dup(STDOUT_FILENO);
	assert_true(kept >= 0 && dup2(fileno(file), STDOUT_FILENO) >= 0);
	enum parse_outcome outcome = parse(&a, true, &err, WORDS("--nonsense"));
	bool help = parse(&a, true, &err, WORDS("x", "--help", "--nonsense")) == PARSE_HELP;
	fflush(stdout);
	dup2(kept, STDOUT_FILENO);
	close(kept);
	release(&a);
	assert_int_equal(outcome, PARSE_FAILED);
	assert_true(help);
	rewind(file);
	size_t length = fread(text, 1, size - 1, file);
	text[length] = '\0';
	fclose(file);
}

static void help_lists_every_option(void **state)
{
	(void)state;
	static const char *const pieces[] = { "usage: test [OPTIONS] FILE...\n",
		"\nTests options.\n", "\n  --model DIR ", "a folder (required)\n",
		"\n  --out FILE ", "a file\n", "\n  --samples N ", "\n  --full ",
		"\n  --exclude GLOB ", "\n  --help ", "print this and exit\n" };
	char help[4096];
	print_help(help, sizeof help);
	for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
		if (!strstr(help, pieces[i]))
			fail_msg("expected \"%s\" in the help:\n%s", pieces[i], help);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_every_kind),
		cmocka_unit_test(values_may_look_like_anything),
		cmocka_unit_test(refuses_what_it_does_not_know),
		cmocka_unit_test(help_lists_every_option),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
