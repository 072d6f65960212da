/* How much arithmetic a sample takes: the one place that says what "TFLOP/s" of the bench
 * counts. Multiplications and additions of matrix products and of attention, whatever
 * precision they are done in; nothing element-wise, nothing done twice to save memory. */
#ifndef QUERN_TESTS_SUPPORT_FLOPS_H
#define QUERN_TESTS_SUPPORT_FLOPS_H

#include "lib/checkpoint/config.h"

struct sample_shape {
	int tokens, graded;
	int grid_h, grid_w; /* in patches; 0: no image */
};

/* The parts of a forward pass: 2 x parameters x rows of every linear, and 4 x width x
 * pairs of every attention (q k', then p v; causal in the text, by window or whole image
 * in the tower). */
struct forward_flops {
	double vision; /* tower and merger */
	double text;   /* layers, without the head */
	double head;   /* of one row */
};
struct forward_flops forward_flops(const struct model_config *c,
                                   const struct sample_shape *s);

enum flops_work {
	FLOPS_NONE,
	FLOPS_CALIBRATE, /* a forward pass without the head */

	/* A forward pass with the head on graded rows; every linear but the head once more,
	 * perturbed; and the gradients of all activations, which take each linear once more
	 * (but the patch embedding) and each attention twice. */
	FLOPS_GRADIENT,

	/* A forward pass with the head on all rows; then for each group alone what follows
	 * from its own linears on, head included. */
	FLOPS_KL,
};
double work_flops(const struct model_config *c, enum flops_work work,
                  const struct sample_shape *s);

#endif
