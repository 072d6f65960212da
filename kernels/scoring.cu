/* Device twins of amax, fp8 and score. */
#include <cuda_runtime.h>
#include <math.h>

#include "kernels/gpu.cuh"
#include "kernels/gpu_ops.h"

enum { THREADS = 256, WEIGHT_BLOCKS = 1024, VECTOR = 8 };

static cudaStream_t queue(gpu_stream stream)
{
	return (cudaStream_t)stream;
}

/* ---- amax ---- */

template <typename T>
static __device__ __forceinline__ float amax_of(float largest, const bits16 *x)
{
	float v[VECTOR];
	load_numbers<T>(v, x);
#pragma unroll
	for (int k = 0; k < VECTOR; k++)
		largest = larger(fabsf(v[k]), largest);
	return largest;
}

template <typename T>
static __global__ void amax_rows(float *per_row, const bits16 *x, int stride, int width)
{
	__shared__ float scratch[32];
	float largest = 0;
	for (int i = threadIdx.x * VECTOR; i < width; i += blockDim.x * VECTOR)
		largest = amax_of<T>(largest, x + (int64_t)blockIdx.x * stride + i);
	largest = block_max(largest, scratch);
	if (threadIdx.x == 0)
		per_row[blockIdx.x] = largest;
}

void gpu_amax_rows(float *per_row, const bits16 *x, int stride, int width, int rows,
                   enum gpu_number number, gpu_stream stream)
{
	if (rows)
		FOR_NUMBER(number, (amax_rows<T><<<rows, THREADS, 0, queue(stream)>>>(
			                   per_row, x, stride, width)));
}

static __global__ void amax_samples(float *out, int out_stride, const float *per_row,
                                    const int32_t *starts)
{
	__shared__ float scratch[32];
	float largest = 0;
	for (int i = starts[blockIdx.x] + threadIdx.x; i < starts[blockIdx.x + 1];
	     i += blockDim.x)
		largest = larger(per_row[i], largest);
	largest = block_max(largest, scratch);
	if (threadIdx.x == 0)
		out[(int64_t)blockIdx.x * out_stride] = largest;
}

void gpu_amax_samples(float *out, int out_stride, const float *per_row,
                      const int32_t *starts, int samples, gpu_stream stream)
{
	amax_samples<<<samples, THREADS, 0, queue(stream)>>>(out, out_stride, per_row, starts);
}

/* What is left behind the last whole vector goes to the first block. */
template <typename T>
static __global__ void amax_pieces(float *pieces, const bits16 *x, int64_t n)
{
	__shared__ float scratch[32];
	float largest = 0, one[1];
	int64_t whole = n / VECTOR * VECTOR;
	for (int64_t i = (blockIdx.x * (int64_t)blockDim.x + threadIdx.x) * VECTOR; i < whole;
	     i += (int64_t)gridDim.x * blockDim.x * VECTOR)
		largest = amax_of<T>(largest, x + i);
	if (blockIdx.x == 0 && threadIdx.x < n - whole) {
		load_numbers<T>(one, x + whole + threadIdx.x);
		largest = larger(fabsf(one[0]), largest);
	}
	largest = block_max(largest, scratch);
	if (threadIdx.x == 0)
		pieces[blockIdx.x] = largest;
}

static __global__ void amax_of_pieces(float *out, const float *pieces, int count)
{
	__shared__ float scratch[32];
	float largest = 0;
	for (int i = threadIdx.x; i < count; i += blockDim.x)
		largest = larger(pieces[i], largest);
	largest = block_max(largest, scratch);
	if (threadIdx.x == 0)
		*out = largest;
}

void gpu_weight_amax(float *out, float *scratch, const bits16 *x, int64_t n,
                     enum gpu_number number, gpu_stream stream)
{
	FOR_NUMBER(number, (amax_pieces<T><<<WEIGHT_BLOCKS, THREADS, 0, queue(stream)>>>(scratch,
	                                                                                 x, n)));
	amax_of_pieces<<<1, THREADS, 0, queue(stream)>>>(out, scratch, WEIGHT_BLOCKS);
}

/* ---- fp8 ---- */

template <typename T, bool divide>
static __global__ void encode_rows(uint8_t *codes, int padded, const bits16 *x, int stride,
                                   float factor)
{
	int64_t row = blockIdx.x;
	for (int i = threadIdx.x * VECTOR; i < padded; i += blockDim.x * VECTOR) {
		float v[VECTOR] = { 0 };
		if (i < stride)
			load_numbers<T>(v, x + row * stride + i);
#pragma unroll
		for (int k = 0; k < VECTOR; k++)
			v[k] = divide ? __fdiv_rn(v[k], factor) : v[k] * factor;
		store_codes(codes + row * padded + i, v);
	}
}

void gpu_fp8_encode(uint8_t *codes, int padded, const bits16 *x, int stride, int rows,
                    float multiplier, enum gpu_number number, gpu_stream stream)
{
	if (rows)
		FOR_NUMBER(number, (encode_rows<T, false><<<rows, THREADS, 0, queue(stream)>>>(
			                   codes, padded, x, stride, multiplier)));
}

void gpu_fp8_encode_divided(uint8_t *codes, int padded, const bits16 *x, int stride,
                            int rows, float scale, enum gpu_number number,
                            gpu_stream stream)
{
	if (rows)
		FOR_NUMBER(number, (encode_rows<T, true><<<rows, THREADS, 0, queue(stream)>>>(
			                   codes, padded, x, stride, scale)));
}

template <typename T>
static __global__ void decode_all(bits16 *out, const uint8_t *codes, int64_t n)
{
	for (int64_t i = (blockIdx.x * (int64_t)blockDim.x + threadIdx.x) * VECTOR; i < n;
	     i += (int64_t)gridDim.x * blockDim.x * VECTOR) {
		uint8_t eight[VECTOR];
		float v[VECTOR];
		*reinterpret_cast<uint2 *>(eight) = *reinterpret_cast<const uint2 *>(codes + i);
#pragma unroll
		for (int k = 0; k < VECTOR; k++) {
			__nv_fp8_e4m3 code;
			code.__x = eight[k];
			v[k] = float(code);
		}
		store_numbers<T>(out + i, v);
	}
}

void gpu_fp8_decode(bits16 *out, const uint8_t *codes, int64_t n, enum gpu_number number,
                    gpu_stream stream)
{
	int64_t blocks = (n / VECTOR + THREADS - 1) / THREADS;
	if (n)
		FOR_NUMBER(number, (decode_all<T><<<(unsigned)(blocks < 262144 ? blocks : 262144),
		                                    THREADS, 0, queue(stream)>>>(out, codes, n)));
}

template <typename T>
static __global__ void round_rows(bits16 *x, int stride, int width, float scale)
{
	bits16 *row = x + (int64_t)blockIdx.x * stride;
	for (int i = threadIdx.x * VECTOR; i < width; i += blockDim.x * VECTOR) {
		float v[VECTOR];
		load_numbers<T>(v, row + i);
#pragma unroll
		for (int k = 0; k < VECTOR; k++) {
			__nv_fp8_e4m3 code;
			code.__x = to_fp8(__fdiv_rn(v[k], scale));
			v[k] = float(code) * scale;
		}
		store_numbers<T>(row + i, v);
	}
}

void gpu_fp8_round(bits16 *x, int stride, int width, int rows, float scale,
                   enum gpu_number number, gpu_stream stream)
{
	if (rows)
		FOR_NUMBER(number, (round_rows<T><<<rows, THREADS, 0, queue(stream)>>>(
			                   x, stride, width, scale)));
}

/* ---- score ---- */

struct score_parts {
	struct score_part part[MOST_SCORE_PARTS];
};

template <typename T>
static __device__ __forceinline__ float step_of();

template <>
__device__ __forceinline__ float step_of<bf16>()
{
	return 0x1p-7f;
}

template <>
__device__ __forceinline__ float step_of<__half>()
{
	return 0x1p-10f;
}

/* The variance of what rounding to 16 bits took from these numbers, evenly spread over a
 * step: step^2 / 12, where a step is 2^-7 (BF16) or 2^-10 (FP16) of the power of two below.
 * A difference from rounded numbers holds that much noise, which would make every score
 * too large. */
template <typename T, int N>
static __device__ __forceinline__ void rounding_variance(float (&v)[N], const bits16 *x)
{
	const float part = step_of<T>();
	load_numbers<T>(v, x);
#pragma unroll
	for (int k = 0; k < N; k++) {
		float step = __uint_as_float(__float_as_uint(v[k]) & 0x7F800000u) * part;
		v[k] = step * step * (1.0f / 12);
	}
}

template <typename T, int N>
static __global__ void score_rows(double *per_row, const bits16 *gradient,
                                  int gradient_stride, struct difference difference,
                                  struct score_parts parts)
{
	__shared__ double scratch[32];
	int first = parts.part[blockIdx.y].first, width = parts.part[blockIdx.y].width;
	int64_t g = (int64_t)blockIdx.x * gradient_stride + first;
	int64_t d = (int64_t)blockIdx.x * difference.stride + first;
	int64_t p = (int64_t)blockIdx.x * difference.plus_stride + first;
	float few = 0; /* a thread adds some dozens; float64 is slow on consumer cards */
	for (int i = threadIdx.x * N; i < width; i += blockDim.x * N) {
		float off[N], pull[N], plus[N] = { 0 };
		load_numbers<T>(pull, gradient + g + i);
		if (difference.narrow) {
			load_numbers<T>(off, difference.narrow + d + i);
			rounding_variance<T>(plus, difference.rounded + d + i);
#pragma unroll
			for (int k = 0; k < N; k++)
				few += pull[k] * pull[k] * (off[k] * off[k] - plus[k]);
			continue;
		}
		load_floats(off, difference.wide + d + i);
		if (difference.plus)
			load_floats(plus, difference.plus + p + i);
#pragma unroll
		for (int k = 0; k < N; k++) {
			float product = pull[k] * (off[k] + plus[k]);
			few += product * product;
		}
	}
	double sum = block_sum((double)few, scratch);
	if (threadIdx.x == 0)
		per_row[(int64_t)blockIdx.y * gridDim.x + blockIdx.x] = sum;
}

static __global__ void score_samples(double *score, int score_stride, const double *per_row,
                                     int rows, const int32_t *starts,
                                     struct score_parts parts)
{
	__shared__ double scratch[32];
	const double *mine = per_row + (int64_t)blockIdx.y * rows;
	double sum = 0;
	for (int i = starts[blockIdx.x] + threadIdx.x; i < starts[blockIdx.x + 1];
	     i += blockDim.x)
		sum += mine[i];
	sum = block_sum(sum, scratch);
	if (threadIdx.x == 0)
		score[(int64_t)blockIdx.x * score_stride + parts.part[blockIdx.y].column] +=
			sum < 0 ? 0 : sum; /* and what is no number stays so */
}

/* The largest power of two up to 8 that divides all offsets. */
static int common_vector(int gradient_stride, const struct difference *difference,
                         const struct score_parts *parts, int count)
{
	int all = gradient_stride | difference->stride | difference->plus_stride;
	for (int i = 0; i < count; i++)
		all |= parts->part[i].first | parts->part[i].width;
	return all % 8 == 0 ? 8 : all % 4 == 0 ? 4 : 1;
}

void gpu_score(double *score, int score_stride, double *per_row, const bits16 *gradient,
               int gradient_stride, const struct difference *difference,
               const struct score_part *parts, int part_count, int rows,
               const int32_t *starts, int samples, enum gpu_number number,
               gpu_stream stream)
{
	struct score_parts all = {};
	dim3 by_row((unsigned)rows, (unsigned)part_count);
	if (!rows)
		return;
	for (int i = 0; i < part_count; i++)
		all.part[i] = parts[i];
#define SCORE(N)                                                                           \
	FOR_NUMBER(number, (score_rows<T, N><<<by_row, THREADS, 0, queue(stream)>>>(           \
		                   per_row, gradient, gradient_stride, *difference, all)))
	switch (common_vector(gradient_stride, difference, &all, part_count)) {
	case 8: SCORE(8); break;
	case 4: SCORE(4); break;
	default: SCORE(1); break;
	}
#undef SCORE
	score_samples<<<dim3((unsigned)samples, (unsigned)part_count), THREADS, 0,
	                queue(stream)>>>(score, score_stride, per_row, rows, starts, all);
}
