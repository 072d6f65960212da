/* Which files of a model folder decide what. */
#include "lib/checkpoint/model_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/file.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

static char folder[PATH_BYTES];

static int make(void **state)
{
	(void)state;
	error err;
	return temp_folder_make(folder, &err) ? 0 : -1;
}

static int clean(void **state)
{
	(void)state;
	temp_folder_remove(folder);
	return 0;
}

/* The list is exactly these names, NULL at the end. */
static void expect_list(const char *path, enum file_class class, const char *const *names)
{
	struct file_names files;
	arena memory = { 0 };
	error err;
	int i = 0;
	if (!list_model_files(path, class, &memory, &files, &err))
		fail_msg("%s", err.text);
	for (; names[i]; i++) {
		assert_true(i < files.count);
		assert_string_equal(files.names[i], names[i]);
	}
	assert_int_equal(files.count, i);
	arena_free(&memory);
}

#define NAMES(...) (const char *const[]){ __VA_ARGS__, NULL }

static void sorts_the_demos_files(void **state)
{
	(void)state;
	expect_list("demo/tiny-qwen2_5-vl", FILES_WEIGHTS,
	            NAMES("config.json", "model-00001-of-00002.safetensors",
	                  "model-00002-of-00002.safetensors", "model.safetensors.index.json"));
	expect_list("demo/tiny-qwen2_5-vl", FILES_TOKENS,
	            NAMES("merges.txt", "preprocessor_config.json", "tokenizer.json",
	                  "tokenizer_config.json", "vocab.json"));
	expect_list("demo/tiny-qwen2_5-vl", FILES_TEXTS,
	            NAMES("chat_template.json", "generation_config.json", "merges.txt",
	                  "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json",
	                  "vocab.json"));
}

static void leaves_out_what_is_no_part_of_it(void **state)
{
	(void)state;
	static const char *const files[] = { "LICENSE", "a.bin", "b.pt", "c.pth", "d.gguf",
		".gitattributes", "config.json", "model.safetensors", "hf_quant_config.json",
		"README.md", "odd name (1).txt" };
	char path[PATH_BYTES], link[PATH_BYTES];
	error err;
	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		assert_true(temp_folder_write(folder, files[i], "x", 1, &err));
	assert_true(join_path(path, sizeof path, folder, "sub.safetensors", &err));
	assert_true(make_folders(path, &err)); /* a folder, whatever it is called */
	assert_true(join_path(link, sizeof link, folder, "dangling.safetensors", &err));
	assert_int_equal(symlink("nowhere", link), 0);
	/* A link to a file is one: the hub's cache is made of them. */
	assert_true(join_path(link, sizeof link, folder, "linked.safetensors", &err));
	assert_int_equal(symlink("model.safetensors", link), 0);
	expect_list(folder, FILES_WEIGHTS,
	            NAMES("config.json", "linked.safetensors", "model.safetensors"));
	expect_list(folder, FILES_TOKENS, (const char *const[]){ NULL });
	expect_list(folder, FILES_TEXTS, NAMES("LICENSE", "README.md", "odd name (1).txt"));
}

static void tells_of_a_folder_that_is_missing(void **state)
{
	(void)state;
	struct file_names files;
	arena memory = { 0 };
	error err;
	assert_false(list_model_files("no/such/model", FILES_TEXTS, &memory, &files, &err));
	expect_error(&err, EXIT_BAD_INPUT, "no/such/model", NULL);
	assert_false(list_model_files("schemes.json", FILES_TEXTS, &memory, &files, &err));
	expect_error(&err, EXIT_BAD_INPUT, "schemes.json", NULL);
	arena_free(&memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sorts_the_demos_files),
		cmocka_unit_test(leaves_out_what_is_no_part_of_it),
		cmocka_unit_test(tells_of_a_folder_that_is_missing),
	};
	return cmocka_run_group_tests(tests, make, clean);
}
