/* Byte-level BPE: a vocabulary, its merges, and the merging itself.
 *
 * Vocabulary files spell bytes in an alphabet of 256 printable characters (GPT-2's
 * bytes_to_unicode: a space is "Ġ"). Here tokens are plain bytes; the alphabet is
 * gone once a file is read. */
#ifndef QUERN_DATA_BPE_H
#define QUERN_DATA_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/error.h"
#include "lib/data/tokenizer.h"

enum { MAX_TOKEN_IDS = 1 << 22 };

/* length 0: there is no token of this id. */
struct bpe_token {
	uint32_t start, length; /* in bpe.bytes */
};

struct bpe_merge {
	int32_t left, right, whole;
};

/* All zero is empty. Both tables are open addressing, of a power-of-two size, and
 * hold what they point to plus one, 0 being a free place. */
struct bpe {
	char *bytes; /* all tokens, end to end */
	size_t bytes_used, bytes_capacity;
	struct bpe_token *tokens; /* by id */
	size_t token_count, id_limit;
	uint32_t *by_bytes; /* hash table of ids */
	size_t by_bytes_size;
	struct bpe_merge *merges; /* by rank */
	size_t merge_count, merge_capacity;
	uint32_t *by_pair; /* hash table of ranks */
	size_t by_pair_size;
	int32_t byte_tokens[256];
};

/* Makes room for this many tokens and merges; filling starts here. */
bool bpe_reserve(struct bpe *b, size_t tokens, size_t merges, error *err);

/* Adds a token spelled in the byte alphabet. The errors of these two say what is
 * wrong with the entry; where it stands is the caller's to add. */
bool bpe_add_token(struct bpe *b, const char *spelling, int64_t id, error *err);

/* Adds the merge of next rank, both sides spelled in the byte alphabet. */
bool bpe_add_merge(struct bpe *b, const char *left, size_t left_length,
                   const char *right, size_t right_length, error *err);

/* After the last token: checks that each of the 256 bytes is a token, so that any
 * text can be encoded. */
bool bpe_check_bytes(struct bpe *b, error *err);

/* The id of the token made of these bytes, or -1. */
int32_t bpe_find(const struct bpe *b, const char *bytes, size_t length);

/* Scratch of bpe_encode, grown as needed; all zero is empty. */
struct bpe_scratch {
	struct bpe_symbol *symbols;
	uint64_t *queue; /* a heap: rank of the merge << 32 | where it applies */
	size_t symbol_capacity, queue_count;
};

/* Appends the ids of one piece of text, length < 2^30. */
bool bpe_encode(const struct bpe *b, struct bpe_scratch *scratch, const char *piece,
                size_t length, struct token_list *out, error *err);
void bpe_scratch_free(struct bpe_scratch *scratch);
void bpe_free(struct bpe *b);

#endif
