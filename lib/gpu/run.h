/* One batch on its way through the model. Private to lib/gpu. */
#ifndef QUERN_GPU_RUN_H
#define QUERN_GPU_RUN_H

#include "lib/gpu/batch.h"

/* What a layer keeps for its backward pass. */
struct layer_tape {
	float *input, *middle;   /* [rows][hidden] */
	bf16_bits *qkv;          /* [rows][q + 2 kv], before the rotary embedding */
	bf16_bits *attended;     /* [rows][q] */
	float *lse;              /* [rows][heads] */
	bf16_bits *gate_up;      /* [rows][2 * intermediate] */
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
	bf16_bits *turned;  /* [rows][q + 2 kv]: qkv after the rotary embedding */
	bf16_bits *normed;  /* [rows][hidden] */
	bf16_bits *active;  /* [rows][intermediate, padded] */
	bf16_bits *narrow;  /* [rows][hidden]: BF16 of a gradient */
	bf16_bits *dqkv, *dattended, *dgate_up;
	float *dnormed;     /* [rows][hidden] */
	float *delta;       /* [rows][heads] */
};

struct run_state {
	struct device_model *g;
	const struct batch *batch; /* on the device */
	bool gradient;
	struct tower_pass text, vision;
	int samples;
	int places; /* values of a sample: the linears', in calibration then the cache's */

	/* Results. */
	float *amax;    /* [samples][places] */
	double *score;  /* [samples][places] */
	float *per_row; /* scratch, also used as doubles */

	/* Scratch of a perturbation. */
	uint8_t *codes;
	bf16_bits *wide_codes, *wide_weight; /* codes as BF16, where there is no FP8 */
	float *difference; /* or BF16 */
	int perturbed_rows;
};

/* What a layer gave, for the perturbed product to be held against: BF16 numbers, or a
 * float32 sum and what it was added to. */
struct plain_output {
	const bf16_bits *narrow; /* [rows][out] */
	const float *sum, *addend;
};

/* ---- perturb.c ---- */

/* Calibration: the largest input of a matrix, per sample. */
void observe(struct run_state *r, const struct matrix *x, const bf16_bits *input, int rows,
             const int32_t *starts);

/* Calibration: the largest key and value of a layer, per sample, as `turned` has them:
 * after the rotary embedding, rounded to BF16 like a server's. */
void observe_cache(struct run_state *r, const struct tower_pass *p, int layer);

/* Scoring: adds sum((gradient * difference)^2) of every member, per sample. */
void weigh(struct run_state *r, const struct matrix *x, const bf16_bits *input,
           const struct plain_output *plain, const bf16_bits *gradient, int rows,
           const int32_t *starts);

/* Takes scratch for the largest perturbation of the batch. */
void take_perturbation(struct run_state *r);

/* ---- run.c ---- */

/* Queues the batch, forward and (for scores) backward; *losses[graded] is then on the
 * device. */
bool run_batch(struct run_state *r, float **losses, error *err);

#endif
