/* Qwen's byte-level BPE tokenizer: NFC, its pre-tokeniser pattern, merges by
 * rank, special tokens. Reads tokenizer.json where there is one, otherwise
 * vocab.json + merges.txt + tokenizer_config.json. */
#ifndef QUERN_DATA_TOKENIZER_H
#define QUERN_DATA_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/error.h"
#include "lib/base/text.h"
#include "lib/data/token_list.h"

struct tokenizer; /* opaque; read-only once loaded, safe to share among threads */

struct tokenizer *tokenizer_load(const char *model_folder, error *err);

/* As tokenizer_load, from vocab.json, merges.txt and tokenizer_config.json even
 * where tokenizer.json exists. */
struct tokenizer *tokenizer_load_vocab(const char *model_folder, error *err);
void tokenizer_free(struct tokenizer *t);

/* Appends the ids of text[length] (UTF-8; invalid bytes become U+FFFD as the
 * reference does). Special and other added tokens in the text ("<|im_end|>") are
 * recognised only when `special` is true: a caption is data and must not end the
 * turn. */
bool tokenizer_encode(const struct tokenizer *t, const char *text, size_t length,
                      bool special, struct token_list *out, error *err);

/* The id of an added token by its text, or -1. */
int32_t tokenizer_special(const struct tokenizer *t, const char *content);

/* Appends the bytes of the ids; special tokens are written out unless
 * skip_special. Ids that the vocabulary lacks (a model's embedding may have more
 * rows) add nothing, as in the reference. */
bool tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t count,
                      bool skip_special, text *out, error *err);

#endif
