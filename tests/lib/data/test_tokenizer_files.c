/* Files of a tokenizer that are damaged, or describe another kind: each is refused
 * with the file, the place and what was wrong. The good files that the bad ones
 * are made from have the 256 bytes, "ab", "abc" and one special token. */
#include "lib/data/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/text.h"
#include "lib/data/pretoken.h"
#include "lib/data/unicode.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

static char folder[PATH_BYTES];

static int make_folder(void **state)
{
	(void)state;
	error err;
	return temp_folder_make(folder, &err) ? 0 : -1;
}

static int remove_folder(void **state)
{
	(void)state;
	temp_folder_remove(folder);
	return 0;
}

static void write_file(const char *name, const char *content)
{
	error err;
	if (!temp_folder_write(folder, name, content, strlen(content), &err))
		fail_msg("%s", err.text);
}

/* "x": 0, ... for the 256 characters of the byte alphabet, "ab" and "abc". */
static void add_vocab(text *t)
{
	int id = 0;
	text_puts(t, "{");
	for (uint32_t code = 0; code < 0x144; code++) {
		char c[UTF8_MAX_BYTES];
		bool itself = (code >= '!' && code <= '~') ||
		              (code >= 0xA1 && code <= 0xFF && code != 0xAD);
		if (!itself && code < 0x100)
			continue;
		text_puts(t, code == '"' || code == '\\' ? "\"\\" : "\"");
		text_add(t, c, utf8_write(code, c));
		text_printf(t, "\": %d,\n", id++);
	}
	text_printf(t, "\"ab\": %d, \"abc\": %d}", id, id + 1);
}

/* Writes `from` with the first `what` in it replaced by `with`. */
static void write_changed(const char *name, const char *from, const char *what,
                          const char *with)
{
	const char *at = strstr(from, what);
	text t = { 0 };
	error err;
	if (!at)
		fail_msg("%s: no \"%s\" to change", name, what);
	text_add(&t, from, (size_t)(at - from));
	text_puts(&t, with);
	text_puts(&t, at + strlen(what));
	assert_true(text_ok(&t, &err));
	write_file(name, t.data);
	text_free(&t);
}

static const char good_merges[] = "#version: 0.2\na b\nab c\n";

static const char good_config[] =
	"{\"tokenizer_class\": \"Qwen2Tokenizer\", \"add_prefix_space\": false,\n"
	"\"added_tokens_decoder\": {\"300\": {\"content\": \"<|im_end|>\", "
	"\"lstrip\": false, \"normalized\": false, \"rstrip\": false, "
	"\"single_word\": false, \"special\": true}}}";

static char *good_vocab(void)
{
	text t = { 0 };
	error err;
	add_vocab(&t);
	assert_true(text_ok(&t, &err));
	return t.data;
}

static char *good_json(void)
{
	text t = { 0 };
	error err;
	text_puts(&t, "{\"added_tokens\": [{\"id\": 300, \"content\": \"<|im_end|>\","
	              " \"single_word\": false, \"lstrip\": false, \"rstrip\": false,"
	              " \"normalized\": false, \"special\": true}],\n"
	              "\"normalizer\": {\"type\": \"NFC\"},\n"
	              "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": ["
	              "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"");
	for (const char *c = pretoken_pattern; *c; c++)
		text_printf(&t, *c == '\\' ? "\\\\" : "%c", *c);
	text_puts(&t, "\"}, \"behavior\": \"Isolated\", \"invert\": false},\n"
	              "{\"type\": \"ByteLevel\", \"add_prefix_space\": false,"
	              " \"use_regex\": false}]},\n\"post_processor\": null,\n"
	              "\"decoder\": {\"type\": \"ByteLevel\"},\n"
	              "\"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null,"
	              " \"byte_fallback\": false, \"ignore_merges\": false,\n\"vocab\": ");
	add_vocab(&t);
	text_puts(&t, ",\n\"merges\": [\"a b\", [\"ab\", \"c\"]]}}");
	assert_true(text_ok(&t, &err));
	return t.data;
}

static void write_good_vocab_files(void)
{
	char *vocab = good_vocab();
	write_file("vocab.json", vocab);
	write_file("merges.txt", good_merges);
	write_file("tokenizer_config.json", good_config);
	free(vocab);
}

static void assert_reads_good(struct tokenizer *t, const error *err)
{
	struct token_list ids = { 0 };
	error ignored;
	if (!t)
		fail_msg("%s", err->text);
	assert_true(tokenizer_encode(t, "abc<|im_end|>", 13, true, &ids, &ignored));
	assert_int_equal(ids.count, 2);
	assert_int_equal(ids.ids[0], 257);
	assert_int_equal(ids.ids[1], 300);
	token_list_free(&ids);
	tokenizer_free(t);
}

static void assert_refused(struct tokenizer *t, const error *err, const char *place,
                           const char *message)
{
	if (t)
		fail_msg("expected to be refused with \"%s\"", message);
	expect_error(err, EXIT_BAD_INPUT, folder, place, message, NULL);
}

static void both_routes_read_good_files(void **state)
{
	(void)state;
	error err;
	write_good_vocab_files();
	assert_reads_good(tokenizer_load_vocab(folder, &err), &err);
	assert_reads_good(tokenizer_load(folder, &err), &err);
	write_changed("merges.txt", "#version: 0.2\r\na b\r\nab c", "\r\nab", "\r\n\r\nab");
	assert_reads_good(tokenizer_load(folder, &err), &err);
	char *json = good_json();
	write_file("tokenizer.json", json);
	assert_reads_good(tokenizer_load(folder, &err), &err);
	write_changed("tokenizer.json", json, "\"post_processor\": null",
	              "\"post_processor\": {\"type\": \"ByteLevel\"}");
	assert_reads_good(tokenizer_load(folder, &err), &err);
	free(json);
}

static void assert_decodes_without_special(const struct tokenizer *t,
                                           const struct token_list *ids,
                                           const char *expected)
{
	text out = { 0 };
	error err;
	assert_true(tokenizer_decode(t, ids->ids, ids->count, true, &out, &err));
	assert_string_equal(out.data, expected);
	text_free(&out);
}

struct change {
	const char *what, *with, *place, *message;
};

static void refuses_bad_vocab(void **state)
{
	(void)state;
	static const struct change changes[] = {
		{ "\"!\": 0,", "", "vocab.json:1:1:", "none for 0x21" },
		{ "\"!\": 0,", "\"!\": 1,", "vocab.json:2:1: \":", "id 1 belongs to another" },
		{ "\"!\": 0,", "\"!\": -1,", "vocab.json:1:2: !:", "expected a token id" },
		{ "\"!\": 0,", "\"!\": 0.5,", "vocab.json:1:2: !:", "expected a token id" },
		{ "\"!\": 0,", "\"!\": \"0\",", "vocab.json:1:2: !:", "expected a token id" },
		{ "\"!\": 0,", "\"!\": 4194304,", "vocab.json:1:2: !:", "expected an id below" },
		{ "\"!\": 0,", "\"!\": 0, \"\": 999,", "vocab.json:1:10", "an empty text" },
		{ "\"!\": 0,", "\"!\": 0, \"!\": 999,", "vocab.json:1:10", "" },
		{ "\"abc\"", "\"abd\"", "merges.txt:3:", "\"abc\", which is not in the" },
		{ "{\"!\"", "[\"!\"", "vocab.json:1:", "" },
		{ "\"ab\"", "ab", "vocab.json:257:", "" },
	};
	char *vocab = good_vocab();
	write_good_vocab_files();
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		error err;
		write_changed("vocab.json", vocab, changes[i].what, changes[i].with);
		assert_refused(tokenizer_load_vocab(folder, &err), &err, changes[i].place,
		               changes[i].message);
	}
	free(vocab);
}

static void refuses_bad_merges(void **state)
{
	(void)state;
	static const struct change changes[] = {
		{ "a b", "ab", "merges.txt:2: ", "found \"ab\"" },
		{ "a b", "a b c", "merges.txt:2: ", "found \"a b c\"" },
		{ "a b", " ab", "merges.txt:2: ", "expected a merge" },
		{ "a b", "ab ", "merges.txt:2: ", "expected a merge" },
		{ "a b", "a  b", "merges.txt:2: ", "expected a merge" },
		{ "a b", "a zz", "merges.txt:2: ", "\"zz\", which is not in the vocabulary" },
		{ "a b", "a c", "merges.txt:2: ", "\"ac\", which is not in the vocabulary" },
		{ "a b", "\xFF b", "merges.txt:2: ", "not in the vocabulary" },
		{ "ab c", "a b", "merges.txt:3: ", "the same merge as number 1" },
		{ "ab c", "#version: 1", "merges.txt:3: ", "not in the vocabulary" },
	};
	write_good_vocab_files();
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		error err;
		write_changed("merges.txt", good_merges, changes[i].what, changes[i].with);
		assert_refused(tokenizer_load_vocab(folder, &err), &err, changes[i].place,
		               changes[i].message);
	}
}

static void refuses_bad_config(void **state)
{
	(void)state;
	static const struct change changes[] = {
		{ "Qwen2Tokenizer", "LlamaTokenizer", ".json:1:2: tokenizer_class", "Llama" },
		{ "\"tokenizer_class\"", "\"class\"", "config.json:1:1", "tokenizer_class" },
		{ "space\": false", "space\": true", "add_prefix_space", "found true" },
		{ "\"300\"", "\"3OO\"", "config.json:2:", "expected a token id as the key" },
		{ "\"300\"", "\"-1\"", "config.json:2:", "expected a token id as the key" },
		{ "\"300\"", "\"256\"", "config.json:2:", "another one's in the vocabulary" },
		{ "<|im_end|>", "abc", "config.json:2:", "another one's in the vocabulary" },
		{ "<|im_end|>", "", "config.json:2:", "an empty text" },
		{ "\"lstrip\": false", "\"lstrip\": true", "lstrip", "found true" },
		{ "\"special\": true", "\"special\": 1", "special", "" },
		{ "\"added_tokens_decoder\"", "\"added\"", "config.json:1:1", "added_tokens_dec" },
	};
	write_good_vocab_files();
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		error err;
		write_changed("tokenizer_config.json", good_config, changes[i].what,
		              changes[i].with);
		assert_refused(tokenizer_load_vocab(folder, &err), &err, changes[i].place,
		               changes[i].message);
	}
}

static void refuses_other_kinds_of_json(void **state)
{
	(void)state;
	static const struct change changes[] = {
		{ "\"NFC\"", "\"NFKC\"", "normalizer.type", "expected \"NFC\", found \"NFKC\"" },
		{ "{\"type\": \"NFC\"}", "null", "normalizer", "expected an object" },
		{ "\"Sequence\"", "\"Metaspace\"", "pre_tokenizer.type", "found \"Metaspace\"" },
		{ "|\\\\p{N}|", "|\\\\p{N}{1,3}|", "pretokenizers[0].pattern.Regex", "{1,3}" },
		{ "\"Isolated\"", "\"Removed\"", "pretokenizers[0].behavior", "\"Removed\"" },
		{ "\"invert\": false", "\"invert\": true", "pretokenizers[0].invert", "true" },
		{ "\"use_regex\": false", "\"use_regex\": true", "[1].use_regex", "found true" },
		{ "_space\": false", "_space\": true", "[1].add_prefix_space", "found true" },
		{ "\"post_processor\": null", "\"post_processor\": {\"type\": \"Bert\"}",
		  "post_processor.type", "expected \"ByteLevel\", found \"Bert\"" },
		{ "\"decoder\": {\"type\": \"ByteLevel\"}", "\"decoder\": {\"type\": \"Fuse\"}",
		  "decoder.type", "found \"Fuse\"" },
		{ "\"BPE\"", "\"WordPiece\"", "model.type", "found \"WordPiece\"" },
		{ "\"dropout\": null", "\"dropout\": 0.1", "model.dropout", "expected null" },
		{ "\"unk_token\": null", "\"unk_token\": \"?\"", "unk_token", "expected null" },
		{ "fallback\": false", "fallback\": true", "model.byte_fallback", "true" },
		{ "ignore_merges\": false", "ignore_merges\": true", "ignore_merges", "true" },
		{ "\"id\": 300", "\"id\": 1e9", "added_tokens[0].id", "expected an integer" },
		{ "\"normalized\": false", "\"normalized\": true", "[0].normalized", "true" },
		{ "[\"ab\", \"c\"]", "[\"ab\"]", "model.merges[1]", "expected a merge" },
		{ "[\"ab\", \"c\"]", "[\"ab\", \"c\", \"d\"]", "merges[1]", "expected a merge" },
		{ "[\"ab\", \"c\"]", "17", "model.merges[1]", "expected a merge" },
		{ "\"a b\"", "\"ab\"", "model.merges[0]", "found \"ab\"" },
		{ "\"a b\"", "\"a z\"", "model.merges[0]", "\"az\", which is not in the" },
		{ "\"merges\"", "\"merged\"", "model", "merges" },
	};
	char *json = good_json();
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		error err;
		write_changed("tokenizer.json", json, changes[i].what, changes[i].with);
		assert_refused(tokenizer_load(folder, &err), &err, changes[i].place,
		               changes[i].message);
	}
	free(json);
}

static void refuses_the_same_token_twice(void **state)
{
	(void)state;
	static const char again[] =
		"{\"id\": 300, \"content\": \"<|x|>\", \"single_word\": false, \"lstrip\": false,"
		" \"rstrip\": false, \"normalized\": false, \"special\": true}],\n\"normalizer\"";
	text with = { 0 };
	error err;
	char *json = good_json();
	text_printf(&with, ", %s", again);
	write_changed("tokenizer.json", json, "],\n\"normalizer\"", with.data);
	assert_refused(tokenizer_load(folder, &err), &err, "added_tokens[1]",
	               "its id 300 was added before");
	text_free(&with);
	free(json);
}

/* "<|im_end|>c" begins as "<|im_end|>" does; so does the "<|im_end|>a" of the text. */
static void the_longest_added_token_wins(void **state)
{
	(void)state;
	static const char longer[] =
		"\"special\": true}, \"299\": {\"content\": \"<|im_end|>c\", "
		"\"lstrip\": false, \"normalized\": false, \"rstrip\": false, "
		"\"single_word\": false, \"special\": false}}";
	static const char text[] = "<|im_end|>a<|im_end|>c<|im_end|>";
	struct token_list ids = { 0 };
	error err;
	write_good_vocab_files();
	write_changed("tokenizer_config.json", good_config, "\"special\": true}}", longer);
	struct tokenizer *t = tokenizer_load_vocab(folder, &err);
	if (!t)
		fail_msg("%s", err.text);
	assert_true(tokenizer_encode(t, text, strlen(text), true, &ids, &err));
	assert_int_equal(ids.count, 4);
	assert_int_equal(ids.ids[0], 300);
	assert_int_equal(ids.ids[2], 299);
	assert_int_equal(ids.ids[3], 300);
	assert_decodes_without_special(t, &ids, "a<|im_end|>c");
	token_list_free(&ids);
	tokenizer_free(t);
}

static void names_the_missing_file(void **state)
{
	(void)state;
	static const char *const names[] = { "vocab.json", "merges.txt",
	                                     "tokenizer_config.json" };
	for (int i = 0; i < 3; i++) {
		char path[PATH_BYTES];
		error err;
		write_good_vocab_files();
		assert_true(join_path(path, sizeof path, folder, names[i], &err));
		assert_int_equal(remove(path), 0);
		assert_refused(tokenizer_load_vocab(folder, &err), &err, names[i],
		               "No such file");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_routes_read_good_files),
		cmocka_unit_test(refuses_bad_vocab),
		cmocka_unit_test(refuses_bad_merges),
		cmocka_unit_test(refuses_bad_config),
		cmocka_unit_test(refuses_other_kinds_of_json),
		cmocka_unit_test(refuses_the_same_token_twice),
		cmocka_unit_test(the_longest_added_token_wins),
		cmocka_unit_test(names_the_missing_file),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
