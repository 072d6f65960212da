/* Device twins of rmsnorm, rope, swiglu, gelu, rows, cross_entropy: one pass over memory
 * each. Blocks own rows, so nothing is summed across blocks and every run gives the same
 * bits. */
#include <cuda_runtime.h>
#include <math.h>

#include "kernels/gpu.cuh"
#include "kernels/gpu_ops.h"

enum { THREADS = 256, ROW_THREADS = 256 };

static __device__ __forceinline__ const bf16 *as_bf16(const bf16_bits *p)
{
	return reinterpret_cast<const bf16 *>(p);
}

static __device__ __forceinline__ bf16 *as_bf16(bf16_bits *p)
{
	return reinterpret_cast<bf16 *>(p);
}

static __device__ __forceinline__ float value(const bf16_bits *p, int64_t i)
{
	return __bfloat162float(as_bf16(p)[i]);
}

static __device__ __forceinline__ void store(bf16_bits *p, int64_t i, float x)
{
	as_bf16(p)[i] = __float2bfloat16_rn(x);
}

static unsigned blocks_for(int64_t n)
{
	int64_t blocks = (n + THREADS - 1) / THREADS;
	return (unsigned)(blocks < 65535 * 8 ? blocks : 65535 * 8);
}

static cudaStream_t queue(gpu_stream stream)
{
	return (cudaStream_t)stream;
}

/* ---- rmsnorm ---- */

static __global__ void rmsnorm_forward_rows(bf16_bits *out, const float *x,
                                            const bf16_bits *weight, int width, float eps)
{
	__shared__ float scratch[32];
	const float *row = x + (int64_t)blockIdx.x * width;
	bf16_bits *to = out + (int64_t)blockIdx.x * width;
	float sum = 0;
	for (int i = threadIdx.x; i < width; i += blockDim.x)
		sum += row[i] * row[i];
	float inverse = rsqrtf(block_sum(sum, scratch) / (float)width + eps);
	for (int i = threadIdx.x; i < width; i += blockDim.x)
		store(to, i, row[i] * inverse * value(weight, i));
}

void gpu_rmsnorm_forward(bf16_bits *out, const float *x, const bf16_bits *weight, int rows,
                         int width, float eps, gpu_stream stream)
{
	if (rows)
		rmsnorm_forward_rows<<<rows, ROW_THREADS, 0, queue(stream)>>>(out, x, weight,
		                                                              width, eps);
}

/* d/dx of x*r*w with r = (mean(x^2) + eps)^-1/2: r*w*dout - x*r^3/width * sum(dout*w*x). */
static __global__ void rmsnorm_backward_rows(float *dx, bf16_bits *copy, const float *dout,
                                             const float *x, const bf16_bits *weight,
                                             int width, float eps)
{
	__shared__ float scratch[32];
	int64_t base = (int64_t)blockIdx.x * width;
	float squares = 0, dot = 0;
	for (int i = threadIdx.x; i < width; i += blockDim.x) {
		float xi = x[base + i];
		squares += xi * xi;
		dot += dout[base + i] * value(weight, i) * xi;
	}
	float inverse = rsqrtf(block_sum(squares, scratch) / (float)width + eps);
	float pull = block_sum(dot, scratch) * inverse * inverse * inverse / (float)width;
	for (int i = threadIdx.x; i < width; i += blockDim.x) {
		float d = dx[base + i] + inverse * value(weight, i) * dout[base + i] -
		          x[base + i] * pull;
		dx[base + i] = d;
		if (copy)
			store(copy, base + i, d);
	}
}

void gpu_rmsnorm_backward(float *dx, bf16_bits *copy, const float *dout, const float *x,
                          const bf16_bits *weight, int rows, int width, float eps,
                          gpu_stream stream)
{
	if (rows)
		rmsnorm_backward_rows<<<rows, ROW_THREADS, 0, queue(stream)>>>(
			dx, copy, dout, x, weight, width, eps);
}

/* ---- rope ---- */

/* The pair (i, i + head_dim/2) turns by the row's i-th angle; backward turns back. */
static __global__ void rope_rows(bf16_bits *x, int stride, const float *cosine,
                                 const float *sine, int heads, int half, float direction)
{
	int64_t row = blockIdx.x;
	for (int at = threadIdx.x; at < heads * half; at += blockDim.x) {
		int head = at / half, i = at % half;
		int64_t first = row * stride + (int64_t)head * 2 * half + i;
		float c = cosine[row * half + i], s = direction * sine[row * half + i];
		float left = value(x, first), right = value(x, first + half);
		store(x, first, left * c - right * s);
		store(x, first + half, right * c + left * s);
	}
}

void gpu_rope(bf16_bits *x, int stride, const float *cosine, const float *sine, int rows,
              int heads, int head_dim, int backward, gpu_stream stream)
{
	if (rows)
		rope_rows<<<rows, THREADS, 0, queue(stream)>>>(x, stride, cosine, sine, heads,
		                                               head_dim / 2,
		                                               backward ? -1.0f : 1.0f);
}

static __global__ void rope_copy_rows(bf16_bits *out, const bf16_bits *x, int width,
                                      const float *cosine, const float *sine, int heads,
                                      int half)
{
	int64_t row = blockIdx.x;
	for (int at = threadIdx.x; at < heads * half; at += blockDim.x) {
		int i = at % half;
		int64_t first = row * width + (int64_t)(at / half) * 2 * half + i;
		float c = cosine[row * half + i], s = sine[row * half + i];
		float left = value(x, first), right = value(x, first + half);
		store(out, first, left * c - right * s);
		store(out, first + half, right * c + left * s);
	}
	for (int i = heads * 2 * half + threadIdx.x; i < width; i += blockDim.x)
		out[row * width + i] = x[row * width + i];
}

void gpu_rope_copy(bf16_bits *out, const bf16_bits *x, int width, const float *cosine,
                   const float *sine, int rows, int heads, int head_dim, gpu_stream stream)
{
	if (rows)
		rope_copy_rows<<<rows, THREADS, 0, queue(stream)>>>(out, x, width, cosine, sine,
		                                                    heads, head_dim / 2);
}

/* ---- swiglu ---- */

static __global__ void swiglu_forward_rows(bf16_bits *out, int padded,
                                           const bf16_bits *gate_up, int width)
{
	int64_t row = blockIdx.x;
	for (int i = threadIdx.x + blockIdx.y * blockDim.x; i < padded;
	     i += blockDim.x * gridDim.y) {
		if (i >= width) {
			store(out, row * padded + i, 0);
			continue;
		}
		float gate = value(gate_up, row * 2 * width + i);
		float up = value(gate_up, row * 2 * width + width + i);
		store(out, row * padded + i, gate / (1.0f + __expf(-gate)) * up);
	}
}

void gpu_swiglu_forward(bf16_bits *out, int padded, const bf16_bits *gate_up, int rows,
                        int width, gpu_stream stream)
{
	dim3 grid((unsigned)rows, (unsigned)((padded + 4 * THREADS - 1) / (4 * THREADS)));
	if (rows)
		swiglu_forward_rows<<<grid, THREADS, 0, queue(stream)>>>(out, padded, gate_up,
		                                                         width);
}

static __global__ void swiglu_backward_rows(bf16_bits *dgate_up, const bf16_bits *dout,
                                            int padded, const bf16_bits *gate_up, int width)
{
	int64_t row = blockIdx.x;
	for (int i = threadIdx.x + blockIdx.y * blockDim.x; i < width;
	     i += blockDim.x * gridDim.y) {
		int64_t g = row * 2 * width + i, u = g + width;
		float gate = value(gate_up, g), up = value(gate_up, u);
		float d = value(dout, row * padded + i);
		float sigmoid = 1.0f / (1.0f + __expf(-gate)), silu = gate * sigmoid;
		store(dgate_up, g, d * up * (sigmoid + silu * (1.0f - sigmoid)));
		store(dgate_up, u, d * silu);
	}
}

void gpu_swiglu_backward(bf16_bits *dgate_up, const bf16_bits *dout, int padded,
                         const bf16_bits *gate_up, int rows, int width, gpu_stream stream)
{
	dim3 grid((unsigned)rows, (unsigned)((width + 4 * THREADS - 1) / (4 * THREADS)));
	if (rows)
		swiglu_backward_rows<<<grid, THREADS, 0, queue(stream)>>>(dgate_up, dout, padded,
		                                                          gate_up, width);
}

/* ---- gelu (exact, by erf) ---- */

static __global__ void gelu_forward_all(bf16_bits *out, const bf16_bits *x, int64_t n)
{
	for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
	     i += (int64_t)gridDim.x * blockDim.x) {
		float v = value(x, i);
		store(out, i, 0.5f * v * (1.0f + erff(v * 0.70710678f)));
	}
}

static __global__ void gelu_backward_all(bf16_bits *dx, const bf16_bits *dout,
                                         const bf16_bits *x, int64_t n)
{
	for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
	     i += (int64_t)gridDim.x * blockDim.x) {
		float v = value(x, i);
		float cdf = 0.5f * (1.0f + erff(v * 0.70710678f));
		float density = 0.39894228f * expf(-0.5f * v * v);
		store(dx, i, value(dout, i) * (cdf + v * density));
	}
}

void gpu_gelu_forward(bf16_bits *out, const bf16_bits *x, int64_t n, gpu_stream stream)
{
	if (n)
		gelu_forward_all<<<blocks_for(n), THREADS, 0, queue(stream)>>>(out, x, n);
}

void gpu_gelu_backward(bf16_bits *dx, const bf16_bits *dout, const bf16_bits *x, int64_t n,
                       gpu_stream stream)
{
	if (n)
		gelu_backward_all<<<blocks_for(n), THREADS, 0, queue(stream)>>>(dx, dout, x, n);
}

/* ---- rows ---- */

static __global__ void embed_rows(float *x, const bf16_bits *embedding, const int32_t *ids,
                                  const float *features, const int32_t *source, int width)
{
	int64_t row = blockIdx.x;
	int from = source ? source[row] : -1;
	for (int i = threadIdx.x; i < width; i += blockDim.x)
		x[row * width + i] = from >= 0 ? features[(int64_t)from * width + i]
		                               : value(embedding, (int64_t)ids[row] * width + i);
}

void gpu_embed(float *x, const bf16_bits *embedding, const int32_t *ids,
               const float *features, const int32_t *source, int rows, int width,
               gpu_stream stream)
{
	if (rows)
		embed_rows<<<rows, ROW_THREADS, 0, queue(stream)>>>(x, embedding, ids, features,
		                                                    source, width);
}

static __global__ void gather_feature_rows(bf16_bits *dfeatures, const float *dx,
                                           const int32_t *source, int width)
{
	int64_t row = blockIdx.x;
	int to = source[row];
	if (to < 0)
		return;
	for (int i = threadIdx.x; i < width; i += blockDim.x)
		store(dfeatures, (int64_t)to * width + i, dx[row * width + i]);
}

void gpu_gather_features(bf16_bits *dfeatures, const float *dx, const int32_t *source,
                         int rows, int width, gpu_stream stream)
{
	if (rows)
		gather_feature_rows<<<rows, ROW_THREADS, 0, queue(stream)>>>(dfeatures, dx, source,
		                                                             width);
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
		pick_rows<<<count, ROW_THREADS, 0, queue(stream)>>>(out, x, index, width);
}

void gpu_put_rows(float *dx, const float *dout, const int32_t *index, int count, int rows,
                  int width, gpu_stream stream)
{
	cudaMemsetAsync(dx, 0, (size_t)rows * (size_t)width * sizeof *dx, queue(stream));
	if (count)
		put_rows<<<count, ROW_THREADS, 0, queue(stream)>>>(dx, dout, index, width);
}

static __global__ void to_bf16_all(bf16_bits *out, const float *x, int64_t n)
{
	for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n;
	     i += (int64_t)gridDim.x * blockDim.x)
		store(out, i, x[i]);
}

void gpu_to_bf16(bf16_bits *out, const float *x, int64_t n, gpu_stream stream)
{
	if (n)
		to_bf16_all<<<blocks_for(n), THREADS, 0, queue(stream)>>>(out, x, n);
}

/* ---- cross entropy ---- */

static __global__ void cross_entropy_rows(float *losses, bf16_bits *dlogits,
                                          const float *logits, const int32_t *targets,
                                          const float *scale, int vocab)
{
	__shared__ float scratch[32];
	int64_t base = (int64_t)blockIdx.x * vocab;
	float largest = -INFINITY, sum = 0;
	for (int i = threadIdx.x; i < vocab; i += blockDim.x)
		largest = fmaxf(largest, logits[base + i]);
	largest = block_max(largest, scratch);
	for (int i = threadIdx.x; i < vocab; i += blockDim.x)
		sum += expf(logits[base + i] - largest);
	sum = block_sum(sum, scratch);
	int target = targets[blockIdx.x];
	float by = scale[blockIdx.x];
	for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
		float p = expf(logits[base + i] - largest) / sum;
		store(dlogits, base + i, by * (p - (i == target ? 1.0f : 0.0f)));
	}
	if (threadIdx.x == 0)
		losses[blockIdx.x] = largest + logf(sum) - logits[base + target];
}

void gpu_cross_entropy(float *losses, bf16_bits *dlogits, const float *logits,
                       const int32_t *targets, const float *scale, int rows, int vocab,
                       gpu_stream stream)
{
	if (rows)
		cross_entropy_rows<<<rows, 1024, 0, queue(stream)>>>(losses, dlogits, logits,
		                                                     targets, scale, vocab);
}
