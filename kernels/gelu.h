/* The merger's activation, the exact form: y = x * (1 + erf(x / sqrt(2))) / 2. */
#ifndef QUERN_KERNELS_GELU_H
#define QUERN_KERNELS_GELU_H

#include <stddef.h>

/* y may be x. */
void gelu_forward(float *y, const float *x, size_t n);

/* dx = dy * (Phi(x) + x * phi(x)), the normal distribution and its density; x is
 * the forward's input. dx may be dy. */
void gelu_backward(float *dx, const float *dy, const float *x, size_t n);

#endif
