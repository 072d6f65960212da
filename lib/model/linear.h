/* One linear layer of a run: the product, and the tap that watches it. Private to
 * lib/model. */
#ifndef QUERN_MODEL_LINEAR_H
#define QUERN_MODEL_LINEAR_H

#include "lib/model/parts.h"
#include "lib/model/workspace.h"

/* What every step of one sample's run needs. */
struct run {
	const struct model *model;
	struct workspace *space;
	const struct tap *tap; /* never NULL */
	bool shown;            /* linears are shown to tap->forward in this pass */
	float *expanded;       /* a stretch of a weight that is not resident */
};

/* Starts a run in the workspace; tap may be NULL. */
bool run_begin(struct run *r, const struct model *m, struct workspace *w,
               const struct tap *tap, error *err);

/* y[rows][out] from x[rows][in]. */
bool linear_forward(struct run *r, int linear, bool same_input, const float *x, float *y,
                    int rows, error *err);

/* Shows dy[rows][out] to the tap; then dx[rows][in] = dy W, or += with `add`. dx
 * NULL: nobody asks for it. */
bool linear_backward(struct run *r, int linear, const float *dy, float *dx, int rows,
                     bool add, error *err);

#endif
