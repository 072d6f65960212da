/* A stack of transformer blocks, forward and backward: the vision tower and the
 * language model are both one. Private to lib/model. */
#ifndef QUERN_MODEL_TOWER_H
#define QUERN_MODEL_TOWER_H

#include "lib/model/linear.h"

/* What the backward pass has of the forward pass.
 * NOTHING: there is no backward pass; all blocks share one set of buffers.
 * EVERYTHING: each block keeps what its gradient needs.
 * INPUTS: each block keeps its input and runs again when its turn comes, by the
 *   same functions and so to the same bits. */
enum keeping { KEEP_NOTHING, KEEP_EVERYTHING, KEEP_INPUTS };

/* Rows that may see each other: segment k is [starts[k], starts[k + 1]). */
struct segments {
	const int32_t *starts;
	int count;
};

/* A block's activations. q, k and v are after the rotary embedding. In a fused
 * tower they lie side by side in rows of 3 * hidden. */
struct tape {
	float *input;     /* [rows][hidden] */
	float *q, *k, *v; /* rows q_stride, kv_stride, kv_stride apart */
	float *middle;    /* [rows][hidden], after attention */
	float *gate, *up; /* [rows][intermediate] */
};

/* One sample in one tower. */
struct tower_run {
	struct run *run;
	const struct tower *tower;
	int rows;
	int past; /* rows of a key/value cache before the first row */
	enum keeping keeping;
	int q_stride, kv_stride;
	struct segments windows, all; /* of blocks without and with full attention */
	float *cosine, *sine;         /* [rows][head_dim / 2] */
	struct tape *tapes;           /* [depth]; the caller fills tapes[0].input */
	float *output;                /* [rows][hidden], of the last block */

	/* Scratch of one block. */
	float *normed, *added; /* [rows][hidden] */
	float *attended;       /* [rows][heads * head_dim] */
	float *active;         /* [rows][intermediate] */
	float *scores;
	float *dq, *dk, *dv, *dgate, *dup; /* gradients of the tape's */
};

/* Bytes that KEEP_EVERYTHING costs. */
size_t tower_tape_bytes(const struct tower *tower, size_t rows);

/* Takes all buffers from the workspace; segments and angles are then the caller's
 * to fill. */
bool tower_prepare(struct tower_run *t, struct run *run, const struct tower *tower,
                   int rows, int past, enum keeping keeping, error *err);

bool tower_forward(struct tower_run *t, error *err);

/* After tower_forward, runs block `first` and those after it once more, on what the
 * first of them had as input (input NULL) or on input[rows][hidden]. The result comes
 * to lie in output[rows][hidden], which may be input; kept inputs stay as they are. */
bool tower_forward_again(struct tower_run *t, int first, const float *input, float *output,
                         error *err);

/* dx[rows][hidden]: the gradient of `output` becomes that of tapes[0].input, or,
 * where nobody asks for that, anything. */
bool tower_backward(struct tower_run *t, float *dx, bool input_wanted, error *err);

#endif
