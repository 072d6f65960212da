/* Byte-level BPE; see bpe.h. */
#include "lib/data/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "lib/data/unicode.h"

enum { SPELLING_SHOWN = 40 }; /* characters of a spelling in an error */

/* A token in the making: a stretch of the piece, chained to its neighbours by
 * index; -1 ends the chain. left_behind: merged into the one on its left. */
struct bpe_symbol {
	int32_t id, before, after;
	bool left_behind;
};

/* The byte that a character of the alphabet stands for, or -1. Printable Latin-1
 * stands for itself, the other 68 bytes are U+0100 and on, in order. */
static int byte_of_character(uint32_t code)
{
	bool itself = (code >= '!' && code <= '~') || (code >= 0xA1 && code <= 0xAC) ||
	              (code >= 0xAE && code <= 0xFF);
	if (itself)
		return (int)code;
	if (code < 0x100 || code > 0x143)
		return -1;
	uint32_t n = code - 0x100; /* 0-32: 00-20, 33-66: 7F-A0, 67: AD */
	return (int)(n <= 32 ? n : n <= 66 ? n - 33 + 0x7F : 0xAD);
}

/* Writes the bytes that a spelling stands for to out[length] and returns how many
 * they are, or -1 where a character is not of the alphabet. */
static long spelled_bytes(const char *spelling, size_t length, char *out)
{
	long bytes = 0;
	for (size_t i = 0; i < length;) {
		uint32_t code;
		i += utf8_read(spelling + i, length - i, &code);
		int byte = byte_of_character(code);
		if (byte < 0)
			return -1;
		out[bytes++] = (char)byte;
	}
	return bytes;
}

/* FNV-1a, its high bits folded in. */
static size_t hash_bytes(const char *bytes, size_t length)
{
	uint64_t h = 0xCBF29CE484222325u;
	for (size_t i = 0; i < length; i++)
		h = (h ^ (uint8_t)bytes[i]) * 0x100000001B3u;
	return (size_t)(h ^ h >> 32);
}

static size_t hash_pair(int32_t left, int32_t right)
{
	uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) *
	             0x9E3779B97F4A7C15u;
	return (size_t)(h ^ h >> 32);
}

/* The place of the token in by_bytes: the one that holds it, or a free one. */
static uint32_t *token_place(const struct bpe *b, const char *bytes, size_t length)
{
	size_t mask = b->by_bytes_size - 1, i = hash_bytes(bytes, length) & mask;
	for (; b->by_bytes[i]; i = (i + 1) & mask) {
		struct bpe_token t = b->tokens[b->by_bytes[i] - 1];
		if (t.length == length && memcmp(b->bytes + t.start, bytes, length) == 0)
			break;
	}
	return &b->by_bytes[i];
}

static uint32_t *merge_place(const struct bpe *b, int32_t left, int32_t right)
{
	size_t mask = b->by_pair_size - 1, i = hash_pair(left, right) & mask;
	for (; b->by_pair[i]; i = (i + 1) & mask) {
		const struct bpe_merge *m = &b->merges[b->by_pair[i] - 1];
		if (m->left == left && m->right == right)
			break;
	}
	return &b->by_pair[i];
}

/* A table at most half full. */
static uint32_t *new_table(size_t entries, size_t *size, error *err)
{
	*size = 16;
	while (*size < entries * 2)
		*size *= 2;
	uint32_t *table = calloc(*size, sizeof *table);
	if (!table)
		fail_memory(err, "a vocabulary", *size * sizeof *table);
	return table;
}

bool bpe_reserve(struct bpe *b, size_t tokens, size_t merges, error *err)
{
	if (tokens > MAX_TOKEN_IDS || merges > MAX_TOKEN_IDS)
		return fail(err, EXIT_BAD_INPUT,
		            "expected at most %d tokens and merges, found %zu and %zu",
		            MAX_TOKEN_IDS, tokens, merges);
	b->merge_capacity = merges;
	b->merges = malloc((merges + 1) * sizeof *b->merges);
	if (!b->merges)
		return fail_memory(err, "a vocabulary", (merges + 1) * sizeof *b->merges);
	b->by_bytes = new_table(tokens, &b->by_bytes_size, err);
	b->by_pair = b->by_bytes ? new_table(merges, &b->by_pair_size, err) : NULL;
	return b->by_pair != NULL;
}

static bool make_token_room(struct bpe *b, size_t id, size_t length, error *err)
{
	if (id >= b->id_limit) {
		size_t limit = b->id_limit ? b->id_limit : 1024;
		while (limit <= id)
			limit *= 2;
		struct bpe_token *tokens = realloc(b->tokens, limit * sizeof *tokens);
		if (!tokens)
			return fail_memory(err, "a vocabulary", limit * sizeof *tokens);
		memset(tokens + b->id_limit, 0, (limit - b->id_limit) * sizeof *tokens);
		b->tokens = tokens;
		b->id_limit = limit;
	}
	if (b->bytes_capacity - b->bytes_used < length) {
		size_t capacity = (b->bytes_capacity + length) * 2;
		char *bytes = capacity < UINT32_MAX ? realloc(b->bytes, capacity) : NULL;
		if (!bytes)
			return fail_memory(err, "a vocabulary", capacity);
		b->bytes = bytes;
		b->bytes_capacity = capacity;
	}
	return true;
}

bool bpe_add_token(struct bpe *b, const char *spelling, int64_t id, error *err)
{
	size_t length = strlen(spelling);
	if (length == 0)
		return fail(err, EXIT_BAD_INPUT, "expected a token, found an empty text");
	if (id < 0 || id >= MAX_TOKEN_IDS)
		return fail(err, EXIT_BAD_INPUT, "expected an id below %d, found %lld",
		            MAX_TOKEN_IDS, (long long)id);
	if (b->token_count * 2 >= b->by_bytes_size)
		return fail(err, EXIT_INTERNAL, "more tokens than were reserved");
	if (!make_token_room(b, (size_t)id, length, err))
		return false;
	struct bpe_token *token = &b->tokens[id];
	if (token->length)
		return fail(err, EXIT_BAD_INPUT, "id %lld belongs to another token already",
		            (long long)id);
	char *bytes = b->bytes + b->bytes_used;
	long spelled = spelled_bytes(spelling, length, bytes);
	if (spelled < 0) {
		/* Never the outcome of merges, but decoding writes it as it stands. */
		memcpy(bytes, spelling, length);
	} else {
		uint32_t *place = token_place(b, bytes, (size_t)spelled);
		if (*place)
			return fail(err, EXIT_BAD_INPUT, "id %lld: token %u is spelled the same",
			            (long long)id, *place - 1);
		*place = (uint32_t)id + 1;
		length = (size_t)spelled;
	}
	*token = (struct bpe_token){ (uint32_t)b->bytes_used, (uint32_t)length };
	b->bytes_used += length;
	b->token_count++;
	return true;
}

int32_t bpe_find(const struct bpe *b, const char *bytes, size_t length)
{
	return (int32_t)*token_place(b, bytes, length) - 1;
}

static bool find_spelling(const struct bpe *b, const char *spelling, size_t length,
                          char *bytes, int32_t *id, error *err)
{
	long spelled = spelled_bytes(spelling, length, bytes);
	*id = spelled > 0 ? bpe_find(b, bytes, (size_t)spelled) : -1;
	if (*id >= 0)
		return true;
	return fail(err, EXIT_BAD_INPUT,
	            "merge with \"%.*s\", which is not in the vocabulary",
	            (int)(length < SPELLING_SHOWN ? length : SPELLING_SHOWN), spelling);
}

bool bpe_add_merge(struct bpe *b, const char *left, size_t left_length,
                   const char *right, size_t right_length, error *err)
{
	enum { MERGE_BYTES = 4096 };
	char spelling[MERGE_BYTES], bytes[MERGE_BYTES];
	struct bpe_merge merge;
	if (left_length >= MERGE_BYTES || right_length >= MERGE_BYTES - left_length)
		return fail(err, EXIT_BAD_INPUT, "expected a merge of at most %d bytes",
		            MERGE_BYTES);
	if (b->merge_count == b->merge_capacity)
		return fail(err, EXIT_INTERNAL, "more merges than were reserved");
	memcpy(spelling, left, left_length);
	memcpy(spelling + left_length, right, right_length);
	if (!find_spelling(b, left, left_length, bytes, &merge.left, err) ||
	    !find_spelling(b, right, right_length, bytes, &merge.right, err) ||
	    !find_spelling(b, spelling, left_length + right_length, bytes, &merge.whole, err))
		return false;
	uint32_t *place = merge_place(b, merge.left, merge.right);
	if (*place)
		return fail(err, EXIT_BAD_INPUT, "the same merge as number %u", *place);
	b->merges[b->merge_count++] = merge;
	*place = (uint32_t)b->merge_count;
	return true;
}

bool bpe_check_bytes(struct bpe *b, error *err)
{
	for (int byte = 0; byte < 256; byte++) {
		char c = (char)byte;
		b->byte_tokens[byte] = bpe_find(b, &c, 1);
		if (b->byte_tokens[byte] < 0)
			return fail(err, EXIT_BAD_INPUT,
			            "expected a token for every byte, found none for 0x%02X",
			            (unsigned)byte);
	}
	return true;
}

static void push_candidate(struct bpe_scratch *s, uint64_t entry)
{
	size_t i = s->queue_count++;
	for (; i > 0 && s->queue[(i - 1) / 2] > entry; i = (i - 1) / 2)
		s->queue[i] = s->queue[(i - 1) / 2];
	s->queue[i] = entry;
}

static uint64_t pop_candidate(struct bpe_scratch *s)
{
	uint64_t top = s->queue[0], moved = s->queue[--s->queue_count];
	size_t i = 0, child;
	while ((child = 2 * i + 1) < s->queue_count) {
		if (child + 1 < s->queue_count && s->queue[child + 1] < s->queue[child])
			child++;
		if (s->queue[child] >= moved)
			break;
		s->queue[i] = s->queue[child];
		i = child;
	}
	s->queue[i] = moved;
	return top;
}

/* Queues the merge of the symbol at `left` with the one after it, if there is one. */
static void consider_pair(const struct bpe *b, struct bpe_scratch *s, int32_t left)
{
	int32_t right = left < 0 ? -1 : s->symbols[left].after;
	if (right < 0)
		return;
	uint32_t rank = *merge_place(b, s->symbols[left].id, s->symbols[right].id);
	if (rank)
		push_candidate(s, (uint64_t)(rank - 1) << 32 | (uint32_t)left);
}

/* Applies a queued merge, unless its symbols have since gone elsewhere. */
static void apply_candidate(const struct bpe *b, struct bpe_scratch *s, uint64_t entry)
{
	const struct bpe_merge *merge = &b->merges[entry >> 32];
	int32_t left = (int32_t)(uint32_t)entry;
	struct bpe_symbol *symbol = &s->symbols[left];
	int32_t right = symbol->after;
	if (symbol->left_behind || right < 0 || symbol->id != merge->left ||
	    s->symbols[right].id != merge->right)
		return;
	symbol->id = merge->whole;
	symbol->after = s->symbols[right].after;
	s->symbols[right].left_behind = true;
	if (symbol->after >= 0)
		s->symbols[symbol->after].before = left;
	consider_pair(b, s, symbol->before);
	consider_pair(b, s, left);
}

/* Room for a piece: a symbol a byte; a candidate for each neighbouring pair at the
 * start, and two more for each merge. */
static bool make_scratch_room(struct bpe_scratch *s, size_t length, error *err)
{
	if (length <= s->symbol_capacity)
		return true;
	size_t capacity = length * 2;
	bpe_scratch_free(s);
	s->symbols = malloc(capacity * sizeof *s->symbols);
	s->queue = malloc(capacity * 3 * sizeof *s->queue);
	if (!s->symbols || !s->queue)
		return fail_memory(err, "a piece of text",
		                   capacity * (sizeof *s->symbols + 3 * sizeof *s->queue));
	s->symbol_capacity = capacity;
	return true;
}

bool bpe_encode(const struct bpe *b, struct bpe_scratch *s, const char *piece,
                size_t length, struct token_list *out, error *err)
{
	if (!make_scratch_room(s, length, err))
		return false;
	int32_t count = (int32_t)length;
	for (int32_t i = 0; i < count; i++)
		s->symbols[i] = (struct bpe_symbol){
			.id = b->byte_tokens[(uint8_t)piece[i]],
			.before = i - 1,
			.after = i + 1 < count ? i + 1 : -1,
		};
	s->queue_count = 0;
	for (int32_t i = 0; i < count; i++)
		consider_pair(b, s, i);
	while (s->queue_count)
		apply_candidate(b, s, pop_candidate(s));
	for (int32_t i = count ? 0 : -1; i >= 0; i = s->symbols[i].after)
		if (!token_push(out, s->symbols[i].id, err))
			return false;
	return true;
}

void bpe_scratch_free(struct bpe_scratch *s)
{
	free(s->symbols);
	free(s->queue);
	*s = (struct bpe_scratch){ 0 };
}

void bpe_free(struct bpe *b)
{
	free(b->bytes);
	free(b->tokens);
	free(b->by_bytes);
	free(b->merges);
	free(b->by_pair);
	*b = (struct bpe){ 0 };
}
