/* The log of edges, and keys compared in words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/artifact/step.h"
#include "lib/artifact/why.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

static char tree[PATH_BYTES];

static int make(void **state)
{
	(void)state;
	error err;
	return temp_folder_make(tree, &err) ? 0 : -1;
}

static int clean(void **state)
{
	(void)state;
	temp_folder_remove(tree);
	return 0;
}

static void expect_words(const char *before, const char *after, const char *words)
{
	text out = { 0 };
	error err;
	assert_true(explain_keys(before, after, &out, &err));
	assert_string_equal(out.data ? out.data : "", words);
	text_free(&out);
}

static const char OLD[] = "1111111111111111111111111111111111111111111111111111111111111111";
static const char NEW[] = "2222222222222222222222222222222222222222222222222222222222222222";

static void changes_are_told_in_words(void **state)
{
	(void)state;
	char before[512], after[512];
	expect_words("tool a\n", "tool a\n", "");
	expect_words("tool a\nprompt answer\n", "tool a\nprompt text\n",
	             "prompt changed: was answer, is text\n");
	expect_words("tool a\n", "tool a\nexclude x*\n", "exclude is new: x*\n");
	expect_words("tool a\nexclude x*\n", "tool a\n", "exclude is gone: was x*\n");
	snprintf(before, sizeof before, "tool a\ntool_sources %s\ninput w %s\n", OLD, OLD);
	snprintf(after, sizeof after, "tool a\ntool_sources %s\ninput w %s\n", NEW, NEW);
	expect_words(before, after,
	             "the sources of the tool changed: was 111111111111..., is 222222222222...\n"
	             "input w changed: was 111111111111..., is 222222222222...\n");
}

/* Lines that come several times pair up in their order; equal ones stay out of it. */
static void repeated_names_pair_in_order(void **state)
{
	(void)state;
	expect_words("sample a\nsample b\nsample c\n", "sample a\nsample x\nsample c\n",
	             "sample changed: was b, is x\n");
	expect_words("sample a\n", "sample a\nsample a\n", "sample is new: a\n");
}

static void append(const char *target, double seconds, enum store_answer answer)
{
	error err;
	struct log_entry entry = { .tool = "slice", .target = target, .seconds = seconds,
		.answer = answer, .bytes = 5 };
	snprintf(entry.key.hex, sizeof entry.key.hex, "%s", OLD);
	assert_true(log_append(tree, &entry, &err));
}

static void torn_lines_are_left_out(void **state)
{
	(void)state;
	struct edge_log log;
	error err;
	char path[PATH_BYTES];
	append("b", 1, ANSWER_MISS);
	append("a", 2, ANSWER_HIT);
	assert_true(join_path(path, sizeof path, tree, "log/edges.jsonl", &err));
	FILE *file = fopen(path, "a");
	assert_non_null(file);
	fputs("{\"tool\":\"slice\",\"targ\n[1]\n{}\n\n", file);
	fclose(file);
	append("b", 3, ANSWER_NONE);
	assert_true(log_read(&log, tree, &err));
	assert_int_equal(log.count, 3);
	assert_string_equal(log.entries[0].target, "a");
	assert_int_equal(log.entries[0].answer, ANSWER_HIT);
	assert_true(log.entries[1].seconds == 1 && log.entries[2].seconds == 3);
	assert_int_equal(log.entries[2].answer, ANSWER_NONE);
	assert_int_equal(log.entries[2].bytes, 5);
	assert_int_equal(log_target_end(&log, 1), 3);
	assert_int_equal(log_run_end(&log, 1), 3); /* of this process */
	log_free(&log);
}

static void no_log_is_an_empty_one(void **state)
{
	(void)state;
	struct edge_log log;
	error err;
	assert_true(log_read(&log, tree, &err));
	assert_int_equal(log.count, 0);
	log_free(&log);
}

/* The text of a key comes back only whole. */
static void key_texts_are_checked(void **state)
{
	(void)state;
	struct digest key;
	error err;
	char *found_text, name[128];
	bool found;
	static const char content[] = "tool a\n";
	assert_true(digest_bytes(content, sizeof content - 1, &key, &err));
	assert_true(key_recall(tree, &key, &found_text, &found, &err));
	assert_false(found);
	snprintf(name, sizeof name, "log/keys/%s.txt", key.hex);
	char keys[PATH_BYTES];
	assert_true(join_path(keys, sizeof keys, tree, "log/keys", &err));
	assert_true(make_folders(keys, &err));
	assert_true(temp_folder_write(tree, name, content, sizeof content - 1, &err));
	assert_true(key_recall(tree, &key, &found_text, &found, &err));
	assert_true(found);
	assert_string_equal(found_text, content);
	free(found_text);
	assert_true(temp_folder_write(tree, name, content, 3, &err));
	assert_true(key_recall(tree, &key, &found_text, &found, &err));
	assert_false(found);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(changes_are_told_in_words),
		cmocka_unit_test(repeated_names_pair_in_order),
		cmocka_unit_test_setup_teardown(torn_lines_are_left_out, make, clean),
		cmocka_unit_test_setup_teardown(no_log_is_an_empty_one, make, clean),
		cmocka_unit_test_setup_teardown(key_texts_are_checked, make, clean),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
