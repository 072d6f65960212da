/* Device twins of rmsnorm, rope, swiglu, gelu: one pass over memory each, eight numbers a
 * thread at a time. Blocks own rows, so nothing is summed across blocks and every run
 * gives the same bits. */
#include <cuda_runtime.h>
#include <math.h>

#include "kernels/gpu.cuh"
#include "kernels/gpu_ops.h"

enum { THREADS = 256, VECTOR = 8 };

static unsigned blocks_for(int64_t n)
{
	int64_t blocks = (n + THREADS - 1) / THREADS;
	return (unsigned)(blocks < 65535 * 8 ? blocks : 65535 * 8);
}

static cudaStream_t queue(gpu_stream stream)
{
	return (cudaStream_t)stream;
}

template <int N>
static __device__ __forceinline__ float largest_of(float largest, const float (&v)[N])
{
#pragma unroll
	for (int i = 0; i < N; i++)
		largest = larger(fabsf(v[i]), largest);
	return largest;
}

template <typename T, int N>
static __device__ __forceinline__ void round_numbers(float (&v)[N])
{
#pragma unroll
	for (int i = 0; i < N; i++)
		v[i] = unpack<T>(pack<T>(v[i], 0)).x;
}

/* Columns [i, i + N) of the row: to `out` and to what is wanted besides. The extras are of
 * the rounded numbers, which is what a product would read. */
template <typename T, int N>
static __device__ __forceinline__ void write_row(bits16 *out, const struct row_extras &extras,
                                                 int64_t row, int i, float (&v)[N],
                                                 float *largest)
{
	round_numbers<T>(v);
	if (out)
		store_numbers<T>(out, v);
	if (extras.amax)
		*largest = largest_of(*largest, v);
	if (extras.codes) {
#pragma unroll
		for (int k = 0; k < N; k++)
			v[k] *= extras.multiplier;
		store_codes(extras.codes + row * extras.padded + i, v);
	}
}

/* The row's largest magnitude, and zeros behind its codes. */
static __device__ void finish_row(const struct row_extras &extras, int64_t row, int width,
                                  float largest, float *scratch)
{
	if (extras.codes)
		for (int i = width + threadIdx.x; i < extras.padded; i += blockDim.x)
			extras.codes[row * extras.padded + i] = 0;
	if (!extras.amax)
		return;
	largest = block_max(largest, scratch);
	if (threadIdx.x == 0)
		extras.amax[row] = largest;
}

static struct row_extras extras_of(const struct row_extras *extras)
{
	struct row_extras none = {};
	return extras ? *extras : none;
}

/* ---- rmsnorm ---- */

template <typename T>
static __global__ void rmsnorm_forward_rows(bits16 *out, struct row_extras extras,
                                            const float *x, const bits16 *weight, int width,
                                            float eps)
{
	__shared__ float scratch[32];
	int64_t row = blockIdx.x, base = row * width;
	float sum = 0, largest = 0, v[VECTOR], w[VECTOR];
	for (int i = threadIdx.x * VECTOR; i < width; i += blockDim.x * VECTOR) {
		load_floats(v, x + base + i);
#pragma unroll
		for (int k = 0; k < VECTOR; k++)
			sum += v[k] * v[k];
	}
	float inverse = rsqrtf(block_sum(sum, scratch) / (float)width + eps);
	for (int i = threadIdx.x * VECTOR; i < width; i += blockDim.x * VECTOR) {
		load_floats(v, x + base + i);
		load_numbers<T>(w, weight + i);
#pragma unroll
		for (int k = 0; k < VECTOR; k++)
			v[k] *= inverse * w[k];
		write_row<T>(out ? out + base + i : NULL, extras, row, i, v, &largest);
	}
	finish_row(extras, row, width, largest, scratch);
}

/* Threads for rows of `width` numbers: as many as have work. */
static unsigned row_threads(int width)
{
	int threads = (width / VECTOR + WARP - 1) / WARP * WARP;
	return (unsigned)(threads < WARP ? WARP : threads > THREADS ? THREADS : threads);
}

void gpu_rmsnorm_forward(bits16 *out, const struct row_extras *extras, const float *x,
                         const bits16 *weight, int rows, int width, float eps,
                         enum gpu_number number, gpu_stream stream)
{
	struct row_extras more = extras_of(extras);
	if (rows)
		FOR_NUMBER(number, (rmsnorm_forward_rows<T>
		                    <<<rows, row_threads(width), 0, queue(stream)>>>(
			                    out, more, x, weight, width, eps)));
}

/* d/dx of x*r*w with r = (mean(x^2) + eps)^-1/2: r*w*dout - x*r^3/width * sum(dout*w*x). */
template <typename T>
static __global__ void rmsnorm_backward_rows(float *dx, bits16 *copy, const bits16 *dout,
                                             const float *x, const bits16 *weight, int width,
                                             float eps)
{
	__shared__ float scratch[32];
	int64_t base = (int64_t)blockIdx.x * width;
	float squares = 0, dot = 0, v[VECTOR], w[VECTOR], d[VECTOR], to[VECTOR];
	for (int i = threadIdx.x * VECTOR; i < width; i += blockDim.x * VECTOR) {
		load_floats(v, x + base + i);
		load_numbers<T>(d, dout + base + i);
		load_numbers<T>(w, weight + i);
#pragma unroll
		for (int k = 0; k < VECTOR; k++) {
			squares += v[k] * v[k];
			dot += d[k] * w[k] * v[k];
		}
	}
	float inverse = rsqrtf(block_sum(squares, scratch) / (float)width + eps);
	float pull = block_sum(dot, scratch) * inverse * inverse * inverse / (float)width;
	for (int i = threadIdx.x * VECTOR; i < width; i += blockDim.x * VECTOR) {
		load_floats(v, x + base + i);
		load_numbers<T>(d, dout + base + i);
		load_numbers<T>(w, weight + i);
		load_floats(to, dx + base + i);
#pragma unroll
		for (int k = 0; k < VECTOR; k++)
			to[k] += inverse * w[k] * d[k] - v[k] * pull;
		store_floats(dx + base + i, to);
		if (copy)
			store_numbers<T>(copy + base + i, to);
	}
}

void gpu_rmsnorm_backward(float *dx, bits16 *copy, const bits16 *dout, const float *x,
                          const bits16 *weight, int rows, int width, float eps,
                          enum gpu_number number, gpu_stream stream)
{
	if (rows)
		FOR_NUMBER(number, (rmsnorm_backward_rows<T>
		                    <<<rows, row_threads(width), 0, queue(stream)>>>(
			                    dx, copy, dout, x, weight, width, eps)));
}

/* ---- rope ---- */

/* The pair (i, i + head_dim/2) turns by the row's i-th angle; direction -1 turns back. */
template <typename T>
static __device__ __forceinline__ void turn_row(bits16 *to, const bits16 *from,
                                                const float *cosine, const float *sine,
                                                int heads, int half, float direction)
{
	int pieces = half / VECTOR;
	for (int at = threadIdx.x; at < heads * pieces; at += blockDim.x) {
		int i = at % pieces * VECTOR, first = at / pieces * 2 * half + i;
		float c[VECTOR], s[VECTOR], left[VECTOR], right[VECTOR], x[VECTOR], y[VECTOR];
		load_floats(c, cosine + i);
		load_floats(s, sine + i);
		load_numbers<T>(left, from + first);
		load_numbers<T>(right, from + first + half);
#pragma unroll
		for (int k = 0; k < VECTOR; k++) {
			x[k] = left[k] * c[k] - right[k] * direction * s[k];
			y[k] = right[k] * c[k] + left[k] * direction * s[k];
		}
		store_numbers<T>(to + first, x);
		store_numbers<T>(to + first + half, y);
	}
}

template <typename T>
static __global__ void rope_backward_rows(bits16 *x, int stride, const float *cosine,
                                          const float *sine, int heads, int half)
{
	int64_t row = blockIdx.x;
	turn_row<T>(x + row * stride, x + row * stride, cosine + row * half,
	            sine + row * half, heads, half, -1.0f);
}

void gpu_rope_backward(bits16 *x, int stride, const float *cosine, const float *sine,
                       int rows, int heads, int head_dim, enum gpu_number number,
                       gpu_stream stream)
{
	unsigned threads = row_threads(heads * head_dim / 2);
	if (rows)
		FOR_NUMBER(number, (rope_backward_rows<T><<<rows, threads, 0, queue(stream)>>>(
			                   x, stride, cosine, sine, heads, head_dim / 2)));
}

template <typename T>
static __global__ void rope_forward_rows(bits16 *out, const bits16 *x, int width,
                                         const float *cosine, const float *sine, int heads,
                                         int half)
{
	int64_t row = blockIdx.x;
	bits16 *to = out + row * width;
	const bits16 *from = x + row * width;
	turn_row<T>(to, from, cosine + row * half, sine + row * half, heads, half, 1.0f);
	for (int i = heads * 2 * half + threadIdx.x * VECTOR; i < width; i += blockDim.x * VECTOR)
		*reinterpret_cast<uint4 *>(to + i) = *reinterpret_cast<const uint4 *>(from + i);
}

void gpu_rope_forward(bits16 *out, const bits16 *x, int width, const float *cosine,
                      const float *sine, int rows, int heads, int head_dim,
                      enum gpu_number number, gpu_stream stream)
{
	unsigned threads = row_threads(heads * head_dim / 2);
	if (rows)
		FOR_NUMBER(number, (rope_forward_rows<T><<<rows, threads, 0, queue(stream)>>>(
			                   out, x, width, cosine, sine, heads, head_dim / 2)));
}

/* ---- swiglu ---- */

template <typename T, int N>
static __global__ void swiglu_forward_rows(bits16 *out, int padded, struct row_extras extras,
                                           const bits16 *gate_up, int width)
{
	__shared__ float scratch[32];
	int64_t row = blockIdx.x;
	const bits16 *from = gate_up + row * 2 * width;
	float largest = 0, gate[N], up[N];
	for (int i = threadIdx.x * N; i < width; i += blockDim.x * N) {
		load_numbers<T>(gate, from + i);
		load_numbers<T>(up, from + width + i);
#pragma unroll
		for (int k = 0; k < N; k++)
			gate[k] = gate[k] / (1.0f + __expf(-gate[k])) * up[k];
		write_row<T>(out ? out + row * padded + i : NULL, extras, row, i, gate, &largest);
	}
	for (int i = width + threadIdx.x; out && i < padded; i += blockDim.x)
		out[row * padded + i] = 0;
	finish_row(extras, row, width, largest, scratch);
}

template <typename T, int N>
static __global__ void swiglu_backward_rows(bits16 *dgate_up, const bits16 *dout, int padded,
                                            const bits16 *gate_up, int width)
{
	int64_t row = blockIdx.x;
	const bits16 *from = gate_up + row * 2 * width;
	bits16 *to = dgate_up + row * 2 * width;
	float gate[N], up[N], d[N];
	for (int i = threadIdx.x * N; i < width; i += blockDim.x * N) {
		load_numbers<T>(gate, from + i);
		load_numbers<T>(up, from + width + i);
		load_numbers<T>(d, dout + row * padded + i);
#pragma unroll
		for (int k = 0; k < N; k++) {
			float sigmoid = 1.0f / (1.0f + __expf(-gate[k])), silu = gate[k] * sigmoid;
			gate[k] = d[k] * up[k] * (sigmoid + silu * (1.0f - sigmoid));
			up[k] = d[k] * silu;
		}
		store_numbers<T>(to + i, gate);
		store_numbers<T>(to + width + i, up);
	}
}

/* As many numbers at once as the width's alignment allows. */
#define FOR_WIDTH(width, call)                                                             \
	do {                                                                                   \
		if ((width) % 8 == 0) {                                                            \
			enum { N = 8 };                                                                \
			call;                                                                          \
		} else if ((width) % 4 == 0) {                                                     \
			enum { N = 4 };                                                                \
			call;                                                                          \
		} else {                                                                           \
			enum { N = 1 };                                                                \
			call;                                                                          \
		}                                                                                  \
	} while (0)

void gpu_swiglu_forward(bits16 *out, int padded, const struct row_extras *extras,
                        const bits16 *gate_up, int rows, int width, enum gpu_number number,
                        gpu_stream stream)
{
	struct row_extras more = extras_of(extras);
	if (rows)
		FOR_NUMBER(number, FOR_WIDTH(width, (swiglu_forward_rows<T, N>
		                                     <<<rows, THREADS, 0, queue(stream)>>>(
			                                     out, padded, more, gate_up, width))));
}

void gpu_swiglu_backward(bits16 *dgate_up, const bits16 *dout, int padded,
                         const bits16 *gate_up, int rows, int width,
                         enum gpu_number number, gpu_stream stream)
{
	if (rows)
		FOR_NUMBER(number, FOR_WIDTH(width, (swiglu_backward_rows<T, N>
		                                     <<<rows, THREADS, 0, queue(stream)>>>(
			                                     dgate_up, dout, padded, gate_up, width))));
}

/* ---- gelu (exact, by erf) ---- */

template <typename T>
static __global__ void gelu_forward_all(bits16 *out, const bits16 *x, int64_t n)
{
	float v[VECTOR];
	for (int64_t i = (blockIdx.x * (int64_t)blockDim.x + threadIdx.x) * VECTOR; i < n;
	     i += (int64_t)gridDim.x * blockDim.x * VECTOR) {
		load_numbers<T>(v, x + i);
#pragma unroll
		for (int k = 0; k < VECTOR; k++)
			v[k] = 0.5f * v[k] * (1.0f + erff(v[k] * 0.70710678f));
		store_numbers<T>(out + i, v);
	}
}

template <typename T>
static __global__ void gelu_backward_all(bits16 *dx, const bits16 *dout, const bits16 *x,
                                         int64_t n)
{
	float v[VECTOR], d[VECTOR];
	for (int64_t i = (blockIdx.x * (int64_t)blockDim.x + threadIdx.x) * VECTOR; i < n;
	     i += (int64_t)gridDim.x * blockDim.x * VECTOR) {
		load_numbers<T>(v, x + i);
		load_numbers<T>(d, dout + i);
#pragma unroll
		for (int k = 0; k < VECTOR; k++) {
			float cdf = 0.5f * (1.0f + erff(v[k] * 0.70710678f));
			float density = 0.39894228f * expf(-0.5f * v[k] * v[k]);
			d[k] *= cdf + v[k] * density;
		}
		store_numbers<T>(dx + i, d);
	}
}

void gpu_gelu_forward(bits16 *out, const bits16 *x, int64_t n, enum gpu_number number,
                      gpu_stream stream)
{
	if (n)
		FOR_NUMBER(number, (gelu_forward_all<T><<<blocks_for(n / VECTOR), THREADS, 0,
		                                          queue(stream)>>>(out, x, n)));
}

void gpu_gelu_backward(bits16 *dx, const bits16 *dout, const bits16 *x, int64_t n,
                       enum gpu_number number, gpu_stream stream)
{
	if (n)
		FOR_NUMBER(number, (gelu_backward_all<T><<<blocks_for(n / VECTOR), THREADS, 0,
		                                           queue(stream)>>>(dx, dout, x, n)));
}
