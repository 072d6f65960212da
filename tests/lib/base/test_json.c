/* JSON documents: fields with their checks, places in errors, printing. */
#include "lib/base/json.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/json_scan.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

static json_doc parse(const char *json)
{
	json_doc doc;
	error err;
	if (!json_parse(&doc, "a.json", json, strlen(json), &err))
		fail_msg("%s: %s", json, err.text);
	return doc;
}

static const cJSON *item_at(const json_doc *doc, const char *a, const char *b)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(doc->root, a);
	return b ? cJSON_GetObjectItemCaseSensitive(item, b) : item;
}

/* The checks themselves are the scanner's (test_json_scan); here, that both ways
 * in go through them. */
static void refuses_what_the_scanner_refuses(void **state)
{
	(void)state;
	static const char broken[] = "{\"a\": 1,\n \"a\": 2}";
	char folder[PATH_BYTES], path[PATH_BYTES];
	json_doc doc;
	error err;
	assert_false(json_parse(&doc, "a.json", broken, strlen(broken), &err));
	expect_error(&err, EXIT_BAD_INPUT, "a.json:2:2: the key \"a\" is there twice", NULL);
	assert_true(temp_folder_make(folder, &err));
	assert_true(temp_folder_write(folder, "b.json", broken, strlen(broken), &err));
	assert_true(join_path(path, sizeof path, folder, "b.json", &err));
	assert_false(json_load(&doc, path, 1000, &err));
	expect_error(&err, EXIT_BAD_INPUT, path, ":2:2:", NULL);
	assert_false(json_load(&doc, path, 10, &err));
	expect_error(&err, EXIT_BAD_INPUT, path, "at most 10 bytes", NULL);
	temp_folder_remove(folder);
	assert_false(json_load(&doc, path, 1000, &err));
	expect_error(&err, EXIT_BAD_INPUT, path, "No such file", NULL);
}

static const char nested[] = "{\n"
                             "  \"a\": 1,\n"
                             "  \"list\": [10, {\"x\": true},\n"
                             "           \"\xc3\xa9\", [], {\"y\": {\"z\": null}}],\n"
                             "  \"k\\u0065y\": {\"in\": 3}\n"
                             "}\n";

static void names_places_and_paths(void **state)
{
	(void)state;
	json_doc doc = parse(nested);
	const cJSON *list = item_at(&doc, "list", NULL);
	const cJSON *last = cJSON_GetArrayItem(list, 4);
	const cJSON *y = cJSON_GetObjectItemCaseSensitive(last, "y");
	const struct {
		const cJSON *item;
		int line, column;
		const char *path;
	} cases[] = {
		{ doc.root, 1, 1, "" },
		{ item_at(&doc, "a", NULL), 2, 3, "a" },
		{ list, 3, 3, "list" },
		{ cJSON_GetArrayItem(list, 0), 3, 12, "list[0]" },
		{ cJSON_GetArrayItem(list, 1), 3, 16, "list[1]" },
		{ cJSON_GetArrayItem(list, 1)->child, 3, 17, "list[1].x" },
		{ cJSON_GetArrayItem(list, 2), 4, 12, "list[2]" },
		{ cJSON_GetArrayItem(list, 3), 4, 17, "list[3]" },
		{ last, 4, 21, "list[4]" },
		{ y->child, 4, 28, "list[4].y.z" },
		{ item_at(&doc, "key", "in"), 5, 16, "key.in" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		int line, column;
		char path[64];
		assert_non_null(cases[i].item);
		json_place(&doc, cases[i].item, &line, &column);
		json_path(&doc, cases[i].item, path, sizeof path);
		assert_string_equal(path, cases[i].path);
		assert_int_equal(line, cases[i].line);
		assert_int_equal(column, cases[i].column);
	}
	char cut[6];
	json_path(&doc, y->child, cut, sizeof cut);
	assert_string_equal(cut, "list[");
	json_free(&doc);
}

/* A tree may be changed after parsing (configure --set): what came later stands
 * where its container stands. */
static void places_added_items_at_their_container(void **state)
{
	(void)state;
	json_doc doc = parse(nested);
	int line, column;
	cJSON *added = cJSON_AddNumberToObject(
		cJSON_GetObjectItemCaseSensitive(doc.root, "key"), "new", 5);
	assert_non_null(added);
	json_place(&doc, added, &line, &column);
	assert_int_equal(line, 5);
	assert_int_equal(column, 3);
	json_free(&doc);
}

static void writes_place_and_path_in_errors(void **state)
{
	(void)state;
	json_doc doc = parse(nested);
	error err;
	assert_false(json_fail(&doc, item_at(&doc, "key", "in"), &err, "too %s", "odd"));
	expect_error(&err, EXIT_BAD_INPUT, "a.json:5:16: key.in: too odd", NULL);
	assert_false(json_fail(&doc, doc.root, &err, "all of it"));
	assert_string_equal(err.text, "a.json:1:1: all of it");
	json_free(&doc);
}

static const char fields[] =
	"{\"text\":\"t\",\"int\":7,\"big\":9007199254740993,\"half\":2.5,\"yes\":true,"
	"\"nil\":null,\"obj\":{},\"arr\":[],\"Int\":8,\"thousand\":1e3}";

static void takes_typed_fields(void **state)
{
	(void)state;
	json_doc doc = parse(fields);
	const cJSON *root = doc.root;
	const char *string = NULL;
	int64_t integer = 0;
	double number = 0;
	bool boolean = false;
	error err;
	assert_true(json_text(&doc, root, "text", &string, &err));
	assert_string_equal(string, "t");
	assert_true(json_integer(&doc, root, "int", 7, 7, &integer, &err));
	assert_int_equal(integer, 7);
	assert_true(json_integer(&doc, root, "thousand", 0, INT64_MAX, &integer, &err));
	assert_int_equal(integer, 1000);
	assert_true(json_number(&doc, root, "half", 2.5, 2.5, &number, &err));
	assert_true(number == 2.5);
	assert_true(json_boolean(&doc, root, "yes", &boolean, &err));
	assert_true(boolean);
	assert_ptr_equal(json_object(&doc, root, "obj", &err), item_at(&doc, "obj", NULL));
	assert_ptr_equal(json_array(&doc, root, "arr", &err), item_at(&doc, "arr", NULL));
	json_free(&doc);
}

static void keeps_defaults_of_optional_fields(void **state)
{
	(void)state;
	json_doc doc = parse(fields);
	static const char *const absent[] = { "nil", "none" };
	error err;
	for (int i = 0; i < 2; i++) {
		const char *string = "kept";
		int64_t integer = -5;
		double number = -6;
		bool boolean = true;
		assert_true(json_text_or(&doc, doc.root, absent[i], &string, &err));
		assert_true(json_integer_or(&doc, doc.root, absent[i], 0, 1, &integer, &err));
		assert_true(json_number_or(&doc, doc.root, absent[i], 0, 1, &number, &err));
		assert_true(json_boolean_or(&doc, doc.root, absent[i], &boolean, &err));
		assert_string_equal(string, "kept");
		assert_int_equal(integer, -5);
		assert_true(number == -6);
		assert_true(boolean);
	}
	int64_t integer = 0;
	assert_true(json_integer_or(&doc, doc.root, "int", 0, 9, &integer, &err));
	assert_int_equal(integer, 7);
	assert_false(json_integer_or(&doc, doc.root, "text", 0, 9, &integer, &err));
	expect_error(&err, EXIT_BAD_INPUT, "a.json:1:2: text:", NULL);
	json_free(&doc);
}

static void refuses_fields_of_another_kind(void **state)
{
	(void)state;
	json_doc doc = parse(fields);
	const cJSON *root = doc.root;
	const char *string;
	int64_t integer;
	double number;
	bool boolean;
	error err;
	assert_false(json_text(&doc, root, "int", &string, &err));
	expect_error(&err, EXIT_BAD_INPUT, "a.json:1:13: int: expected a text, found 7", NULL);
	assert_false(json_text(&doc, root, "none", &string, &err));
	expect_error(&err, EXIT_BAD_INPUT, "a.json:1:1: lacks the field \"none\" (a text)", NULL);
	assert_false(json_text(&doc, root, "TEXT", &string, &err));
	expect_error(&err, EXIT_BAD_INPUT, "lacks the field \"TEXT\"", NULL);
	assert_false(json_text(&doc, root, "nil", &string, &err));
	expect_error(&err, EXIT_BAD_INPUT, "nil: expected a text, found null", NULL);
	assert_false(json_integer(&doc, root, "int", 8, 1000000, &integer, &err));
	expect_error(&err, EXIT_BAD_INPUT, "int: expected an integer from 8 to 1000000, found 7",
	             NULL);
	assert_false(json_integer(&doc, root, "half", 0, 9, &integer, &err));
	expect_error(&err, EXIT_BAD_INPUT, "half: expected an integer", "found 2.5", NULL);
	assert_false(json_integer(&doc, root, "big", 0, INT64_MAX, &integer, &err));
	expect_error(&err, EXIT_BAD_INPUT, "big:", "to 9007199254740991", NULL);
	assert_false(json_integer(&doc, root, "obj", 0, 9, &integer, &err));
	expect_error(&err, EXIT_BAD_INPUT, "obj:", "found an object", NULL);
	assert_false(json_number(&doc, root, "half", 3, 1e30, &number, &err));
	expect_error(&err, EXIT_BAD_INPUT, "half: expected a number from 3 to 1e+30, found 2.5",
	             NULL);
	assert_false(json_boolean(&doc, root, "int", &boolean, &err));
	expect_error(&err, EXIT_BAD_INPUT, "int: expected true or false, found 7", NULL);
	assert_null(json_object(&doc, root, "arr", &err));
	expect_error(&err, EXIT_BAD_INPUT, "arr: expected an object, found an array", NULL);
	assert_null(json_array(&doc, root, "yes", &err));
	expect_error(&err, EXIT_BAD_INPUT, "yes: expected an array, found true", NULL);
	const cJSON *list = item_at(&doc, "arr", NULL);
	assert_false(json_integer(&doc, list, "x", 0, 9, &integer, &err));
	expect_error(&err, EXIT_BAD_INPUT, "arr: expected an object, found an array", NULL);
	json_free(&doc);
}

static void names_unknown_fields(void **state)
{
	(void)state;
	static const char *const known[] = { "calib_samples", "score_samples", "format", NULL };
	json_doc doc = parse("{\"s\":{\"format\":1,\n\"calib_sampels\":2}, \"t\":{\"zzz\":1}}");
	error err;
	assert_true(json_only_fields(&doc, doc.root, (const char *const[]){ "s", "t", NULL },
	                             &err));
	assert_false(json_only_fields(&doc, item_at(&doc, "s", NULL), known, &err));
	expect_error(&err, EXIT_BAD_INPUT, "a.json:2:1: s.calib_sampels: unknown field",
	             "did you mean \"calib_samples\"?", NULL);
	assert_false(json_only_fields(&doc, item_at(&doc, "t", NULL), known, &err));
	assert_string_equal(err.text, "a.json:2:26: t.zzz: unknown field");
	assert_false(json_only_fields(&doc, item_at(&doc, "s", "format"), known, &err));
	expect_error(&err, EXIT_BAD_INPUT, "s.format: expected an object, found 1", NULL);
	json_free(&doc);
}

static void prints_trees(void **state)
{
	(void)state;
	static const char printed[] = "{\n"
	                              "  \"b\": [\n"
	                              "    1,\n"
	                              "    0.1,\n"
	                              "    -0,\n"
	                              "    []\n"
	                              "  ],\n"
	                              "  \"a\": {\n"
	                              "    \"\\\"\\\\\\n\\u0001\": \"\xc3\xa9/\",\n"
	                              "    \"t\": true,\n"
	                              "    \"f\": false,\n"
	                              "    \"n\": null,\n"
	                              "    \"o\": {}\n"
	                              "  }\n"
	                              "}\n";
	json_doc doc = parse("{\"b\":[1.0,1e-1,-0.0,[]],\"a\":{\"\\\"\\\\\\n\\u0001\":"
	                     "\"\\u00e9\\/\",\"t\":true,\"f\":false,\"n\":null,\"o\":{}}}");
	text out = { 0 }, again = { 0 };
	error err;
	assert_true(json_print(doc.root, &out, &err));
	assert_string_equal(out.data, printed);
	json_free(&doc);
	doc = parse(out.data);
	assert_true(json_print(doc.root, &again, &err));
	assert_string_equal(again.data, printed);
	json_free(&doc);
	text_free(&out);
	text_free(&again);
}

static void refuses_to_print_what_json_lacks(void **state)
{
	(void)state;
	const double values[] = { NAN, INFINITY, -INFINITY };
	text out = { 0 };
	error err;
	for (int i = 0; i < 3; i++) {
		cJSON *item = cJSON_CreateNumber(values[i]);
		assert_false(json_print(item, &out, &err));
		expect_error(&err, EXIT_INTERNAL, "cannot write", NULL);
		cJSON_Delete(item);
	}
	cJSON *item = cJSON_CreateString("a\xff");
	assert_false(json_print(item, &out, &err));
	expect_error(&err, EXIT_BAD_INPUT, "not UTF-8: a", NULL);
	cJSON_Delete(item);
	cJSON *deep = cJSON_CreateArray(), *inner = deep;
	for (int i = 0; i < JSON_MAX_DEPTH; i++) {
		cJSON *next = cJSON_CreateArray();
		cJSON_AddItemToArray(inner, next);
		inner = next;
	}
	assert_false(json_print(deep, &out, &err));
	expect_error(&err, EXIT_INTERNAL, "deeper than 64", NULL);
	cJSON_Delete(deep);
	text_free(&out);
}

static void formats_numbers_shortly(void **state)
{
	(void)state;
	static const struct {
		double value;
		const char *text;
	} cases[] = {
		{ 0, "0" }, { -0.0, "-0" }, { 1, "1" }, { -16, "-16" }, { 100, "100" },
		{ 1e15, "1000000000000000" }, { 9007199254740992.0, "9007199254740992" },
		{ 16584333312.0, "16584333312" }, { 1e22, "1e+22" }, { 0.1, "0.1" },
		{ 0.5, "0.5" }, { 1e-6, "1e-06" }, { 1.0 / 3, "0.3333333333333333" },
		{ 0.1 + 0.2, "0.30000000000000004" }, { 123456.789, "123456.789" },
		{ 5e-324, "5e-324" }, { DBL_MAX, "1.7976931348623157e+308" },
		{ 0.48145466, "0.48145466" }, { (double)0.1f, "0.10000000149011612" },
	};
	char out[JSON_NUMBER_TEXT];
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		json_format_number(cases[i].value, out);
		assert_string_equal(out, cases[i].text);
	}
}

/* Doubles of every exponent come back the same bits. */
static void formats_numbers_exactly(void **state)
{
	(void)state;
	uint64_t bits = 88172645463325252;
	char out[JSON_NUMBER_TEXT];
	for (int i = 0; i < 20000; i++) {
		double value, back;
		bits ^= bits << 13; /* xorshift64 (Marsaglia 2003) */
		bits ^= bits >> 7;
		bits ^= bits << 17;
		memcpy(&value, &bits, sizeof value);
		if (!isfinite(value))
			continue;
		json_format_number(value, out);
		back = strtod(out, NULL);
		assert_memory_equal(&back, &value, sizeof value);
	}
}

/* A locale with a decimal comma changes neither reading nor printing. No such
 * locale need be installed: without one the test still checks the C locale. */
static void ignores_the_locale(void **state)
{
	(void)state;
	static const char *const names[] = { "de_DE.UTF-8", "fr_FR.UTF-8", "de_DE" };
	char out[JSON_NUMBER_TEXT];
	error err;
	for (int i = 0; i < 3 && !setlocale(LC_NUMERIC, names[i]); i++)
		;
	json_format_number(0.25, out);
	bool accepted = json_scan_check("a.json", "[1.5e300]", 9, &err);
	bool refused = !json_scan_check("a.json", "[1.5e400]", 9, &err);
	setlocale(LC_NUMERIC, "C");
	assert_string_equal(out, "0.25");
	assert_true(accepted);
	assert_true(refused);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_what_the_scanner_refuses),
		cmocka_unit_test(names_places_and_paths),
		cmocka_unit_test(places_added_items_at_their_container),
		cmocka_unit_test(writes_place_and_path_in_errors),
		cmocka_unit_test(takes_typed_fields),
		cmocka_unit_test(keeps_defaults_of_optional_fields),
		cmocka_unit_test(refuses_fields_of_another_kind),
		cmocka_unit_test(names_unknown_fields),
		cmocka_unit_test(prints_trees),
		cmocka_unit_test(refuses_to_print_what_json_lacks),
		cmocka_unit_test(formats_numbers_shortly),
		cmocka_unit_test(formats_numbers_exactly),
		cmocka_unit_test(ignores_the_locale),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
