/* Device twins of cross_entropy and divergence: a block reads a row of logits, once for
 * its largest and its sum of exponentials together (running, as attention does), and once
 * more for what is made of them. */
#include <cuda_runtime.h>
#include <math.h>

#include "kernels/gpu.cuh"
#include "kernels/gpu_ops.h"

enum { THREADS = 512, VECTOR = 4 };

static cudaStream_t queue(gpu_stream stream)
{
	return (cudaStream_t)stream;
}

/* What a thread has seen of a row. */
struct running {
	float largest, sum;
	int place;
};

template <int N>
static __device__ __forceinline__ void see(struct running &r, const float (&x)[N], int at)
{
	float largest = r.largest;
	int place = r.place;
#pragma unroll
	for (int k = 0; k < N; k++)
		if (x[k] > largest || x[k] != x[k]) {
			largest = x[k];
			place = at + k;
		}
	float sum = r.largest == -INFINITY ? 0 : r.sum * __expf(r.largest - largest);
#pragma unroll
	for (int k = 0; k < N; k++)
		sum += __expf(x[k] - largest);
	r.largest = largest;
	r.place = place;
	r.sum = sum;
}

/* vocab: a multiple of N. Every thread gets the row's summary. */
template <int N>
static __device__ struct row_summary read_row(const float *logits, int vocab, int target,
                                              float *scratch)
{
	struct running r = { -INFINITY, 0, vocab };
	for (int i = threadIdx.x * N; i < vocab; i += blockDim.x * N) {
		float x[N];
		load_floats(x, logits + i);
		see(r, x, i);
	}
	struct row_summary row;
	row.largest = block_max(r.largest, scratch);
	float part = r.largest == -INFINITY ? 0 : r.sum * __expf(r.largest - row.largest);
	row.log_sum = logf(block_sum(part, scratch));
	/* The least index among the largest; below 2^24, so exact as a float. */
	row.place = -(int)block_max(r.largest == row.largest ? -(float)r.place : -INFINITY,
	                            scratch);
	row.loss = target < 0 ? 0 : row.largest + row.log_sum - logits[target];
	return row;
}

#define FOR_VOCAB(vocab, call)                                                             \
	do {                                                                                   \
		if ((vocab) % VECTOR == 0) {                                                       \
			enum { N = VECTOR };                                                           \
			call;                                                                          \
		} else {                                                                           \
			enum { N = 1 };                                                                \
			call;                                                                          \
		}                                                                                  \
	} while (0)

/* ---- cross entropy ---- */

template <typename T, int N>
static __global__ void cross_entropy_rows(float *losses, bits16 *dlogits,
                                          const float *logits, const int32_t *targets,
                                          const float *scale, int vocab)
{
	__shared__ float scratch[32];
	int64_t base = (int64_t)blockIdx.x * vocab;
	int target = targets[blockIdx.x];
	struct row_summary row = read_row<N>(logits + base, vocab, target, scratch);
	if (threadIdx.x == 0)
		losses[blockIdx.x] = row.loss;
	float by = scale[blockIdx.x], shift = row.largest + row.log_sum;
	for (int i = threadIdx.x * N; i < vocab; i += blockDim.x * N) {
		float x[N];
		load_floats(x, logits + base + i);
#pragma unroll
		for (int k = 0; k < N; k++)
			x[k] = by * (__expf(x[k] - shift) - (i + k == target ? 1.0f : 0.0f));
		store_numbers<T>(dlogits + base + i, x);
	}
}

void gpu_cross_entropy(float *losses, bits16 *dlogits, const float *logits,
                       const int32_t *targets, const float *scale, int rows, int vocab,
                       enum gpu_number number, gpu_stream stream)
{
	if (rows)
		FOR_NUMBER(number, FOR_VOCAB(vocab, (cross_entropy_rows<T, N>
		                                     <<<rows, THREADS, 0, queue(stream)>>>(
			                                     losses, dlogits, logits, targets, scale,
			                                     vocab))));
}

/* ---- divergence ---- */

template <int N>
static __global__ void summarise_rows(struct row_summary *out, const float *logits,
                                      const int32_t *targets, int vocab)
{
	__shared__ float scratch[32];
	struct row_summary row = read_row<N>(logits + (int64_t)blockIdx.x * vocab, vocab,
	                                     targets[blockIdx.x], scratch);
	if (threadIdx.x == 0)
		out[blockIdx.x] = row;
}

void gpu_summarise_rows(struct row_summary *out, const float *logits, const int32_t *targets,
                        int rows, int vocab, gpu_stream stream)
{
	if (rows)
		FOR_VOCAB(vocab, (summarise_rows<N><<<rows, THREADS, 0, queue(stream)>>>(
			                 out, logits, targets, vocab)));
}

/* f(d) = exp(-d) - 1 + d >= 0: the terms of kernels/divergence.c, which do not cancel. */
static __device__ __forceinline__ float term(float d)
{
	if (fabsf(d) > 0.25f)
		return expm1f(-d) + d;
	float tail = 1.0f / 120 - d * (1.0f / 720 - d * (1.0f / 5040));
	return d * d * (0.5f - d * (1.0f / 6 - d * (1.0f / 24 - d * tail)));
}

template <int N>
static __global__ void divergence_rows(struct row_divergence *out,
                                       const struct row_summary *summary, const float *base,
                                       const float *other, const int32_t *targets,
                                       int vocab)
{
	__shared__ double scratch[32];
	const float *x = base + (int64_t)blockIdx.x * vocab;
	const float *y = other + (int64_t)blockIdx.x * vocab;
	struct row_summary p = summary[blockIdx.x];
	struct row_summary q = read_row<N>(y, vocab, targets[blockIdx.x], (float *)scratch);
	float shift = (q.largest - p.largest) + (q.log_sum - p.log_sum);
	float down = p.largest + p.log_sum;
	float kl = 0, squares = 0; /* a thread adds some hundreds; float64 is slow on small cards */
	for (int i = threadIdx.x * N; i < vocab; i += blockDim.x * N) {
		float a[N], b[N];
		load_floats(a, x + i);
		load_floats(b, y + i);
#pragma unroll
		for (int k = 0; k < N; k++) {
			float off = a[k] - b[k];
			kl += __expf(a[k] - down) * term(off + shift);
			squares += off * off;
		}
	}
	double kl_sum = block_sum((double)kl, scratch);
	double squared_sum = block_sum((double)squares, scratch);
	if (threadIdx.x == 0) {
		struct row_divergence row = { kl_sum, (float)(squared_sum / vocab), q.loss,
			p.place == q.place, 0 };
		out[blockIdx.x] = row;
	}
}

void gpu_divergence_of_rows(struct row_divergence *out, const struct row_summary *summary,
                            const float *base, const float *other, const int32_t *targets,
                            int rows, int vocab, gpu_stream stream)
{
	if (rows)
		FOR_VOCAB(vocab, (divergence_rows<N><<<rows, THREADS, 0, queue(stream)>>>(
			                 out, summary, base, other, targets, vocab)));
}
