/* The gated activation of the MLPs: out = silu(gate) * up,
 * silu(x) = x * sigmoid(x). No array may overlap another. */
#ifndef QUERN_KERNELS_SWIGLU_H
#define QUERN_KERNELS_SWIGLU_H

#include <stddef.h>

void swiglu_forward(float *restrict out, const float *restrict gate,
                    const float *restrict up, size_t n);

/* d(silu)/dx = s * (1 + x * (1 - s)), s = sigmoid(x) */
void swiglu_backward(float *restrict dgate, float *restrict dup,
                     const float *restrict dout, const float *restrict gate,
                     const float *restrict up, size_t n);

#endif
