/* The matrix products of a linear layer, float32. */
#ifndef QUERN_KERNELS_MATMUL_H
#define QUERN_KERNELS_MATMUL_H

#include <stdbool.h>

/* How many threads one product may use. quern runs samples side by side, one
 * thread each, so tools call this once, first thing, with 1. */
void matmul_threads(int count);

/* y[rows][out] = x[rows][in] weight[out][in]^T + bias[out] (NULL: none); the rows
 * of y are y_stride floats apart. */
void matmul_forward(float *y, int y_stride, const float *x, const float *weight,
                    const float *bias, int rows, int out, int in);

/* dx[rows][in] = dy[rows][out] weight[out][in], or dx += that; the rows of dy are
 * dy_stride floats apart. */
void matmul_backward(float *dx, const float *dy, int dy_stride, const float *weight,
                     int rows, int out, int in, bool accumulate);

#endif
