/* Device twins of rows: embedding, gathering and spreading of rows, conversions. */
#include <cuda_runtime.h>

#include "kernels/gpu.cuh"
#include "kernels/gpu_ops.h"

enum { THREADS = 256, VECTOR = 8 };

static cudaStream_t queue(gpu_stream stream)
{
	return (cudaStream_t)stream;
}

static unsigned blocks_for(int64_t n)
{
	int64_t blocks = (n + THREADS - 1) / THREADS;
	return (unsigned)(blocks < 65535 * 8 ? blocks : 65535 * 8);
}

template <typename T>
static __global__ void embed_rows(float *x, const bits16 *embedding, const int32_t *ids,
                                  const float *features, const int32_t *source, int width)
{
	int64_t row = blockIdx.x;
	int from = source ? source[row] : -1;
	float v[VECTOR];
	for (int i = threadIdx.x * VECTOR; i < width; i += blockDim.x * VECTOR) {
		if (from >= 0)
			load_floats(v, features + (int64_t)from * width + i);
		else
			load_numbers<T>(v, embedding + (int64_t)ids[row] * width + i);
		store_floats(x + row * width + i, v);
	}
}

void gpu_embed(float *x, const bits16 *embedding, const int32_t *ids, const float *features,
               const int32_t *source, int rows, int width, enum gpu_number number,
               gpu_stream stream)
{
	if (rows)
		FOR_NUMBER(number, (embed_rows<T><<<rows, THREADS, 0, queue(stream)>>>(
			                   x, embedding, ids, features, source, width)));
}

template <typename T>
static __global__ void gather_feature_rows(bits16 *dfeatures, const float *dx,
                                           const int32_t *source, int width)
{
	int64_t row = blockIdx.x;
	int to = source[row];
	float v[VECTOR];
	if (to < 0)
		return;
	for (int i = threadIdx.x * VECTOR; i < width; i += blockDim.x * VECTOR) {
		load_floats(v, dx + row * width + i);
		store_numbers<T>(dfeatures + (int64_t)to * width + i, v);
	}
}

void gpu_gather_features(bits16 *dfeatures, const float *dx, const int32_t *source, int rows,
                         int width, enum gpu_number number, gpu_stream stream)
{
	if (rows)
		FOR_NUMBER(number, (gather_feature_rows<T><<<rows, THREADS, 0, queue(stream)>>>(
			                   dfeatures, dx, source, width)));
}

static __global__ void pick_rows(float *out, const float *x, const int32_t *index, int width)
{
	int64_t row = blockIdx.x, from = index[row];
	for (int i = threadIdx.x; i < width; i += blockDim.x)
		out[row * width + i] = x[from * width + i];
}

static __global__ void put_rows(float *dx, const float *dout, const int32_t *index,
                                int width)
{
	int64_t row = blockIdx.x, to = index[row];
	for (int i = threadIdx.x; i < width; i += blockDim.x)
		dx[to * width + i] = dout[row * width + i];
}

void gpu_pick_rows(float *out, const float *x, const int32_t *index, int count, int width,
                   gpu_stream stream)
{
	if (count)
		pick_rows<<<count, THREADS, 0, queue(stream)>>>(out, x, index, width);
}

void gpu_put_rows(float *dx, const float *dout, const int32_t *index, int count, int rows,
                  int width, gpu_stream stream)
{
	cudaMemsetAsync(dx, 0, (size_t)rows * (size_t)width * sizeof *dx, queue(stream));
	if (count)
		put_rows<<<count, THREADS, 0, queue(stream)>>>(dx, dout, index, width);
}

template <typename T>
static __global__ void narrow_all(bits16 *out, const float *x, int64_t n)
{
	float v[VECTOR];
	for (int64_t i = (blockIdx.x * (int64_t)blockDim.x + threadIdx.x) * VECTOR; i < n;
	     i += (int64_t)gridDim.x * blockDim.x * VECTOR) {
		load_floats(v, x + i);
		store_numbers<T>(out + i, v);
	}
}

void gpu_narrow(bits16 *out, const float *x, int64_t n, enum gpu_number number,
                gpu_stream stream)
{
	if (n)
		FOR_NUMBER(number, (narrow_all<T><<<blocks_for(n / VECTOR), THREADS, 0,
		                                    queue(stream)>>>(out, x, n)));
}

static __global__ void to_fp16_all(bits16 *x, int64_t n)
{
	float v[1];
	for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
	     i += (int64_t)gridDim.x * blockDim.x) {
		load_numbers<bf16>(v, x + i);
		store_numbers<__half>(x + i, v);
	}
}

void gpu_bf16_to_fp16(bits16 *x, int64_t n, gpu_stream stream)
{
	if (n)
		to_fp16_all<<<blocks_for(n), THREADS, 0, queue(stream)>>>(x, n);
}
