/* The Kullback-Leibler divergence of next-token predictions. */
#ifndef QUERN_KERNELS_DIVERGENCE_H
#define QUERN_KERNELS_DIVERGENCE_H

#include <stddef.h>

/* Sum over rows of KL(softmax(p) || softmax(q)), p and q logits [rows][vocab]; never
 * below 0, and however small the divergence with a relative error of about 1e-6, given
 * the logits. */
double divergence(const float *p, const float *q, int rows, int vocab);

#endif
