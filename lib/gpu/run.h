/* One batch on its way through the model. Private to lib/gpu. */
#ifndef QUERN_GPU_RUN_H
#define QUERN_GPU_RUN_H

#include "lib/gpu/batch.h"

/* Rows whose logits are there at a time: three tiles of 192. */
enum { LOGIT_ROWS = 576 };

/* What a layer keeps: for its backward pass all of it, to start again from it its input. */
struct layer_tape {
	float *input, *middle;   /* [rows][hidden] */
	bits16 *qkv;             /* [rows][q + 2 kv], before the rotary embedding */
	bits16 *attended;        /* [rows][q] */
	float *lse;              /* [rows][heads] */
	bits16 *gate_up;         /* [rows][2 * intermediate] */
};

struct tower_pass {
	struct device_model *g;
	const struct gpu_tower *tower;
	const struct tower_rows *rows; /* on the device */
	struct layer_tape *tapes;      /* [depth]; host array */
	float *output;                 /* [rows][hidden], of the last layer */
	int q_width, kv_width, qkv_width;
	int active_row; /* of the down projection's input, padding included */

	/* Scratch, shared by all layers. */
	float *again[2];   /* [rows][hidden]: layers' inputs of a run that starts again */
	bits16 *turned;    /* [rows][q + 2 kv]: qkv after the rotary embedding */
	bits16 *normed;    /* [rows][hidden] */
	bits16 *active;    /* [rows][intermediate, padded] */
	bits16 *narrow;    /* [rows][hidden]: a gradient in 16 bits */
	bits16 *dqkv, *dattended, *dgate_up;
	bits16 *dnormed;   /* [rows][hidden] */
	float *delta;      /* [rows][heads] */
	float *parts;      /* [2][rows][q]: see gpu_attention_backward */
};

/* What the vision tower's merger keeps. */
struct merger_tape {
	bits16 *merged;   /* [vision rows][hidden], as cells */
	bits16 *expanded; /* [cells][merged width] */
	bits16 *active;
	float *features;  /* [cells][out] */
	bits16 *dfeatures, *dactive;
};

struct run_state {
	struct device_model *g;
	const struct batch *batch; /* on the device */
	enum gpu_work work;
	struct tower_pass text, vision;
	struct merger_tape merger;
	int samples;
	int places; /* values of a sample: the linears', in calibration then the cache's */
	const float *cache_scales; /* [part] of the key/value cache; NULL: it stays */

	/* Results. */
	float *amax;    /* [samples][places] */
	double *score;  /* [samples][places] */
	float *per_row; /* [rows] scratch of amax */
	double *per_row_scores; /* [MOST_SCORE_PARTS][rows] */

	/* Scratch of quantised products. */
	uint8_t *codes;                   /* of the inputs */
	bits16 *wide_codes, *wide_weight; /* values of codes in 16 bits */
	float *difference; /* or 16 bits */
};

/* What a layer gave, for the perturbed product to be held against: 16-bit numbers, or a
 * float32 sum and what it was added to. */
struct plain_output {
	const bits16 *narrow; /* [rows][out] */
	const float *sum, *addend;
};

/* ---- linear.c: what happens at a matrix ---- */

/* Its product, quantised where the matrix is served so: y in 16 bits, in float32, or added
 * to a residual stream. */
void run_linear(struct run_state *r, const struct matrix *x, bits16 *y, const bits16 *input,
                int rows);
void run_linear_float(struct run_state *r, const struct matrix *x, float *y,
                      const bits16 *input, int rows);
void run_linear_add(struct run_state *r, const struct matrix *x, float *sum,
                    const float *before, const bits16 *input, int rows);

/* Calibration: the largest input of a matrix, per sample. What the kernel that writes the
 * input is to note for it, then the call that takes it from there; or both in one. */
struct row_extras extras_to_observe(const struct run_state *r);
void observe_noted(struct run_state *r, const struct matrix *x, int rows,
                   const int32_t *starts);
void observe(struct run_state *r, const struct matrix *x, const bits16 *input, int rows,
             const int32_t *starts);

/* Calibration: the largest key and value of a layer, per sample, as `turned` has them:
 * after the rotary embedding, rounded to 16 bits like a server's. */
void observe_cache(struct run_state *r, const struct tower_pass *p, int layer);

/* Keys and values of a layer as they come back of an FP8 cache, if the run has one. */
void serve_cache(struct run_state *r, const struct tower_pass *p, int layer);

/* Scoring: adds sum((gradient * difference)^2) of every member, per sample. The input's
 * codes are in r->codes: written with extras_to_weigh, or by encode_input. */
struct row_extras extras_to_weigh(const struct run_state *r, const struct matrix *x);
void encode_input(struct run_state *r, const struct matrix *x, const bits16 *input, int rows);
void weigh(struct run_state *r, const struct matrix *x, const struct plain_output *plain,
           const bits16 *gradient, int rows, const int32_t *starts);

/* Whether a matrix' codes are multiplied as they are; else as 16-bit numbers. */
bool runs_native(const struct device_model *g, const struct matrix *x, enum gpu_work work);

/* Takes scratch for the largest quantised product of the batch. */
void take_codes(struct run_state *r);

/* ---- tower.c: the layers of a tower ---- */

bool prepare_tower(struct run_state *r, struct tower_pass *p, const struct gpu_tower *tower,
                   const struct tower_rows *rows, error *err);

/* From tapes[0].input to p->output. */
void tower_forward_pass(struct run_state *r, struct tower_pass *p);

/* From the given layer's input on, leaving all tapes' inputs as they are. Returns the
 * last layer's output; p->output stays. */
float *tower_forward_again(struct run_state *r, struct tower_pass *p, int layer,
                           float *input);

/* dx[rows][hidden]: the gradient of the output becomes that of the input. */
void tower_backward_pass(struct run_state *r, struct tower_pass *p, float *dx,
                         bool input_wanted);

/* ---- run.c ---- */

/* The parts of a forward pass. */
bool prepare_forward(struct run_state *r, error *err);
void run_patches(struct run_state *r, float *embedded);
void run_merger(struct run_state *r, const float *vision_output);
void embed_text(struct run_state *r, float *text_input);
void run_vision(struct run_state *r);
void free_run(struct run_state *r);

/* Queues the batch, forward and (for scores) backward; *losses[graded] is then on the
 * device. */
bool run_batch(struct run_state *r, float **losses, error *err);

#endif
