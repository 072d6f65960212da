/* Model folders: one file or an index with shards, and whether they agree. */
#include "lib/checkpoint/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

#define INDEX "model.safetensors.index.json"

static int set_up(void **state)
{
	error err;
	*state = malloc(PATH_BYTES);
	return *state && temp_folder_make(*state, &err) ? 0 : -1;
}

static int tear_down(void **state)
{
	temp_folder_remove(*state);
	free(*state);
	return 0;
}

static void put(const char *folder, const char *name, const char *content)
{
	error err;
	assert_true(temp_folder_write(folder, name, content, strlen(content), &err));
}

/* A shard of one-byte tensors, named by the letters of `tensors`, holding their
 * own letter. */
static void put_shard(const char *folder, const char *name, const char *tensors)
{
	struct tensor list[8];
	char names[8][2];
	text out = { 0 };
	error err;
	size_t count = strlen(tensors);
	for (size_t i = 0; i < count; i++) {
		memcpy(names[i], (char[]){ tensors[i], '\0' }, 2);
		list[i] = (struct tensor){ .name = names[i], .dtype = DTYPE_U8, .bytes = 1 };
	}
	assert_true(safetensors_header(list, count, &out, &err));
	text_puts(&out, tensors);
	assert_true(temp_folder_write(folder, name, out.data, out.length, &err));
	text_free(&out);
}

static void expect_refusal(const char *folder, const char *place, const char *message)
{
	struct checkpoint ckpt;
	error err;
	if (checkpoint_open(&ckpt, folder, &err)) {
		checkpoint_close(&ckpt);
		fail_msg("accepted, expected: %s", message);
	}
	expect_error(&err, EXIT_BAD_INPUT, folder, place, message, NULL);
}

/* The folder holds exactly these tensors. */
static void expect_tensors(const char *folder, const char *tensors)
{
	struct checkpoint ckpt;
	error err;
	if (!checkpoint_open(&ckpt, folder, &err))
		fail_msg("%s", err.text);
	assert_int_equal(ckpt.count, strlen(tensors));
	for (size_t i = 0; i < ckpt.count; i++) {
		char name[2] = { tensors[i], '\0' };
		const struct tensor *t = checkpoint_find(&ckpt, name);
		assert_non_null(t);
		assert_ptr_equal(t, ckpt.by_name[i]);
		assert_string_equal(t->name, name);
		assert_memory_equal(t->data, name, 1);
		assert_memory_equal(t->file, folder, strlen(folder));
	}
	assert_null(checkpoint_find(&ckpt, "absent"));
	checkpoint_close(&ckpt);
}

static void opens_single_files(void **state)
{
	put_shard(*state, "model.safetensors", "cab");
	expect_tensors(*state, "abc");
}

static void opens_indexed_shards(void **state)
{
	put_shard(*state, "z.safetensors", "da");
	put_shard(*state, "y.safetensors", "cb");
	put(*state, INDEX, "{\"metadata\":{\"total_size\":4},\"weight_map\":{"
	                   "\"a\":\"z.safetensors\",\"b\":\"y.safetensors\","
	                   "\"c\":\"y.safetensors\",\"d\":\"z.safetensors\"}}");
	expect_tensors(*state, "abcd");
}

static void prefers_the_index(void **state)
{
	put_shard(*state, "model.safetensors", "x");
	put_shard(*state, "y.safetensors", "ab");
	put(*state, INDEX, "{\"weight_map\":{\"a\":\"y.safetensors\",\"b\":\"y.safetensors\"}}");
	expect_tensors(*state, "ab");
}

/* The model hub's cache is links to files with other names elsewhere. */
static void follows_links(void **state)
{
	char from[PATH_BYTES], to[PATH_BYTES];
	const char *folder = *state;
	error err;
	put_shard(folder, "blob", "ab");
	assert_true(join_path(from, sizeof from, folder, "blob", &err));
	assert_true(join_path(to, sizeof to, folder, "model.safetensors", &err));
	assert_int_equal(symlink(from, to), 0);
	expect_tensors(folder, "ab");
}

static void opens_the_demo(void **state)
{
	(void)state;
	struct checkpoint ckpt;
	error err;
	if (!checkpoint_open(&ckpt, "demo/tiny-qwen2_5-vl", &err))
		fail_msg("%s", err.text);
	assert_int_equal(ckpt.file_count, 2);
	size_t bytes = 0;
	for (size_t i = 0; i < ckpt.count; i++) {
		bytes += ckpt.by_name[i]->bytes;
		if (i)
			assert_true(strcmp(ckpt.by_name[i - 1]->name, ckpt.by_name[i]->name) < 0);
	}
	assert_int_equal(bytes, 14539904); /* total_size of its index */
	const struct tensor *t = checkpoint_find(&ckpt, "visual.patch_embed.proj.weight");
	assert_non_null(t);
	assert_int_equal(t->rank, 5);
	assert_int_equal(t->elements, 160 * 1176);
	checkpoint_close(&ckpt);
}

static void refuses_bad_indexes(void **state)
{
	static const struct {
		const char *index, *place, *message;
	} cases[] = {
		{ "", INDEX ":1:1:", "expected a value, found the end" },
		{ "[]", INDEX ":1:1:", "expected an object, found an array" },
		{ "{}", INDEX ":1:1:", "lacks the field \"weight_map\"" },
		{ "{\"weight_map\":[]}", INDEX ":1:2: weight_map:",
		  "expected an object, found an array" },
		{ "{\"weight_map\":{}}", INDEX ":1:2: weight_map:", "names no tensor" },
		{ "{\"weight_map\":{\"a\":1}}", INDEX ":1:16: weight_map.a:",
		  "expected the name of a shard" },
		{ "{\"weight_map\":{\"a\":null}}", INDEX ":1:16:", "expected the name of a shard" },
		{ "{\"weight_map\":{\"a\":\"\"}}", INDEX ":1:16:",
		  "expected a file name inside the folder, found \"\"" },
		{ "{\"weight_map\":{\"a\":\".\"}}", INDEX ":1:16:", "inside the folder" },
		{ "{\"weight_map\":{\"a\":\"..\"}}", INDEX ":1:16:", "inside the folder" },
		{ "{\"weight_map\":{\"a\":\"../m.safetensors\"}}", INDEX ":1:16:",
		  "found \"../m.safetensors\"" },
		{ "{\"weight_map\":{\"a\":\"/etc/passwd\"}}", INDEX ":1:16:",
		  "found \"/etc/passwd\"" },
		{ "{\"weight_map\":{\"a\":\"sub/m.safetensors\"}}", INDEX ":1:16:",
		  "found \"sub/m.safetensors\"" },
		{ "{\"weight_map\":{\"a\":\"m.safetensors\",\n\"a\":\"m.safetensors\"}}",
		  INDEX ":2:1:", "the key \"a\" is there twice" },
		{ "{\"weight_map\":{\"a\":\"m\\u0000.safetensors\"}}", INDEX ":1:", "\\u0000" },
		{ "{\"weight_map\":{\"a\":\"m.safetensors\",\"b\":\"m.safetensors\",\n"
		  "\"c\":\"gone.safetensors\"}}", INDEX ":2:1: weight_map.c:",
		  "gone.safetensors is absent" },
		{ "{\"weight_map\":{\"a\":\"m.safetensors\",\n\"b\":\"m.safetensors\",\n"
		  "\"c\":\"m.safetensors\"}}", INDEX ":3:1: weight_map.c:",
		  "the tensor is not in the shard \"m.safetensors\"" },
		{ "{\"weight_map\":{\"a\":\"m.safetensors\"}}", "m.safetensors: tensor b:",
		  "index.json does not place it here" },
		{ "{\"weight_map\":{\"b\":\"m.safetensors\"}}", "m.safetensors: tensor a:",
		  "index.json does not place it here" },
		{ "{\"weight_map\":{\"a\":\"m.safetensors\",\"b\":\"broken.safetensors\"}}",
		  "broken.safetensors:", "header length" },
		/* n holds a as well, whichever of the two the index names. */
		{ "{\"weight_map\":{\"a\":\"m.safetensors\",\"b\":\"m.safetensors\","
		  "\"c\":\"n.safetensors\"}}", "n.safetensors: tensor a:", "does not place it here" },
	};
	put_shard(*state, "m.safetensors", "ab");
	put_shard(*state, "n.safetensors", "ac");
	put(*state, "broken.safetensors", "not a header at all");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		put(*state, INDEX, cases[i].index);
		expect_refusal(*state, cases[i].place, cases[i].message);
	}
}

static void refuses_empty_and_absent_folders(void **state)
{
	char absent[PATH_BYTES];
	error err;
	expect_refusal(*state, "", "expected " INDEX " or model.safetensors, found neither");
	assert_true(join_path(absent, sizeof absent, *state, "none", &err));
	expect_refusal(absent, "", "found neither");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(opens_single_files, set_up, tear_down),
		cmocka_unit_test_setup_teardown(opens_indexed_shards, set_up, tear_down),
		cmocka_unit_test_setup_teardown(prefers_the_index, set_up, tear_down),
		cmocka_unit_test_setup_teardown(follows_links, set_up, tear_down),
		cmocka_unit_test(opens_the_demo),
		cmocka_unit_test_setup_teardown(refuses_bad_indexes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refuses_empty_and_absent_folders, set_up,
		                                tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
