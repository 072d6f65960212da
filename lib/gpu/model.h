/* A model's weights on a device. Private to lib/gpu. */
#ifndef QUERN_GPU_MODEL_H
#define QUERN_GPU_MODEL_H

#include "lib/gpu/device.h"
#include "lib/gpu/gpu.h"
#include "lib/gpu/upload.h"
#include "lib/model/parts.h"

enum { MOST_MEMBERS = 3 };

/* Linears that share an input, as one matrix: their rows lie one below the other. */
struct matrix {
	int out, in;
	int row;                   /* numbers a row of weights and inputs takes: `in` rounded
	                              up so that rows are 16 bytes apart, zeros behind */
	int padded_out, padded_in; /* multiples of 16, for FP8 */
	bits16 *weight;            /* [out][row] */
	bits16 *bias;              /* [out], or NULL */
	bits16 *bias_bf16;         /* the same for products of codes that end in float32 */
	float *bias_float;         /* the same for products that end in float32 */
	int member_count;
	int members[MOST_MEMBERS]; /* linears of the model */
	int first[MOST_MEMBERS], width[MOST_MEMBERS]; /* rows of each */

	bool served; /* the product at hand is of its codes */

	/* Codes and their scales. */
	bool scored, one_scale;
	uint8_t *codes; /* [padded_out][padded_in]; made when first quantised */
	float weight_scale[MOST_MEMBERS];
	float input_encode, input_decode;
};

struct gpu_block {
	bits16 *norm1, *norm2;
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

struct device_model {
	struct gpu_model public; /* first: the handle that others hold */
	const struct model *model;
	struct device device;
	struct gpu_tower vision, text;
	struct matrix patch_embed, merger_in, merger_out, head;
	bits16 *merger_norm, *final_norm, *embedding;
	bool native_fp8;
	struct uploader uploader; /* while the model is opened */

	/* One stretch of device memory that batches are laid out in. */
	char *arena;
	size_t arena_bytes, arena_used;
	size_t weight_bytes;
	struct gpu_slot slots[GPU_SLOTS];
	struct matrix **matrices; /* all of them, for walking */
	int matrix_count;
	void **owned; /* device memory to free */
	int owned_count, owned_room;
};

/* Pieces of the arena, aligned to 256 bytes; NULL when it is full, which is told once, by
 * arena_ok. arena_reset starts a batch. */
void arena_reset(struct device_model *g);
void *arena_take(struct device_model *g, size_t count, size_t size);
bool arena_ok(const struct device_model *g, error *err);

extern const struct gpu_api quern_gpu;

/* gpu.h's functions, for the table that load.c finds. */
bool device_usable(char name[128], error *err);
bool device_model_open(struct gpu_model **out, const struct model *m,
                       enum gpu_number number, bool native_fp8, error *err);
void device_model_close(struct gpu_model *handle);
bool device_weight_amaxes(struct gpu_model *handle, float *amax, error *err);
bool device_quantise(struct gpu_model *handle, const struct gpu_quantisation *quantisation,
                     error *err);
bool device_take_arena(struct gpu_model *handle, size_t memory_limit, error *err);
size_t device_used_bytes(const struct gpu_model *handle);
int device_batch_fits(const struct gpu_model *handle, const struct sample *const *samples,
                      int count, enum gpu_work work);
bool device_submit(struct gpu_model *handle, int slot, enum gpu_work work,
                   const struct sample *const *samples, int count, error *err);
bool device_collect(struct gpu_model *handle, int slot, double *values, double *loss,
                    error *err);
bool device_compare(struct gpu_model *handle, const struct sample *const *samples, int count,
                    const struct gpu_choice *choices, int choice_count,
                    struct row_change *rows, error *err);

#endif
