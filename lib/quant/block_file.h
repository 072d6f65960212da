/* What a block of samples measured, and the files that carry blocks.
 *
 * Blocks are the unit of storage and of merging: a fixed number of samples, by the
 * catalog and not by the machine. Blocks merge in their order, so any number of
 * workers gives the same bits. */
#ifndef QUERN_QUANT_BLOCK_FILE_H
#define QUERN_QUANT_BLOCK_FILE_H

#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/base/text.h"

/* One value a linear: its amax (merged by maximum; beside them those of the parts of the
 * key/value cache) or its gradient score (merged by sum); or one value a group, its KL
 * score (merged by sum), under its first member. */
enum block_kind { BLOCK_AMAX, BLOCK_GRADIENT, BLOCK_KL };

/* How catalog and manifests call a kind: "amax", "gradient", "kl_div". */
const char *block_kind_name(enum block_kind kind);
bool score_kind_from_name(const char *name, enum block_kind *out);

/* The format that scores are of. */
struct part_format {
	const char *name, *element, *granularity;
};

struct block {
	const char *key; /* the digest of what it was measured from, in hexadecimal */
	const char *device; /* that it was measured on; NULL or absent: "cpu float32" */
	int64_t index;   /* its place among the blocks of the source */
	int64_t samples; /* measured; skipped ones not counted */
	int64_t cut;     /* captions cut to fit max_tokens */
	double loss;     /* sum over its samples of their mean loss; 0 for BLOCK_AMAX */
	const char **skipped; /* what could not be read, under on_bad_sample: skip */
	int skipped_count;
	int count;
	const char **names; /* of what was measured, in module order */
	double *values;     /* [count] */
};

/* {"kind", "index", ..., "values": {name: value}}; a block's object in the store. */
bool print_block(const struct block *b, enum block_kind kind, text *out, error *err);

/* {"kind", "format", "blocks": [...]} from the texts of blocks; format NULL: none. */
bool print_part(const text *blocks, int count, enum block_kind kind,
                const struct part_format *format, text *out, error *err);

/* What a part's head says; a part of amax has no format (name NULL). */
bool read_part_head(const char *path, enum block_kind *kind, struct part_format *format,
                    arena *memory, error *err);

/* Blocks of several parts, in order of index. */
struct block_list {
	struct block *blocks;
	int count;
	arena memory;
};

/* Reads parts; they must be of this kind, measure the same linears and together
 * hold blocks 0 to n-1, each once. */
bool read_parts(struct block_list *list, const char *const *paths, int path_count,
                enum block_kind kind, error *err);
void block_list_free(struct block_list *list);

/* All blocks as one, merged in order; lives in list's memory. Its key is the digest
 * of their keys: it stands for the weights, the tokenizer, the list of samples and
 * the tool they were all measured with. Fails if every sample was skipped. */
bool merge_blocks(struct block_list *list, enum block_kind kind, struct block *out,
                  error *err);

#endif
