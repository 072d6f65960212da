/* Scaled dot-product attention and its gradient.
 *
 * Rows attend within segments: segment s holds the rows starts[s] to
 * starts[s + 1]. With `causal` a row sees the rows up to itself, without it the
 * whole segment. Heads are side by side in a row: q[rows][heads][head_dim], rows
 * q_stride floats apart; k and v[rows][kv_heads][head_dim], rows kv_stride apart;
 * `heads / kv_heads` consecutive query heads share one key/value head. out has
 * rows of heads * head_dim floats, without gaps. */
#ifndef QUERN_KERNELS_ATTENTION_H
#define QUERN_KERNELS_ATTENTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Floats of scratch that both functions need when no segment sees more than
 * `keys` rows. */
size_t attention_scratch(int keys);

/* `past` rows of k and v precede the first row of q (a key/value cache); there is
 * one segment then. */
void attention_forward(float *out, float *scratch, const float *q, int q_stride,
                       const float *k, const float *v, int kv_stride,
                       const int32_t *starts, int segments, int past, int heads,
                       int kv_heads, int head_dim, float scale, bool causal);

/* dq, dk, dv (laid out as q, k, v) from dout; the probabilities are computed
 * again from q and k, to the same bits. */
void attention_backward(float *dq, float *dk, float *dv, float *scratch,
                        const float *dout, const float *q, int q_stride,
                        const float *k, const float *v, int kv_stride,
                        const int32_t *starts, int segments, int heads, int kv_heads,
                        int head_dim, float scale, bool causal);

#endif
