/* How far the predictions of one set of logits are from those of another. */
#ifndef QUERN_KERNELS_DIVERGENCE_H
#define QUERN_KERNELS_DIVERGENCE_H

#include <stddef.h>

/* Sum over rows of KL(softmax(p) || softmax(q)), p and q logits [rows][vocab]; never
 * below 0, and however small the divergence with a relative error of about 1e-6, given
 * the logits. */
double divergence(const float *p, const float *q, int rows, int vocab);

/* What one row of logits says against the base's. */
struct divergence {
	double kl;      /* KL(softmax(base) || softmax(other)), as divergence() has it */
	double squared; /* mean over the vocabulary of (base - other)^2 */
	int agrees;     /* 1: both have their largest logit, the lowest of equals, at one id */
};

/* out[rows] from base[rows][vocab] and other[rows][vocab]. */
void divergence_of_rows(struct divergence *out, const float *base, const float *other,
                        int rows, int vocab);

#endif
