/* Device twins of amax, fp8 and score. */
#include <cuda_fp8.h>
#include <cuda_runtime.h>
#include <math.h>

#include "kernels/gpu.cuh"
#include "kernels/gpu_ops.h"

enum { THREADS = 256, WEIGHT_BLOCKS = 1024 };

static cudaStream_t queue(gpu_stream stream)
{
	return (cudaStream_t)stream;
}

static __device__ __forceinline__ float value(const bf16_bits *p, int64_t i)
{
	return __bfloat162float(reinterpret_cast<const bf16 *>(p)[i]);
}

/* fmaxf passes NaN over; here NaN wins, so that the result tells of it. */
static __device__ __forceinline__ float larger(float a, float b)
{
	return a != a || a > b ? a : b;
}

static __device__ float block_amax(float v, float *scratch)
{
	int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	for (int step = WARP / 2; step; step /= 2)
		v = larger(v, __shfl_down_sync(0xFFFFFFFFu, v, step));
	__syncthreads();
	if (lane == 0)
		scratch[warp] = v;
	__syncthreads();
	float all = scratch[0];
	for (int w = 1; w < (int)(blockDim.x + WARP - 1) / WARP; w++)
		all = larger(all, scratch[w]);
	return all;
}

/* ---- amax ---- */

static __global__ void amax_rows(float *per_row, const bf16_bits *x, int stride, int width)
{
	__shared__ float scratch[32];
	float v = 0;
	for (int i = threadIdx.x; i < width; i += blockDim.x)
		v = larger(fabsf(value(x, (int64_t)blockIdx.x * stride + i)), v);
	v = block_amax(v, scratch);
	if (threadIdx.x == 0)
		per_row[blockIdx.x] = v;
}

static __global__ void amax_samples(float *out, int out_stride, const float *per_row,
                                    const int32_t *starts)
{
	__shared__ float scratch[32];
	float v = 0;
	for (int i = starts[blockIdx.x] + threadIdx.x; i < starts[blockIdx.x + 1];
	     i += blockDim.x)
		v = larger(per_row[i], v);
	v = block_amax(v, scratch);
	if (threadIdx.x == 0)
		out[(int64_t)blockIdx.x * out_stride] = v;
}

void gpu_amax(float *out, int out_stride, float *per_row, const bf16_bits *x, int stride,
              int rows, int width, const int32_t *starts, int samples, gpu_stream stream)
{
	if (!rows)
		return;
	amax_rows<<<rows, THREADS, 0, queue(stream)>>>(per_row, x, stride, width);
	amax_samples<<<samples, THREADS, 0, queue(stream)>>>(out, out_stride, per_row, starts);
}

static __global__ void amax_pieces(float *pieces, const bf16_bits *x, int64_t n)
{
	__shared__ float scratch[32];
	float v = 0;
	for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
	     i += (int64_t)gridDim.x * blockDim.x)
		v = larger(fabsf(value(x, i)), v);
	v = block_amax(v, scratch);
	if (threadIdx.x == 0)
		pieces[blockIdx.x] = v;
}

static __global__ void amax_of_pieces(float *out, const float *pieces, int count)
{
	__shared__ float scratch[32];
	float v = 0;
	for (int i = threadIdx.x; i < count; i += blockDim.x)
		v = larger(pieces[i], v);
	v = block_amax(v, scratch);
	if (threadIdx.x == 0)
		*out = v;
}

void gpu_weight_amax(float *out, float *scratch, const bf16_bits *x, int64_t n,
                     gpu_stream stream)
{
	amax_pieces<<<WEIGHT_BLOCKS, THREADS, 0, queue(stream)>>>(scratch, x, n);
	amax_of_pieces<<<1, THREADS, 0, queue(stream)>>>(out, scratch, WEIGHT_BLOCKS);
}

/* ---- fp8 ---- */

/* Nearest even and saturating, as kernels/fp8.c. */
static __device__ __forceinline__ uint8_t to_fp8(float x)
{
	return __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3);
}

static __global__ void encode_rows(uint8_t *codes, int padded, const bf16_bits *x,
                                   int stride, int width, float factor, bool divide)
{
	int64_t row = blockIdx.x;
	for (int i = threadIdx.x; i < padded; i += blockDim.x) {
		float v = i < width ? value(x, row * stride + i) : 0;
		codes[row * padded + i] = to_fp8(divide ? __fdiv_rn(v, factor) : v * factor);
	}
}

void gpu_fp8_encode(uint8_t *codes, int padded, const bf16_bits *x, int stride, int rows,
                    int width, float multiplier, gpu_stream stream)
{
	if (rows)
		encode_rows<<<rows, THREADS, 0, queue(stream)>>>(codes, padded, x, stride,
		                                                 width, multiplier, false);
}

void gpu_fp8_encode_divided(uint8_t *codes, int padded, const bf16_bits *x, int stride,
                            int rows, int width, float scale, gpu_stream stream)
{
	if (rows)
		encode_rows<<<rows, THREADS, 0, queue(stream)>>>(codes, padded, x, stride,
		                                                 width, scale, true);
}

static __global__ void decode_all(bf16_bits *out, const uint8_t *codes, int64_t n)
{
	for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
	     i += (int64_t)gridDim.x * blockDim.x) {
		__nv_fp8_e4m3 code;
		code.__x = codes[i];
		reinterpret_cast<bf16 *>(out)[i] = __float2bfloat16_rn(float(code));
	}
}

void gpu_fp8_to_bf16(bf16_bits *out, const uint8_t *codes, int64_t n, gpu_stream stream)
{
	int64_t blocks = (n + THREADS - 1) / THREADS;
	if (n)
		decode_all<<<(unsigned)(blocks < 262144 ? blocks : 262144), THREADS, 0,
		             queue(stream)>>>(out, codes, n);
}

/* ---- score ---- */

static __global__ void score_rows(double *per_row, const bf16_bits *gradient,
                                  int gradient_stride, struct difference difference,
                                  int first, int width)
{
	__shared__ double scratch[32];
	int64_t g = (int64_t)blockIdx.x * gradient_stride + first;
	int64_t d = (int64_t)blockIdx.x * difference.stride + first;
	int64_t p = (int64_t)blockIdx.x * difference.plus_stride + first;
	float few = 0; /* a thread adds some dozens; float64 is slow on consumer cards */
	for (int i = threadIdx.x; i < width; i += blockDim.x) {
		float off = difference.narrow ? value(difference.narrow, d + i)
		                              : difference.wide[d + i];
		if (difference.plus)
			off += difference.plus[p + i];
		float product = value(gradient, g + i) * off;
		few += product * product;
	}
	double sum = block_sum((double)few, scratch);
	if (threadIdx.x == 0)
		per_row[blockIdx.x] = sum;
}

static __global__ void score_samples(double *score, int score_stride, const double *per_row,
                                     const int32_t *starts)
{
	__shared__ double scratch[32];
	double sum = 0;
	for (int i = starts[blockIdx.x] + threadIdx.x; i < starts[blockIdx.x + 1];
	     i += blockDim.x)
		sum += per_row[i];
	sum = block_sum(sum, scratch);
	if (threadIdx.x == 0)
		score[(int64_t)blockIdx.x * score_stride] += sum;
}

void gpu_score(double *score, int score_stride, double *per_row, const bf16_bits *gradient,
               int gradient_stride, const struct difference *difference, int first,
               int width, int rows, const int32_t *starts, int samples, gpu_stream stream)
{
	if (!rows)
		return;
	score_rows<<<rows, THREADS, 0, queue(stream)>>>(per_row, gradient, gradient_stride,
	                                                *difference, first, width);
	score_samples<<<samples, THREADS, 0, queue(stream)>>>(score, score_stride, per_row,
	                                                      starts);
}
