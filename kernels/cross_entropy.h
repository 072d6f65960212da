/* Cross entropy of next-token predictions.
 *
 * logits[rows][vocab], one row per graded token, targets[rows] the tokens. The
 * forward leaves each row's largest logit and the sum of exp(logit - largest),
 * from which the backward (and a log-probability) follows without overflow. */
#ifndef QUERN_KERNELS_CROSS_ENTROPY_H
#define QUERN_KERNELS_CROSS_ENTROPY_H

#include <stdint.h>

/* losses[row] = largest[row] + log(sum[row]) - logits[row][targets[row]] */
void cross_entropy_forward(double *losses, float *largest, float *sum,
                           const float *logits, const int32_t *targets, int rows,
                           int vocab);

/* logits become their gradient: scale * (softmax(logits) - one-hot(target)).
 * scale is 1/rows for a mean over the rows. */
void cross_entropy_backward(float *logits, const float *largest, const float *sum,
                            const int32_t *targets, int rows, int vocab, float scale);

#endif
