/* One NVIDIA GPU: its queue, its memory and its matrix products. Private to lib/gpu. */
#ifndef QUERN_GPU_DEVICE_H
#define QUERN_GPU_DEVICE_H

#include <cublasLt.h>
#include <cuda_runtime.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/gpu_ops.h"
#include "lib/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MOST_PRODUCTS = 512 };

/* A product's shape but for the number of rows, and the algorithm chosen for it: the
 * choice does not depend on the rows, so a sample's numbers do not depend on what it is
 * batched with. */
struct product_plan {
	int out, in, kind;
	cublasLtMatmulAlgo_t algo;
};

struct device {
	int index;
	char name[128];
	int major, minor; /* compute capability */
	bool fp8;         /* has FP8 tensor cores: 8.9 and newer */
	enum gpu_number number; /* of weights and activations */
	size_t total_bytes;
	cudaStream_t stream;
	cublasLtHandle_t blas;
	void *workspace; /* of cublasLt */
	struct product_plan *plans;
	int plan_count;
	int most_rows; /* that any product will have */
	cublasStatus_t blas_trouble;
};

/* Fails with EXIT_ENVIRONMENT when there is no device that can be used. */
bool device_open(struct device *d, error *err);
void device_close(struct device *d);

/* Memory of the device; NULL with *err filled when there is not enough. */
void *device_alloc(struct device *d, size_t bytes, const char *what, error *err);
size_t device_free_bytes(void);

/* Page-locked memory of the host, for cudaFreeHost; NULL with *err filled. */
void *host_alloc(size_t bytes, const char *what, error *err);

/* Waits for the queue; fails if anything since the last call did. */
bool device_wait(struct device *d, error *err);

/* Fails if `status`, or anything queued so far, did. */
bool device_check(struct device *d, cudaError_t status, error *err);

/* ---- products; x[rows][in] and y[rows][out] row by row ---- */

/* y (16-bit, rows y_stride apart) = x weight[out][in]^T + bias (NULL: none). */
void product_forward(struct device *d, bits16 *y, int y_stride, const bits16 *x,
                     const bits16 *weight, const bits16 *bias, int rows, int out,
                     int in);

/* sum (float32) = before (float32) + x weight^T + bias; the bias is as wide as the sum. */
void product_add(struct device *d, float *sum, const float *before, const bits16 *x,
                 const bits16 *weight, const float *bias, int rows, int out, int in);

/* y (float32) = x weight^T + bias */
void product_float(struct device *d, float *y, const bits16 *x, const bits16 *weight,
                   const float *bias, int rows, int out, int in);

/* dx[rows][in] = dy[rows][out] weight[out][in]. In all products `in` is the width of the
 * rows of x and weight in memory, padding included. */
void product_backward(struct device *d, bits16 *dx, const bits16 *dy, const bits16 *weight,
                      int rows, int out, int in);

/* Where the product of codes goes: result = scale * (codes weight_codes^T) + bias + beta *
 * before. In 16 bits all round (`narrow`), or in float32 (`wide`). With beta -1 it is the
 * difference from what the unquantised product gave, with 1 it is added to a residual
 * stream, with 0 `before` is not read. */
struct codes_product {
	bits16 *narrow;
	const bits16 *narrow_before;
	float *wide;
	const float *wide_before;
	float beta;
	const void *bias; /* as wide as the result, or BF16 for product_fp8 into float32;
	                     NULL: none */
	int stride;       /* of result and before */
};

/* codes in FP8 (in: a multiple of 16), without fast accumulation, since differences are
 * small; or their values in 16 bits. */
void product_fp8(struct device *d, const struct codes_product *p, const uint8_t *codes,
                 const uint8_t *weight_codes, float scale, int rows, int out, int in);
void product_codes(struct device *d, const struct codes_product *p, const bits16 *codes,
                   const bits16 *weight_codes, float scale, int rows, int out, int in);

#ifdef __cplusplus
}
#endif

#endif
