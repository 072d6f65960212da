/* Residual connection. */
#ifndef QUERN_KERNELS_ADD_H
#define QUERN_KERNELS_ADD_H

#include <stddef.h>

/* sum[n] = a[n] + b[n]; sum may be a or b. */
void add(float *sum, const float *a, const float *b, size_t n);

#endif
