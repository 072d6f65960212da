/* How far the predictions of one set of logits are from those of another. */
#ifndef QUERN_KERNELS_DIVERGENCE_H
#define QUERN_KERNELS_DIVERGENCE_H

#include <stddef.h>

/* What one row of logits says against the base's. */
struct divergence {
	double kl;      /* sum p (log p - log q), p = softmax(base), q = softmax(other) */
	double squared; /* mean over the vocabulary of (base - other)^2 */
	int agrees;     /* 1: both have their largest logit, the lowest of equals, at one id */
};

/* out[rows] from base[rows][vocab] and other[rows][vocab]. */
void divergence_of_rows(struct divergence *out, const float *base, const float *other,
                        int rows, int vocab);

#endif
