/* Matrix products by OpenBLAS. */
#include "kernels/matmul.h"

#include <cblas.h>
#include <string.h>

void matmul_threads(int count)
{
	openblas_set_num_threads(count);
}

static void repeat_row(float *y, int y_stride, const float *row, int rows, int width)
{
	for (int i = 0; i < rows; i++)
		memcpy(y + (size_t)i * (size_t)y_stride, row, (size_t)width * sizeof(float));
}

void matmul_forward(float *y, int y_stride, const float *x, const float *weight,
                    const float *bias, int rows, int out, int in)
{
	float keep = bias ? 1.0f : 0.0f;
	if (bias)
		repeat_row(y, y_stride, bias, rows, out);
	if (rows == 1)
		cblas_sgemv(CblasRowMajor, CblasNoTrans, out, in, 1.0f, weight, in, x, 1, keep,
		            y, 1);
	else
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, out, in, 1.0f, x, in,
		            weight, in, keep, y, y_stride);
}

void matmul_backward(float *dx, const float *dy, int dy_stride, const float *weight,
                     int rows, int out, int in, bool accumulate)
{
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, in, out, 1.0f, dy,
	            dy_stride, weight, in, accumulate ? 1.0f : 0.0f, dx, in);
}
