/* The strict scanner: what it takes, what it refuses, and where it says so. */
#include "lib/base/json_scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "lib/base/text.h"
#include "tests/support/expect_error.h"

static bool check(const char *json, error *err)
{
	/* A copy without a NUL behind it, so that sanitizers see any overrun. */
	size_t size = strlen(json);
	char *copy = malloc(size + 1);
	assert_non_null(copy);
	char *exact = realloc(copy, size ? size : 1);
	assert_non_null(exact);
	memcpy(exact, json, size);
	bool ok = json_scan_check("a.json", exact, size, err);
	free(exact);
	return ok;
}

static void accepts_json(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"{}", "[]", "0", "-0", "null", "true", "\"\"", " [ ] ", "\t{\r\n}\n",
		"[1,2.5,-3e10,4E-3,0.0]", "{\"a\":{\"a\":{}},\"b\":[{\"a\":1},{\"a\":2}]}",
		"{\"p\":{\"a\":1,\"b\":2},\"q\":{\"a\":1,\"b\":2},\"a\":3,\"b\":4}",
		"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\"", "\"\xc3\xa9\xe2\x82\xac\"",
		"\"\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\xed\x9f\xbf\xee\x80\x80\"", "\"\x7f\"",
		"1e308", "-1e308", "1e-999", "9223372036854775807999",
		"123456789012345678901234567890123456789012345678901234567890123",
	};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		error err;
		if (!check(texts[i], &err))
			fail_msg("%s: %s", texts[i], err.text);
	}
}

static void refuses_with_the_place(void **state)
{
	(void)state;
	static const struct {
		const char *json, *place, *message;
	} cases[] = {
		{ "", "a.json:1:1:", "expected a value, found the end" },
		{ "  ", "a.json:1:3:", "found the end" },
		{ "[1,\n 2,\n x]", "a.json:3:2:", "expected a value, found 'x'" },
		{ "\xef\xbb\xbf{}", "a.json:1:1:", "found byte 0xef" },
		{ "[1", "a.json:1:3:", "expected ',' or ']', found the end" },
		{ "{\"a\":1", "a.json:1:7:", "expected ',' or '}', found the end" },
		{ "{\"a\"", "a.json:1:5:", "expected ':'" },
		{ "{\"a\" 1}", "a.json:1:6:", "expected ':', found '1'" },
		{ "{\"a\":}", "a.json:1:6:", "expected a value, found '}'" },
		{ "{a:1}", "a.json:1:2:", "expected a key in quotes, found 'a'" },
		{ "{1:1}", "a.json:1:2:", "expected a key" },
		{ "{\"a\":1,}", "a.json:1:8:", "expected a key in quotes, found '}'" },
		{ "{,}", "a.json:1:2:", "expected a key" },
		{ "[1,]", "a.json:1:4:", "expected a value, found ']'" },
		{ "[,1]", "a.json:1:2:", "expected a value, found ','" },
		{ "[1 2]", "a.json:1:4:", "expected ',' or ']', found '2'" },
		{ "[1}", "a.json:1:3:", "found '}'" },
		{ "{} {}", "a.json:1:4:", "expected the end of the text, found '{'" },
		{ "1,", "a.json:1:2:", "expected the end" },
		{ "tru", "a.json:1:1:", "expected a value" },
		{ "True", "a.json:1:1:", "expected a value, found 'T'" },
		{ "nulll", "a.json:1:5:", "expected the end" },
		{ "NaN", "a.json:1:1:", "found 'N'" },
		{ "Infinity", "a.json:1:1:", "found 'I'" },
		{ "01", "a.json:1:2:", "expected the end" },
		{ "+1", "a.json:1:1:", "found '+'" },
		{ ".5", "a.json:1:1:", "found '.'" },
		{ "1.", "a.json:1:3:", "expected a digit" },
		{ "-", "a.json:1:2:", "expected a digit" },
		{ "1e", "a.json:1:3:", "expected a digit" },
		{ "1e+", "a.json:1:4:", "expected a digit" },
		{ "0x10", "a.json:1:2:", "found 'x'" },
		{ "[1e400]", "a.json:1:2:", "1e400 is beyond a double" },
		{ "[-1e400]", "a.json:1:2:", "beyond a double" },
		{ "1234567890123456789012345678901234567890123456789012345678901234",
		  "a.json:1:1:", "a number of 64 bytes" },
		{ "\"a", "a.json:1:1:", "a string without an end" },
		{ "[\"a\\", "a.json:1:4:", "not an escape sequence" },
		{ "'a'", "a.json:1:1:", "found '''" },
		{ "\"a\nb\"", "a.json:1:3:", "control byte 0x0a" },
		{ "\"\\x41\"", "a.json:1:2:", "not an escape" },
		{ "\"\\u12g4\"", "a.json:1:2:", "not an escape" },
		{ "\"\\u123", "a.json:1:2:", "not an escape" },
		{ "\"\\u0000\"", "a.json:1:2:", "\\u0000 is not accepted" },
		{ "\"\\ud83d\"", "a.json:1:2:", "half a surrogate" },
		{ "\"\\ude00\\ud83d\"", "a.json:1:2:", "half a surrogate" },
		{ "\"\\ud83d\\ue000\"", "a.json:1:2:", "half a surrogate" },
		{ "\"\\ud83d\\u0041\"", "a.json:1:2:", "half a surrogate" },
		{ "\"\xc3\xa9\xff\"", "a.json:1:3:", "invalid UTF-8: byte 0xff" },
		{ "\"\xc0\x80\"", "a.json:1:2:", "invalid UTF-8" },         /* overlong */
		{ "\"\xe0\x80\x80\"", "a.json:1:2:", "invalid UTF-8" },     /* overlong */
		{ "\"\xf0\x80\x80\x80\"", "a.json:1:2:", "invalid UTF-8" }, /* overlong */
		{ "\"\xed\xa0\x80\"", "a.json:1:2:", "invalid UTF-8" },     /* surrogate */
		{ "\"\xf4\x90\x80\x80\"", "a.json:1:2:", "invalid UTF-8" }, /* > 10ffff */
		{ "\"\xe2\x82\"", "a.json:1:2:", "invalid UTF-8" },         /* cut short */
		{ "\"\x80\"", "a.json:1:2:", "invalid UTF-8" },             /* no lead */
		{ "{\"a\":1,\n\"b\":2,\n\"a\":3}", "a.json:3:1:",
		  "the key \"a\" is there twice, first at 1:2" },
		{ "{\"a\":1,\"\\u0061\":2}", "a.json:1:8:", "is there twice" },
		{ "{\"\xc3\xa9\":1,\"\\u00e9\":2}", "a.json:1:8:", "is there twice" },
		{ "{\"\xf0\x9f\x98\x80\":1,\"\\ud83d\\ude00\":2}", "a.json:1:8:", "is there twice" },
		{ "{\"\":1,\"\":2}", "a.json:1:7:", "is there twice" },
		{ "{\"b\":1,\"a\":1,\"a\":2,\"b\":3}", "a.json:1:14:", "the key \"a\"" },
		{ "[{\"x\":{\"a\":1,\"a\":1}}]", "a.json:1:14:", "the key \"a\"" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		error err;
		if (check(cases[i].json, &err))
			fail_msg("accepted: %s", cases[i].json);
		expect_error(&err, EXIT_BAD_INPUT, cases[i].place, cases[i].message, NULL);
	}
}

/* No prefix of a text is that text, and none may read past its own end. */
static void refuses_every_truncation(void **state)
{
	(void)state;
	static const char whole[] =
		"{\"a\\u00e9\\ud83d\\ude00\":[1.5e-3,true,false,null,{\"\xe2\x82\xac\":\"x\\n\"}]}";
	for (size_t size = 0; size < sizeof whole - 1; size++) {
		char *copy = malloc(size ? size : 1);
		error err;
		assert_non_null(copy);
		memcpy(copy, whole, size);
		assert_false(json_scan_check("a.json", copy, size, &err));
		expect_error(&err, EXIT_BAD_INPUT, "a.json:1:", NULL);
		free(copy);
	}
}

static void bounds_the_depth(void **state)
{
	(void)state;
	char deep[2 * JSON_MAX_DEPTH + 3];
	error err;
	memset(deep, '[', JSON_MAX_DEPTH);
	memset(deep + JSON_MAX_DEPTH, ']', JSON_MAX_DEPTH);
	assert_true(json_scan_check("a.json", deep, 2 * JSON_MAX_DEPTH, &err));
	memset(deep, '[', JSON_MAX_DEPTH + 1);
	assert_false(json_scan_check("a.json", deep, JSON_MAX_DEPTH + 1, &err));
	expect_error(&err, EXIT_BAD_INPUT, "a.json:1:65:", "nested deeper than 64", NULL);
}

/* `count` distinct keys, then the first again when `repeat`. */
static text many_keys(int count, bool repeat)
{
	text t = { 0 };
	text_puts(&t, "{");
	for (int i = 0; i < count; i++)
		text_printf(&t, "%s\"model.layers.%d.weight\":0", i ? "," : "", i);
	text_puts(&t, repeat ? ",\"model.layers.0.weight\":1}" : "}");
	assert_false(t.failed);
	return t;
}

/* 5e9 comparisons of pairs would take minutes; sorting takes tenths of a second. */
static void finds_duplicates_among_many_keys(void **state)
{
	(void)state;
	error err;
	text fine = many_keys(100000, false), twice = many_keys(100000, true);
	clock_t start = clock();
	assert_true(json_scan_check("a.json", fine.data, fine.length, &err));
	assert_false(json_scan_check("a.json", twice.data, twice.length, &err));
	double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
	expect_error(&err, EXIT_BAD_INPUT, "model.layers.0.weight", "twice, first at 1:2", NULL);
	assert_true(seconds < 10);
	text_free(&fine);
	text_free(&twice);
}

static void reads_integers_exactly(void **state)
{
	(void)state;
	static const struct {
		const char *json;
		int64_t low, high, value;
		bool ok;
	} cases[] = {
		{ "0", 0, 0, 0, true },
		{ "-0", 0, 0, 0, true },
		{ "9223372036854775807", INT64_MIN, INT64_MAX, INT64_MAX, true },
		{ "-9223372036854775808", INT64_MIN, INT64_MAX, INT64_MIN, true },
		{ "9007199254740993", 0, INT64_MAX, 9007199254740993, true }, /* 2^53 + 1 */
		{ "9223372036854775808", INT64_MIN, INT64_MAX, 0, false },
		{ "-9223372036854775809", INT64_MIN, INT64_MAX, 0, false },
		{ "18446744073709551617", INT64_MIN, INT64_MAX, 0, false }, /* 2^64 + 1 */
		{ "99999999999999999999999999", INT64_MIN, INT64_MAX, 0, false },
		{ "-1", 0, INT64_MAX, 0, false },
		{ "11", 0, 10, 0, false },
		{ "1.0", 0, 10, 0, false },
		{ "1e1", 0, 10, 0, false },
		{ "\"1\"", 0, 10, 0, false },
		{ "true", 0, 10, 0, false },
		{ "[", 0, 10, 0, false },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct json_scan s;
		int64_t value = 0;
		error err;
		json_scan_begin(&s, "a.json", cases[i].json, strlen(cases[i].json));
		assert_true(json_scan_next(&s, &err));
		bool ok = json_scan_integer(&s, cases[i].low, cases[i].high, &value, &err);
		if (ok != cases[i].ok)
			fail_msg("%s: %s", cases[i].json, ok ? "accepted" : err.text);
		if (ok)
			assert_true(value == cases[i].value);
		else
			expect_error(&err, EXIT_BAD_INPUT, "a.json:1:1: expected an integer from",
			             cases[i].json, NULL);
		json_scan_free(&s);
	}
}

static void pulls_tokens_in_order(void **state)
{
	(void)state;
	static const char json[] = "{\"k\\n\":[1,\"s\"],\"e\":{}, \"n\" : null}";
	static const struct {
		enum json_token token;
		const char *raw;
	} expected[] = {
		{ JSON_OBJECT_OPEN, "{" },   { JSON_KEY, "\"k\\n\"" },   { JSON_ARRAY_OPEN, "[" },
		{ JSON_NUMBER, "1" },        { JSON_STRING, "\"s\"" },   { JSON_ARRAY_CLOSE, "]" },
		{ JSON_KEY, "\"e\"" },       { JSON_OBJECT_OPEN, "{" },  { JSON_OBJECT_CLOSE, "}" },
		{ JSON_KEY, "\"n\"" },       { JSON_NULL, "null" },      { JSON_OBJECT_CLOSE, "}" },
		{ JSON_END, "" },            { JSON_END, "" },
	};
	struct json_scan s;
	error err;
	json_scan_begin(&s, "a.json", json, strlen(json));
	for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
		assert_true(json_scan_next(&s, &err));
		assert_int_equal(s.token, expected[i].token);
		assert_int_equal(s.end - s.start, strlen(expected[i].raw));
		assert_memory_equal(json + s.start, expected[i].raw, s.end - s.start);
	}
	json_scan_free(&s);
}

static void unescapes_text(void **state)
{
	(void)state;
	static const char json[] = "\"a\\/\\u00e9\\u20ac\\ud83d\\ude00\\t\"";
	static const char plain[] = "a/\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\t";
	struct json_scan s;
	char out[sizeof plain];
	error err;
	json_scan_begin(&s, "a.json", json, strlen(json));
	assert_true(json_scan_next(&s, &err));
	assert_true(json_scan_text(&s, out, sizeof out, "a name", &err));
	assert_string_equal(out, plain);
	assert_true(json_scan_is(&s, plain));
	assert_false(json_scan_is(&s, "a/"));
	assert_false(json_scan_is(&s, "a/\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\tb"));
	assert_false(json_scan_text(&s, out, sizeof out - 1, "a name", &err));
	expect_error(&err, EXIT_BAD_INPUT, "a.json:1:1: a name: expected at most", NULL);
	json_scan_free(&s);
}

static void skips_values(void **state)
{
	(void)state;
	static const char json[] = "[{\"a\":[1,{\"b\":2}]},3,\"x\"]";
	struct json_scan s;
	int64_t value;
	error err;
	json_scan_begin(&s, "a.json", json, strlen(json));
	assert_true(json_scan_expect(&s, JSON_ARRAY_OPEN, "an array", &err));
	assert_true(json_scan_expect(&s, JSON_OBJECT_OPEN, "an object", &err));
	assert_true(json_scan_skip(&s, &err));
	assert_int_equal(s.token, JSON_OBJECT_CLOSE);
	assert_true(json_scan_expect(&s, JSON_NUMBER, "a number", &err));
	assert_true(json_scan_skip(&s, &err)); /* a scalar is its own last token */
	assert_true(json_scan_integer(&s, 3, 3, &value, &err));
	assert_false(json_scan_expect(&s, JSON_NUMBER, "a number", &err));
	expect_error(&err, EXIT_BAD_INPUT, "a.json:1:22: expected a number, found \"x\"", NULL);
	json_scan_free(&s);
}

static void counts_columns_in_characters(void **state)
{
	(void)state;
	static const char text[] = "\xc3\xa9\xe2\x82\xac\n\xf0\x9f\x98\x80x";
	int line, column;
	json_line_column(text, 5, &line, &column); /* the newline */
	assert_int_equal(line, 1);
	assert_int_equal(column, 3);
	json_line_column(text, 10, &line, &column); /* the x */
	assert_int_equal(line, 2);
	assert_int_equal(column, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepts_json),
		cmocka_unit_test(refuses_with_the_place),
		cmocka_unit_test(refuses_every_truncation),
		cmocka_unit_test(bounds_the_depth),
		cmocka_unit_test(finds_duplicates_among_many_keys),
		cmocka_unit_test(reads_integers_exactly),
		cmocka_unit_test(pulls_tokens_in_order),
		cmocka_unit_test(unescapes_text),
		cmocka_unit_test(skips_values),
		cmocka_unit_test(counts_columns_in_characters),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
