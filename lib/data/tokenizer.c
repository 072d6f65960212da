/* Encoding and decoding; see tokenizer.h. Reading the files: tokenizer_files.c. */
#include "lib/data/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/data/pretoken.h"
#include "lib/data/tokenizer_parts.h"
#include "lib/data/unicode.h"

/* Keeps every count inside the 32 bits of bpe.c, NFC's growth (at most threefold)
 * included. */
enum { MAX_TEXT_BYTES = 1 << 26 };

static struct tokenizer *finish_loading(struct tokenizer *t, bool ok)
{
	if (ok)
		return t;
	tokenizer_free(t);
	return NULL;
}

static struct tokenizer *new_tokenizer(error *err)
{
	struct tokenizer *t = calloc(1, sizeof *t);
	if (!t)
		fail_memory(err, "a tokenizer", sizeof *t);
	return t;
}

struct tokenizer *tokenizer_load_vocab(const char *model_folder, error *err)
{
	struct tokenizer *t = new_tokenizer(err);
	return t ? finish_loading(t, tokenizer_read_vocab(t, model_folder, err)) : NULL;
}

struct tokenizer *tokenizer_load(const char *model_folder, error *err)
{
	char path[PATH_BYTES];
	if (!join_path(path, sizeof path, model_folder, "tokenizer.json", err))
		return NULL;
	if (!file_exists(path))
		return tokenizer_load_vocab(model_folder, err);
	struct tokenizer *t = new_tokenizer(err);
	return t ? finish_loading(t, tokenizer_read_json(t, path, err)) : NULL;
}

void tokenizer_free(struct tokenizer *t)
{
	if (!t)
		return;
	bpe_free(&t->bpe);
	arena_free(&t->memory);
	free(t);
}

/* What encoding one text needs beside its result. */
struct encoder {
	const struct bpe *bpe;
	struct codepoints codes;
	struct bpe_scratch scratch;
	char *piece; /* UTF-8 of the piece at hand */
	size_t piece_capacity;
};

static void free_encoder(struct encoder *e)
{
	codepoints_free(&e->codes);
	bpe_scratch_free(&e->scratch);
	free(e->piece);
}

static bool encode_piece(struct encoder *e, const uint32_t *codes, size_t count,
                         struct token_list *out, error *err)
{
	size_t needed = count * UTF8_MAX_BYTES, length = 0;
	if (needed > e->piece_capacity) {
		free(e->piece);
		e->piece_capacity = needed * 2;
		e->piece = malloc(e->piece_capacity);
		if (!e->piece) {
			e->piece_capacity = 0;
			return fail_memory(err, "a piece of text", needed * 2);
		}
	}
	for (size_t i = 0; i < count; i++)
		length += utf8_write(codes[i], e->piece + length);
	return bpe_encode(e->bpe, &e->scratch, e->piece, length, out, err);
}

/* Text without special tokens: NFC, pieces, merges. */
static bool encode_plain(struct encoder *e, const char *text, size_t length,
                         struct token_list *out, error *err)
{
	e->codes.count = 0;
	if (!nfc_from_utf8(&e->codes, text, length, err))
		return false;
	for (size_t start = 0; start < e->codes.count;) {
		size_t end = pretoken_end(e->codes.at, e->codes.count, start);
		if (!encode_piece(e, e->codes.at + start, end - start, out, err))
			return false;
		start = end;
	}
	return true;
}

/* The longest added token that text[length] begins with, or NULL. */
static const struct added_token *added_token_at(const struct tokenizer *t,
                                                const char *text, size_t length)
{
	const struct added_token *longest = NULL;
	for (size_t i = 0; i < t->added_count; i++) {
		const struct added_token *a = &t->added[i];
		if (a->content[0] == text[0] && a->length <= length &&
		    (!longest || a->length > longest->length) &&
		    memcmp(a->content, text, a->length) == 0)
			longest = a;
	}
	return longest;
}

static bool encode_with_added(const struct tokenizer *t, struct encoder *e,
                              const char *text, size_t length, struct token_list *out,
                              error *err)
{
	size_t start = 0, i = 0;
	while (i < length) {
		const struct added_token *a = added_token_at(t, text + i, length - i);
		if (!a) {
			i++;
			continue;
		}
		if (!encode_plain(e, text + start, i - start, out, err) ||
		    !token_push(out, a->id, err))
			return false;
		start = i += a->length;
	}
	return encode_plain(e, text + start, length - start, out, err);
}

bool tokenizer_encode(const struct tokenizer *t, const char *text, size_t length,
                      bool special, struct token_list *out, error *err)
{
	if (length > MAX_TEXT_BYTES)
		return fail(err, EXIT_BAD_INPUT, "expected a text of at most %d bytes, found %zu",
		            MAX_TEXT_BYTES, length);
	struct encoder e = { .bpe = &t->bpe };
	bool ok = special ? encode_with_added(t, &e, text, length, out, err)
	                  : encode_plain(&e, text, length, out, err);
	free_encoder(&e);
	return ok;
}

int32_t tokenizer_special(const struct tokenizer *t, const char *content)
{
	for (size_t i = 0; i < t->added_count; i++)
		if (strcmp(t->added[i].content, content) == 0)
			return t->added[i].id;
	return -1;
}

static const struct added_token *find_added(const struct tokenizer *t, int32_t id)
{
	for (size_t i = 0; i < t->added_count; i++)
		if (t->added[i].id == id)
			return &t->added[i];
	return NULL;
}

bool tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t count,
                      bool skip_special, text *out, error *err)
{
	for (size_t i = 0; i < count; i++) {
		const struct added_token *a = find_added(t, ids[i]);
		if (a && !(a->special && skip_special)) {
			text_add(out, a->content, a->length);
		} else if (!a && ids[i] >= 0 && (size_t)ids[i] < t->bpe.id_limit) {
			struct bpe_token token = t->bpe.tokens[ids[i]];
			text_add(out, t->bpe.bytes + token.start, token.length);
		}
	}
	return text_ok(out, err);
}
