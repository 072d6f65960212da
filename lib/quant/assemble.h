/* Assembling a checkpoint folder from pieces that are already quantised. */
#ifndef QUERN_QUANT_ASSEMBLE_H
#define QUERN_QUANT_ASSEMBLE_H

#include "lib/base/error.h"
#include "lib/quant/describe.h"
#include "lib/quant/numerics.h"

/* How the weights lie in the folder. LAYOUT_LINKED: a file a group, linked from the
 * store, and one small file of all scales: next to nothing is written, and schemes share
 * what they have in common. LAYOUT_PACKED: shards named like those of any checkpoint, of
 * at most SHARD_BYTES, for uploading. */
enum layout { LAYOUT_LINKED, LAYOUT_PACKED, LAYOUT_COUNT };

static const uint64_t SHARD_BYTES = 5000000000;

const char *layout_name(enum layout l); /* "linked", "packed" */
bool layout_from_name(const char *name, enum layout *out);

/* Everything an export is made from; paths of files unless said otherwise. */
struct assembly {
	struct description about; /* of its slice, the selection decides over the weights */
	const char *tree;         /* with the store */
	const char *amax;
	const char *const *quantized; /* what quantize wrote, one a format */
	int quantized_count;
	const char *out; /* the folder to publish */
	enum numerics numerics;
	enum layout layout;
	uint64_t shard_bytes; /* of LAYOUT_PACKED; a tensor that is larger has its own */
};

/* What was published, for a line to a person. */
struct assembled {
	int selected, total; /* groups */
	char elements[64];   /* of the formats they are in: "FP8", "FP8 and NVFP4" */
	double delivered_bits;
	uint64_t written; /* bytes that were not linked */
	bool stand_in;
};

/* Publishes the folder whole or not at all. Memory is bounded, whatever the model. */
bool assemble_checkpoint(const struct assembly *a, struct assembled *done, error *err);

#endif
