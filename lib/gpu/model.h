/* A model's weights on a device. Private to lib/gpu. */
#ifndef QUERN_GPU_MODEL_H
#define QUERN_GPU_MODEL_H

#include "lib/gpu/device.h"
#include "lib/gpu/gpu.h"
#include "lib/model/parts.h"

enum { MOST_MEMBERS = 3 };

/* Linears that share an input, as one matrix: their rows lie one below the other. */
struct matrix {
	int out, in;
	int row;                   /* numbers a row of weights and inputs takes: `in` rounded
	                              up so that rows are 16 bytes apart, zeros behind */
	int padded_out, padded_in; /* multiples of 16, for FP8 */
	bf16_bits *weight;         /* [out][row] */
	bf16_bits *bias;           /* [out], or NULL */
	float *bias_float;         /* the same for products that end in float32 */
	int member_count;
	int members[MOST_MEMBERS]; /* linears of the model */
	int first[MOST_MEMBERS], width[MOST_MEMBERS]; /* rows of each */

	/* Scoring. */
	bool scored, one_scale;
	uint8_t *codes; /* [padded_out][padded_in]; made when first quantised */
	float weight_scale[MOST_MEMBERS];
	float input_encode, input_decode;
};

struct gpu_block {
	bf16_bits *norm1, *norm2;
	struct matrix qkv, o, gate_up, down;
	bool full_attention;
};

struct gpu_tower {
	const struct tower *tower; /* shapes */
	struct gpu_block *blocks;
};

/* A batch under way, and where its results arrive. */
struct gpu_slot {
	void *packed, *results; /* page-locked */
	size_t packed_bytes, results_bytes;
	enum gpu_work work;
	int samples, graded;
	int *graded_starts; /* [samples + 1], into packed */
	cudaEvent_t done;
	bool busy;
};

struct gpu_model {
	const struct model *model;
	struct device device;
	struct gpu_tower vision, text;
	struct matrix patch_embed, merger_in, merger_out, head;
	bf16_bits *merger_norm, *final_norm, *embedding;
	bool native_fp8;

	/* One stretch of device memory that batches are laid out in. */
	char *arena;
	size_t arena_bytes, arena_used, arena_peak;
	size_t weight_bytes;
	double flops;
	struct gpu_slot slots[GPU_SLOTS];
	struct matrix **matrices; /* all of them, for walking */
	int matrix_count;
	void **owned; /* device memory to free */
	int owned_count, owned_room;
};

/* Peak device memory so far, and the arithmetic done, for benches. */
struct gpu_counts {
	size_t peak_bytes;
	double flops;
};
struct gpu_counts gpu_counts(const struct gpu_model *g);

/* Pieces of the arena, aligned to 256 bytes; NULL when it is full, which is told once, by
 * arena_ok. arena_reset starts a batch. */
void arena_reset(struct gpu_model *g);
void *arena_take(struct gpu_model *g, size_t count, size_t size);
bool arena_ok(const struct gpu_model *g, error *err);

#endif
