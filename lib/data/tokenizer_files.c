/* Reading a tokenizer, by either of its two routes.
 *
 * tokenizer.json can describe many kinds of tokenizer. Only the one implemented
 * here is taken: every setting that would change an id is compared with what the
 * code does, and another value is refused rather than passed over. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/data/lines.h"
#include "lib/data/pretoken.h"
#include "lib/data/tokenizer_parts.h"

static const size_t max_file_bytes = (size_t)256 << 20;

/* ---- Settings that must be what they are ---- */

static bool expect_text(const json_doc *doc, const cJSON *object, const char *field,
                        const char *expected, error *err)
{
	const char *found;
	if (!json_text(doc, object, field, &found, err))
		return false;
	if (strcmp(found, expected) != 0)
		return json_fail(doc, cJSON_GetObjectItemCaseSensitive(object, field), err,
		                 "expected \"%s\", found \"%.200s\"", expected, found);
	return true;
}

/* Absent or null is false. */
static bool expect_false(const json_doc *doc, const cJSON *object, const char *field,
                         error *err)
{
	bool found = false;
	if (!json_boolean_or(doc, object, field, &found, err))
		return false;
	return !found || json_fail(doc, cJSON_GetObjectItemCaseSensitive(object, field), err,
	                           "expected false, found true");
}

/* Absent, null, 0 or "". */
static bool expect_nothing(const json_doc *doc, const cJSON *object, const char *field,
                           error *err)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, field);
	bool nothing = !item || cJSON_IsNull(item) ||
	               (cJSON_IsString(item) && !item->valuestring[0]) ||
	               (cJSON_IsNumber(item) && item->valuedouble == 0);
	return nothing || json_fail(doc, item, err, "expected null, found a value");
}

/* ---- Tokens, merges, added tokens ---- */

/* Passes on an error of bpe.c, with its place where the file is to blame. */
static bool fail_at_item(const json_doc *doc, const cJSON *item, const error *why,
                         error *err)
{
	if (why->code == EXIT_BAD_INPUT)
		return json_fail(doc, item, err, "%s", why->text);
	*err = *why;
	return false;
}

static bool add_vocabulary(struct tokenizer *t, const json_doc *doc, const cJSON *vocab,
                           error *err)
{
	const cJSON *item;
	error why;
	cJSON_ArrayForEach(item, vocab) {
		double id = item->valuedouble;
		if (!cJSON_IsNumber(item) || id < 0 || id > INT_MAX || id != (double)(int)id)
			return json_fail(doc, item, err, "expected a token id");
		if (!bpe_add_token(&t->bpe, item->string, (int64_t)id, &why))
			return fail_at_item(doc, item, &why, err);
	}
	if (!bpe_check_bytes(&t->bpe, &why))
		return fail_at_item(doc, vocab, &why, err);
	return true;
}

/* The bytes before and after the only space of text[length]. */
static bool split_merge(const char *text, size_t length, size_t *left_length,
                        error *err)
{
	const char *space = memchr(text, ' ', length);
	size_t before = space ? (size_t)(space - text) : 0;
	bool good = space && before > 0 && before + 1 < length &&
	            !memchr(space + 1, ' ', length - before - 1);
	*left_length = before;
	return good || fail(err, EXIT_BAD_INPUT,
	                    "expected a merge (two tokens and a space between them), "
	                    "found \"%.*s\"", (int)(length < 40 ? length : 40), text);
}

/* "left right" */
static bool add_merge_text(struct tokenizer *t, const char *text, size_t length,
                           error *err)
{
	size_t left;
	return split_merge(text, length, &left, err) &&
	       bpe_add_merge(&t->bpe, text, left, text + left + 1, length - left - 1, err);
}

/* "left right", or ["left", "right"] as newer files have it. */
static bool add_merge_item(struct tokenizer *t, const cJSON *item, error *err)
{
	if (cJSON_IsString(item))
		return add_merge_text(t, item->valuestring, strlen(item->valuestring), err);
	const cJSON *left = cJSON_IsArray(item) ? item->child : NULL;
	const cJSON *right = left ? left->next : NULL;
	if (!cJSON_IsString(left) || !cJSON_IsString(right) || right->next)
		return fail(err, EXIT_BAD_INPUT, "expected a merge (two texts)");
	return bpe_add_merge(&t->bpe, left->valuestring, strlen(left->valuestring),
	                     right->valuestring, strlen(right->valuestring), err);
}

static bool add_merges(struct tokenizer *t, const json_doc *doc, const cJSON *merges,
                       error *err)
{
	const cJSON *item;
	error why;
	cJSON_ArrayForEach(item, merges)
		if (!add_merge_item(t, item, &why))
			return fail_at_item(doc, item, &why, err);
	return true;
}

/* An added token may repeat one of the vocabulary, but not contradict it. */
static bool check_added_id(const struct tokenizer *t, const json_doc *doc,
                           const cJSON *item, const struct added_token *a, error *err)
{
	int32_t known = bpe_find(&t->bpe, a->content, a->length);
	struct bpe_token same = { 0 };
	if ((size_t)a->id < t->bpe.id_limit)
		same = t->bpe.tokens[a->id];
	bool differs = same.length && (same.length != a->length ||
	                               memcmp(t->bpe.bytes + same.start, a->content,
	                                      a->length) != 0);
	for (size_t i = 0; i < t->added_count; i++)
		if (t->added[i].id == a->id || strcmp(t->added[i].content, a->content) == 0)
			return json_fail(doc, item, err, "\"%.40s\" or its id %d was added before",
			                 a->content, a->id);
	if (differs || (known >= 0 && known != a->id))
		return json_fail(doc, item, err,
		                 "\"%.40s\" or its id %d is another one's in the vocabulary",
		                 a->content, a->id);
	return true;
}

static bool add_added_token(struct tokenizer *t, const json_doc *doc, const cJSON *item,
                            int64_t id, error *err)
{
	struct added_token a = { .id = (int32_t)id };
	const char *content;
	if (!json_text(doc, item, "content", &content, err) ||
	    !json_boolean(doc, item, "special", &a.special, err) ||
	    !expect_false(doc, item, "single_word", err) ||
	    !expect_false(doc, item, "lstrip", err) ||
	    !expect_false(doc, item, "rstrip", err) ||
	    !expect_false(doc, item, "normalized", err))
		return false;
	a.length = strlen(content);
	if (a.length == 0)
		return json_fail(doc, item, err, "expected a content, found an empty text");
	a.content = arena_text(&t->memory, content, a.length, err);
	if (!a.content || !check_added_id(t, doc, item, &a, err))
		return false;
	t->added[t->added_count++] = a;
	return true;
}

/* Room for as many added tokens as `list` has children. */
static bool reserve_added(struct tokenizer *t, const cJSON *list, error *err)
{
	t->added = arena_alloc(&t->memory, (size_t)cJSON_GetArraySize(list),
	                       sizeof *t->added, err);
	return t->added != NULL;
}

/* ---- tokenizer.json ---- */

static bool check_split(const json_doc *doc, const cJSON *split, error *err)
{
	const cJSON *pattern;
	return expect_text(doc, split, "type", "Split", err) &&
	       (pattern = json_object(doc, split, "pattern", err)) &&
	       expect_text(doc, pattern, "Regex", pretoken_pattern, err) &&
	       expect_text(doc, split, "behavior", "Isolated", err) &&
	       expect_false(doc, split, "invert", err);
}

static bool check_pretokenizer(const json_doc *doc, error *err)
{
	const cJSON *sequence = json_object(doc, doc->root, "pre_tokenizer", err), *list;
	if (!sequence || !expect_text(doc, sequence, "type", "Sequence", err) ||
	    !(list = json_array(doc, sequence, "pretokenizers", err)))
		return false;
	if (cJSON_GetArraySize(list) != 2)
		return json_fail(doc, list, err, "expected Split and ByteLevel, found %d parts",
		                 cJSON_GetArraySize(list));
	const cJSON *split = list->child, *bytes = list->child->next;
	return check_split(doc, split, err) &&
	       expect_text(doc, bytes, "type", "ByteLevel", err) &&
	       expect_false(doc, bytes, "add_prefix_space", err) &&
	       expect_false(doc, bytes, "use_regex", err);
}

/* Of the post-processors, ByteLevel alone adds no token. */
static bool check_around(const json_doc *doc, error *err)
{
	const cJSON *normalizer = json_object(doc, doc->root, "normalizer", err);
	if (!normalizer || !expect_text(doc, normalizer, "type", "NFC", err))
		return false;
	const cJSON *decoder = json_object(doc, doc->root, "decoder", err);
	if (!decoder || !expect_text(doc, decoder, "type", "ByteLevel", err))
		return false;
	const cJSON *post = cJSON_GetObjectItemCaseSensitive(doc->root, "post_processor");
	return !post || cJSON_IsNull(post) ||
	       expect_text(doc, post, "type", "ByteLevel", err);
}

static bool check_model(const json_doc *doc, const cJSON *model, error *err)
{
	return expect_text(doc, model, "type", "BPE", err) &&
	       expect_nothing(doc, model, "dropout", err) &&
	       expect_nothing(doc, model, "unk_token", err) &&
	       expect_nothing(doc, model, "continuing_subword_prefix", err) &&
	       expect_nothing(doc, model, "end_of_word_suffix", err) &&
	       expect_false(doc, model, "byte_fallback", err) &&
	       expect_false(doc, model, "ignore_merges", err);
}

static bool add_added_list(struct tokenizer *t, const json_doc *doc, error *err)
{
	const cJSON *list = json_array(doc, doc->root, "added_tokens", err), *item;
	int64_t id;
	if (!list || !reserve_added(t, list, err))
		return false;
	cJSON_ArrayForEach(item, list)
		if (!json_integer(doc, item, "id", 0, MAX_TOKEN_IDS - 1, &id, err) ||
		    !add_added_token(t, doc, item, id, err))
			return false;
	return true;
}

static bool take_json(struct tokenizer *t, const json_doc *doc, error *err)
{
	const cJSON *model = json_object(doc, doc->root, "model", err), *vocab, *merges;
	error why;
	if (!check_around(doc, err) || !check_pretokenizer(doc, err) || !model ||
	    !check_model(doc, model, err) ||
	    !(vocab = json_object(doc, model, "vocab", err)) ||
	    !(merges = json_array(doc, model, "merges", err)))
		return false;
	if (!bpe_reserve(&t->bpe, (size_t)cJSON_GetArraySize(vocab),
	                 (size_t)cJSON_GetArraySize(merges), &why))
		return fail_at_item(doc, model, &why, err);
	return add_vocabulary(t, doc, vocab, err) && add_merges(t, doc, merges, err) &&
	       add_added_list(t, doc, err);
}

bool tokenizer_read_json(struct tokenizer *t, const char *path, error *err)
{
	json_doc doc;
	if (!json_load(&doc, path, max_file_bytes, err))
		return false;
	bool ok = take_json(t, &doc, err);
	json_free(&doc);
	return ok;
}

/* ---- vocab.json, merges.txt, tokenizer_config.json ---- */

static bool is_merge_line(const struct line_reader *lines, const char *line,
                          size_t length)
{
	bool version = lines->number == 1 && length >= 8 && !memcmp(line, "#version", 8);
	return length > 0 && !version;
}

static bool take_merge_lines(struct tokenizer *t, const char *path, const char *text,
                             size_t size, error *err)
{
	struct line_reader lines = { text, size, 0 };
	const char *line;
	size_t length;
	error why;
	while (next_line(&lines, &line, &length))
		if (is_merge_line(&lines, line, length) &&
		    !add_merge_text(t, line, length, &why))
			return fail(err, why.code, "%s:%ld: %s", path, lines.number, why.text);
	return true;
}

static size_t count_lines(const char *text, size_t size)
{
	struct line_reader lines = { text, size, 0 };
	const char *line;
	size_t length;
	while (next_line(&lines, &line, &length))
		;
	return (size_t)lines.number;
}

/* The vocabulary and the merges; `text` is merges.txt. */
static bool take_vocab(struct tokenizer *t, const json_doc *vocab, const char *merges,
                       const char *text, size_t size, error *err)
{
	error why;
	if (!cJSON_IsObject(vocab->root))
		return json_fail(vocab, vocab->root, err, "expected an object");
	if (!bpe_reserve(&t->bpe, (size_t)cJSON_GetArraySize(vocab->root),
	                 count_lines(text, size), &why))
		return fail_at_item(vocab, vocab->root, &why, err);
	return add_vocabulary(t, vocab, vocab->root, err) &&
	       take_merge_lines(t, merges, text, size, err);
}

static bool read_vocab_files(struct tokenizer *t, const char *vocab_path,
                             const char *merges_path, error *err)
{
	json_doc vocab;
	char *text;
	size_t size;
	if (!json_load(&vocab, vocab_path, max_file_bytes, err))
		return false;
	bool ok = read_file(merges_path, max_file_bytes, &text, &size, err);
	if (ok) {
		ok = take_vocab(t, &vocab, merges_path, text, size, err);
		free(text);
	}
	json_free(&vocab);
	return ok;
}

/* {"151643": {"content": "<|endoftext|>", ...}, ...} */
static bool add_added_decoder(struct tokenizer *t, const json_doc *doc, error *err)
{
	const cJSON *list = json_object(doc, doc->root, "added_tokens_decoder", err), *item;
	if (!list || !reserve_added(t, list, err))
		return false;
	cJSON_ArrayForEach(item, list) {
		char *end;
		long id = strtol(item->string, &end, 10);
		if (end == item->string || *end || id < 0 || id >= MAX_TOKEN_IDS)
			return json_fail(doc, item, err, "expected a token id as the key");
		if (!add_added_token(t, doc, item, id, err))
			return false;
	}
	return true;
}

/* These three files do not say how to split text; the class's name implies it. */
static bool check_class(const json_doc *doc, error *err)
{
	const char *class;
	if (!json_text(doc, doc->root, "tokenizer_class", &class, err))
		return false;
	if (strcmp(class, "Qwen2Tokenizer") != 0 && strcmp(class, "Qwen2TokenizerFast") != 0)
		return json_fail(doc,
		                 cJSON_GetObjectItemCaseSensitive(doc->root, "tokenizer_class"),
		                 err, "expected \"Qwen2Tokenizer\", found \"%.80s\"", class);
	return expect_false(doc, doc->root, "add_prefix_space", err) &&
	       expect_false(doc, doc->root, "add_bos_token", err);
}

bool tokenizer_read_vocab(struct tokenizer *t, const char *model_folder, error *err)
{
	char vocab[PATH_BYTES], merges[PATH_BYTES], config[PATH_BYTES];
	json_doc doc;
	if (!join_path(vocab, sizeof vocab, model_folder, "vocab.json", err) ||
	    !join_path(merges, sizeof merges, model_folder, "merges.txt", err) ||
	    !join_path(config, sizeof config, model_folder, "tokenizer_config.json", err) ||
	    !read_vocab_files(t, vocab, merges, err) ||
	    !json_load(&doc, config, max_file_bytes, err))
		return false;
	bool ok = check_class(&doc, err) && add_added_decoder(t, &doc, err);
	json_free(&doc);
	return ok;
}
