/* Building JSON: what is added is printed, in its order; whatever fails on the way is
 * told at the end. */
#include "lib/base/json_tree.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/json.h"
#include "tests/support/expect_error.h"

#include <cmocka.h>

static void prints_what_was_added(void **state)
{
	(void)state;
	struct json_tree tree = tree_new(), copied = tree_new();
	text out = { 0 }, again = { 0 };
	error err;
	cJSON *list = tree_array(&tree, tree.root, "list");
	tree_text(&tree, tree.root, "text", "a \"b\"\n");
	tree_number(&tree, tree.root, "number", 0.1);
	cJSON *inner = tree_object(&tree, list, NULL);
	tree_boolean(&tree, inner, "yes", true);
	tree_boolean(&tree, inner, "no", false);
	tree_null(&tree, list, NULL);
	tree_text(&tree, list, NULL, "");
	tree_number(&tree, list, NULL, -0.0);
	tree_copy(&copied, copied.root, "copy", list);
	assert_true(tree_finish(&tree, &out, &err));
	assert_string_equal(out.data,
	                    "{\n  \"list\": [\n    {\n      \"yes\": true,\n      \"no\": false\n"
	                    "    },\n    null,\n    \"\",\n    -0\n  ],\n"
	                    "  \"text\": \"a \\\"b\\\"\\n\",\n  \"number\": 0.1\n}\n");
	assert_null(tree.root);
	/* The copy outlives what it was copied from. */
	assert_true(tree_finish(&copied, &again, &err));
	assert_non_null(strstr(again.data, "\"copy\": [\n"));
	assert_non_null(strstr(again.data, "\"yes\": true"));
	text_free(&out);
	text_free(&again);
}

static void an_empty_tree_is_an_object(void **state)
{
	(void)state;
	struct json_tree tree = tree_new();
	text out = { 0 };
	error err;
	assert_true(tree_finish(&tree, &out, &err));
	assert_string_equal(out.data, "{}\n");
	text_free(&out);
}

static void failures_are_told_at_the_end(void **state)
{
	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		struct json_tree tree = tree_new();
		text out = { 0 };
		error err;
		cJSON *missing = NULL; /* what an addition that failed gives */
		if (kind == 0)
			missing = tree_object(&tree, missing, "a");
		else if (kind == 1)
			tree_copy(&tree, tree.root, "a", NULL);
		else
			tree_text(&tree, tree.root, "a", NULL);
		assert_null(missing);
		assert_true(tree.failed);
		tree_number(&tree, missing, "b", 1); /* goes on without harm */
		tree_number(&tree, tree.root, "c", 1);
		assert_false(tree_finish(&tree, &out, &err));
		expect_error(&err, EXIT_ENVIRONMENT, "a JSON tree", NULL);
		assert_null(tree.root);
		text_free(&out);
	}
}

static void what_has_no_json_is_an_error(void **state)
{
	(void)state;
	struct json_tree tree = tree_new();
	text out = { 0 };
	error err;
	tree_number(&tree, tree.root, "x", NAN);
	assert_false(tree_finish(&tree, &out, &err));
	assert_int_equal(err.code, EXIT_INTERNAL);
	text_free(&out);
	tree = tree_new();
	tree_text(&tree, tree.root, "x", "\xff");
	assert_false(tree_finish(&tree, &out, &err));
	assert_int_equal(err.code, EXIT_BAD_INPUT);
	text_free(&out);
	tree = tree_new();
	tree_text(&tree, tree.root, "x", "dropped");
	tree_free(&tree); /* unprinted */
	tree_free(&tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prints_what_was_added),
		cmocka_unit_test(an_empty_tree_is_an_object),
		cmocka_unit_test(failures_are_told_at_the_end),
		cmocka_unit_test(what_has_no_json_is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
