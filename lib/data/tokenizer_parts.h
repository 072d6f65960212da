/* The inside of a tokenizer, shared by tokenizer.c, which uses one, and
 * tokenizer_files.c, which reads one. Nobody else's business. */
#ifndef QUERN_DATA_TOKENIZER_PARTS_H
#define QUERN_DATA_TOKENIZER_PARTS_H

#include "lib/base/arena.h"
#include "lib/data/bpe.h"

/* A token that stands for itself and is never merged: "<|im_end|>". */
struct added_token {
	const char *content;
	size_t length;
	int32_t id;
	bool special; /* dropped by decoding on request */
};

struct tokenizer {
	struct bpe bpe;
	struct added_token *added;
	size_t added_count;
	arena memory; /* of added[] and its texts */
};

/* The two routes. On failure *t still needs tokenizer_free. */
bool tokenizer_read_json(struct tokenizer *t, const char *path, error *err);
bool tokenizer_read_vocab(struct tokenizer *t, const char *model_folder, error *err);

#endif
