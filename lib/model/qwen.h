/* Qwen2.5-VL on the CPU in float32: weights, forward, backward, taps.
 *
 * The model knows nothing of quantisation. Whoever wants to watch, replace or
 * measure a linear layer hands in a tap. Samples are independent: each runs by
 * itself, on one thread, in one workspace, so a score cannot depend on packing,
 * batch size or the number of threads. */
#ifndef QUERN_MODEL_QWEN_H
#define QUERN_MODEL_QWEN_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/checkpoint/config.h"
#include "lib/checkpoint/names.h"
#include "lib/checkpoint/safetensors.h"
#include "lib/data/prompt.h"

/* y[rows][out] = x[rows][in] * W[out][in]^T + bias[out]. The patch convolution
 * and the head are linears too. */
struct linear {
	char name[NAME_BYTES]; /* quern's name, without ".weight" */
	const struct tensor *tensor; /* of the checkpoint; the embedding for a tied head */
	int out, in;
	const float *weight; /* float32 copy, or NULL: expanded from tensor at use */
	const float *bias;   /* NULL if none */
};

struct model {
	struct model_config config;
	struct linear *linears; /* in module order: patch_embed, vision blocks,
	                           merger, text layers, lm_head last */
	int linear_count;
	struct model_parts *parts; /* blocks, norms, embedding */
	arena memory;
};

/* Looks every tensor up in ckpt, checks shapes and dtypes (BF16, F16, F32), and
 * refuses NaN and Inf in any weight, naming tensor and index. ckpt must outlive
 * the model. Weights are kept in float32 when all of them take at most
 * `resident_bytes`, otherwise expanded layer by layer at use. */
bool model_open(struct model *m, const struct checkpoint *ckpt,
                const struct model_config *config, size_t resident_bytes, error *err);
void model_close(struct model *m);

/* A linear's weight in float32: the resident copy, or expanded into scratch
 * (out * in floats). */
const float *linear_weight(const struct linear *l, float *scratch);

/* Linear index by quern's name, or -1. */
int model_find_linear(const struct model *m, const char *name);

/* Any callback may be NULL. `linear` indexes model->linears. */
struct tap {
	void *self;
	/* After y was computed. x[rows][in], y[rows][out]; may overwrite y, but in
	 * model_gradient must not: of a sample too long to keep its activations,
	 * blocks run twice there, and only the second run is shown.
	 * same_input: x holds what it held at the previous call (k after q, ...).
	 * Called once per linear and sample (in model_generate: and step), for the
	 * head with the rows that are needed only: the graded ones, or all with
	 * WANT_LOGITS. */
	bool (*forward)(void *self, int linear, bool same_input, const float *x,
	                float *y, int rows, error *err);
	/* dLoss/dY, in backward order; model_gradient only. */
	bool (*backward)(void *self, int linear, const float *gradient, int rows,
	                 error *err);
	/* Keys (after the rotary embedding) and values of a text layer on their way into
	 * its key/value cache, before anything attends to them: both [rows][kv_heads *
	 * head_dim]. May overwrite them, but in model_gradient must not. Called once per
	 * layer and sample (in model_generate: and step). */
	bool (*cache)(void *self, int layer, float *keys, float *values, int rows,
	              error *err);
	/* The output of a block: module is its quern name ("visual.blocks.0",
	 * "visual.merger", "language_model.layers.3", "visual.patch_embed"). Vision
	 * blocks come in window order; the merger's output in image order. */
	void (*block)(void *self, const char *module, const float *x, int rows, int width);
};

/* Scratch memory of one thread, grown as needed, reused from sample to sample. */
struct workspace;
struct workspace *workspace_new(error *err);
void workspace_free(struct workspace *w);

/* What a run gives back; pointers stay valid until the workspace's next run. */
struct outcome {
	const float *logits; /* [tokens][vocab]; NULL unless asked for */
	double loss;         /* mean cross entropy over the graded tokens */
	int graded;          /* how many */
};

enum { WANT_LOSS = 1, WANT_LOGITS = 2 };

/* Forward only. With want == 0 the head is not computed (calibration). */
bool model_forward(const struct model *m, struct workspace *w,
                   const struct sample *s, int want, const struct tap *tap,
                   struct outcome *out, error *err);

/* Forward and backward of the loss with respect to every linear's output;
 * parameters get no gradient. */
bool model_gradient(const struct model *m, struct workspace *w,
                    const struct sample *s, const struct tap *tap,
                    struct outcome *out, error *err);

/* Three rows of M-RoPE positions, out[3][tokens] (transformers get_rope_index:
 * text counts on, an image spreads over height and width). */
void mrope_positions(const struct model_config *config, const struct sample *s,
                     int32_t *out);

/* How to generate; what of it a model wants is in its generation_config.json. */
struct generation {
	int max_new;
	const int32_t *stop; /* [stop_count] ends the text, and is its last token */
	size_t stop_count;
	/* Above 1, ids that the text has already, prompt included, become less likely
	 * (transformers' repetition_penalty: divides a positive logit, multiplies a
	 * negative one); 1 leaves the logits alone. The release asks for 1.05, and
	 * transformers applies it to greedy generation too. */
	float repetition_penalty;
};

/* Greedy generation with a key/value cache: appends up to max_new ids to *out. */
bool model_generate(const struct model *m, struct workspace *w,
                    const struct sample *prompt, const struct generation *how,
                    const struct tap *tap, struct token_list *out, error *err);

#endif
