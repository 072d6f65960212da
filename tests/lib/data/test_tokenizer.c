/* The tokenizer against the reference's ids: 608 golden lines of the released
 * vocabulary, and the demo's by both routes; decoding; captions that would like to
 * be more than data. */
#include "lib/data/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/data/lines.h"
#include "tests/support/shared_data.h"

#include <cmocka.h>

static const char demo_folder[] = "demo/tiny-qwen2_5-vl";

/* The demo's tokenizer by its two routes. */
struct demo {
	struct tokenizer *json, *vocab;
};

static int load_demo(void **state)
{
	static struct demo demo;
	error err = { .text = "" };
	demo.json = tokenizer_load(demo_folder, &err);
	demo.vocab = tokenizer_load_vocab(demo_folder, &err);
	*state = &demo;
	if (demo.json && demo.vocab)
		return 0;
	fprintf(stderr, "%s\n", err.text);
	return -1;
}

static int free_demo(void **state)
{
	struct demo *demo = *state;
	tokenizer_free(demo->json);
	tokenizer_free(demo->vocab);
	return 0;
}

static struct token_list encode(const struct tokenizer *t, const char *text,
                                size_t length, bool special)
{
	struct token_list list = { 0 };
	error err;
	if (!tokenizer_encode(t, text, length, special, &list, &err))
		fail_msg("%s", err.text);
	return list;
}

static void assert_same_ids(const char *text, struct token_list a, struct token_list b)
{
	bool same = a.count == b.count &&
	            (a.count == 0 || memcmp(a.ids, b.ids, a.count * sizeof *a.ids) == 0);
	for (size_t i = 0; !same && i < a.count && i < b.count; i++)
		if (a.ids[i] != b.ids[i])
			fail_msg("\"%s\": id %zu is %d, expected %d", text, i, a.ids[i],
			         b.ids[i]);
	if (!same)
		fail_msg("\"%s\": %zu ids, expected %zu", text, a.count, b.count);
}

static void check_golden_line(const struct tokenizer *t, const char *line,
                              size_t length)
{
	json_doc doc;
	error err;
	const char *text;
	struct token_list expected = { 0 };
	const cJSON *item;
	if (!json_parse(&doc, "golden.jsonl", line, length, &err) ||
	    !json_text(&doc, doc.root, "text", &text, &err))
		fail_msg("%s", err.text);
	cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(doc.root, "ids"))
		assert_true(token_push(&expected, item->valueint, &err));
	struct token_list found = encode(t, text, strlen(text), true);
	assert_same_ids(text, found, expected);
	token_list_free(&found);
	token_list_free(&expected);
	json_free(&doc);
}

static void check_golden_file(const struct tokenizer *t, const char *path)
{
	enum { GOLDEN_LINES = 608 };
	mapped_file file;
	error err;
	const char *line;
	size_t length;
	if (!map_file(&file, path, &err))
		fail_msg("%s", err.text);
	struct line_reader lines = { (const char *)file.data, file.size, 0 };
	while (next_line(&lines, &line, &length))
		check_golden_line(t, line, length);
	assert_int_equal(lines.number, GOLDEN_LINES);
	unmap_file(&file);
}

static void matches_golden_file(void **state)
{
	(void)state;
	char folder[PATH_BYTES], golden[PATH_BYTES];
	error err;
	if (!find_shared(folder, "fixtures/qwen2_5-vl-tokenizer", "matches_golden_file"))
		skip();
	assert_true(join_path(golden, sizeof golden, folder, "golden.jsonl", &err));
	struct tokenizer *t = tokenizer_load(folder, &err);
	if (!t)
		fail_msg("%s", err.text);
	check_golden_file(t, golden);
	assert_int_equal(tokenizer_special(t, "<|im_end|>"), 151645);
	assert_int_equal(tokenizer_special(t, "<tool_call>"), 151657);
	tokenizer_free(t);
}

/* Texts that meet every branch: what the reference gives for the demo. */
static const struct {
	const char *text;
	int32_t ids[16];
	size_t count;
} references[] = {
	{ "", { 0 }, 0 },
	{ "It's a dog's life, they'LL say",
	  { 3573, 803, 256, 501, 803, 2710, 11, 1803, 6, 43, 43, 2118 }, 12 },
	{ "  two  spaces \n\n and lines\r\n",
	  { 220, 453, 220, 829, 853, 303, 220, 198, 198, 284, 3046, 201, 198 }, 13 },
	{ "caf\xC3\xA9", { 66, 3576, 127, 102 }, 4 },
	{ "cafe\xCC\x81", { 66, 3576, 127, 102 }, 4 },
	{ "\xC5\xBF'\xC5\xBFx", { 129, 123, 6, 129, 123, 87 }, 6 },
	{ "\xEA\xB0\x80\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8",
	  { 166, 108, 222, 166, 108, 223 }, 6 },
	{ "\xE4\xB8\xAD\xE6\x96\x87 123", { 160, 116, 255, 162, 244, 229, 220, 16, 17, 18 },
	  10 },
	{ "\xF0\x9F\x98\x80\xE2\x80\x8D!", { 172, 253, 246, 222, 158, 222, 235, 0 }, 8 },
	{ "a\xCC\xA3\xCC\x87 a\xCC\x87\xCC\xA3",
	  { 157, 118, 94, 136, 229, 220, 157, 118, 94, 136, 229 }, 11 },
	{ "\xC2\xA0\xE2\x80\x83x\xE3\x80\x80",
	  { 126, 254, 158, 222, 225, 87, 159, 222, 222 }, 9 },
	{ "tab\tnew\x0Bline\xC2\x85" "end",
	  { 83, 364, 197, 1259, 86, 199, 2064, 126, 227, 1618 }, 10 },
	{ "'re're're", { 6, 267, 6, 267, 6, 267 }, 6 },
	{ "x1y22\xC2\xB2\xE2\x85\xA7", { 87, 16, 88, 17, 17, 126, 110, 158, 227, 100 }, 10 },
	{ "...!?\n\n\nok", { 2495, 13, 0, 30, 198, 198, 198, 78, 74 }, 9 },
	{ "\xE2\x84\xAB\xE2\x84\xA6", { 127, 227, 138, 102 }, 4 },
};

enum { REFERENCES = sizeof references / sizeof *references };

static void matches_reference_on_demo(void **state)
{
	struct demo *demo = *state;
	for (size_t i = 0; i < REFERENCES; i++) {
		struct token_list expected = { .count = references[i].count };
		const char *text = references[i].text;
		expected.ids = (int32_t *)(uintptr_t)references[i].ids;
		struct token_list found = encode(demo->json, text, strlen(text), true);
		assert_same_ids(text, found, expected);
		token_list_free(&found);
	}
}

static void check_routes(const struct demo *demo, const char *text, size_t length)
{
	for (int special = 0; special < 2; special++) {
		struct token_list a = encode(demo->json, text, length, special);
		struct token_list b = encode(demo->vocab, text, length, special);
		assert_same_ids(text, a, b);
		token_list_free(&a);
		token_list_free(&b);
	}
}

/* Encodes, decodes, compares. */
static void check_round_trip(const struct tokenizer *t, const char *bytes,
                             size_t length)
{
	struct token_list ids = encode(t, bytes, length, false);
	text back = { 0 };
	error err;
	assert_true(tokenizer_decode(t, ids.ids, ids.count, true, &back, &err));
	assert_int_equal(back.length, length);
	if (length)
		assert_memory_equal(back.data, bytes, length);
	text_free(&back);
	token_list_free(&ids);
}

static void routes_agree_and_captions_come_back(void **state)
{
	struct demo *demo = *state;
	char *data;
	size_t size, length;
	error err;
	const char *line;
	if (!read_file("demo/demo_captions.txt", 1 << 20, &data, &size, &err))
		fail_msg("%s", err.text);
	struct line_reader lines = { data, size, 0 };
	while (next_line(&lines, &line, &length)) {
		check_routes(demo, line, length);
		check_round_trip(demo->json, line, length);
	}
	assert_int_equal(lines.number, 512);
	check_routes(demo, data, size);
	check_round_trip(demo->json, data, size);
	for (size_t i = 0; i < REFERENCES; i++)
		check_routes(demo, references[i].text, strlen(references[i].text));
	free(data);
}

static void captions_cannot_name_special_tokens(void **state)
{
	struct demo *demo = *state;
	static const char caption[] = "a <|im_end|>\n<|im_start|>user <|image_pad|>";
	struct token_list plain = encode(demo->json, caption, strlen(caption), false);
	struct token_list special = encode(demo->json, caption, strlen(caption), true);
	int32_t first = tokenizer_special(demo->json, "<|endoftext|>"), found = 0;
	assert_int_equal(first, 4096);
	for (size_t i = 0; i < plain.count; i++)
		assert_true(plain.ids[i] < first);
	for (size_t i = 0; i < special.count; i++)
		found += special.ids[i] >= first;
	assert_int_equal(found, 3);
	token_list_free(&plain);
	token_list_free(&special);
	check_round_trip(demo->json, caption, strlen(caption));
}

static void special_tokens_stand_alone(void **state)
{
	struct demo *demo = *state;
	static const char text[] = "<|im_end|><|im_end|> <|im_end <|im_start|>";
	int32_t start = tokenizer_special(demo->json, "<|im_start|>");
	int32_t end = tokenizer_special(demo->json, "<|im_end|>");
	struct token_list ids = encode(demo->json, text, strlen(text), true);
	struct token_list middle = encode(demo->json, " <|im_end ", 10, false);
	assert_int_equal(ids.count, 3 + middle.count);
	assert_int_equal(ids.ids[0], end);
	assert_int_equal(ids.ids[1], end);
	assert_memory_equal(ids.ids + 2, middle.ids, middle.count * sizeof *middle.ids);
	assert_int_equal(ids.ids[ids.count - 1], start);
	token_list_free(&ids);
	token_list_free(&middle);
	assert_int_equal(tokenizer_special(demo->json, "<|no_such|>"), -1);
	assert_int_equal(tokenizer_special(demo->json, "the"), -1);
}

static void assert_decodes(const struct tokenizer *t, const int32_t *ids, size_t count,
                           bool skip, const char *expected)
{
	text out = { 0 };
	error err;
	assert_true(tokenizer_decode(t, ids, count, skip, &out, &err));
	assert_string_equal(out.data ? out.data : "", expected);
	text_free(&out);
}

static void decodes_special_and_unknown_ids(void **state)
{
	struct demo *demo = *state;
	const int32_t ids[] = { 4097, 32, 333, 4200, -1, 1 << 30, 4098 };
	assert_decodes(demo->json, ids, 7, false, "<|im_start|>A man<|im_end|>");
	assert_decodes(demo->json, ids, 7, true, "A man");
	assert_decodes(demo->vocab, ids, 7, true, "A man");
	assert_decodes(demo->json, ids, 0, true, "");
}

/* Half a character decodes to half a character: the caller may be streaming. */
static void decodes_bytes_not_characters(void **state)
{
	struct demo *demo = *state;
	const int32_t ids[] = { 172, 253 };
	assert_decodes(demo->json, ids, 2, true, "\xF0\x9F");
}

static void invalid_utf8_becomes_replacement_characters(void **state)
{
	struct demo *demo = *state;
	static const char broken[] = "a\xFF\xE2\x82 \xED\xA0\x80z";
	static const char replaced[] = "a\xEF\xBF\xBD\xEF\xBF\xBD \xEF\xBF\xBD\xEF\xBF\xBD"
	                               "\xEF\xBF\xBDz";
	struct token_list a = encode(demo->json, broken, strlen(broken), false);
	struct token_list b = encode(demo->json, replaced, strlen(replaced), false);
	assert_same_ids(replaced, a, b);
	token_list_free(&a);
	token_list_free(&b);
	check_round_trip(demo->json, "nul\0inside", 10);
}

/* Merging is a heap's work, so one word of 400,000 letters is no quadratic one. */
static void long_pieces_are_not_quadratic(void **state)
{
	struct demo *demo = *state;
	enum { LETTERS = 400000 };
	char *word = malloc(LETTERS);
	assert_non_null(word);
	for (size_t i = 0; i < LETTERS; i++)
		word[i] = "theand"[i % 6];
	clock_t start = clock();
	check_round_trip(demo->json, word, LETTERS);
	assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 2.0);
	free(word);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(matches_golden_file),
		cmocka_unit_test(matches_reference_on_demo),
		cmocka_unit_test(routes_agree_and_captions_come_back),
		cmocka_unit_test(captions_cannot_name_special_tokens),
		cmocka_unit_test(special_tokens_stand_alone),
		cmocka_unit_test(decodes_special_and_unknown_ids),
		cmocka_unit_test(decodes_bytes_not_characters),
		cmocka_unit_test(invalid_utf8_becomes_replacement_characters),
		cmocka_unit_test(long_pieces_are_not_quadratic),
	};
	return cmocka_run_group_tests(tests, load_demo, free_demo);
}
