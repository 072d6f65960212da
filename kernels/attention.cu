/* Device twin of attention: no scores are kept, rows are processed in tiles of 64 with
 * running maxima and sums (Dao et al., FlashAttention-2, arXiv 2307.08691). Segments are
 * given as tiles, so windows of the vision tower and whole samples of the language model
 * are one launch each. The backward pass computes dq by one kernel and dk, dv by another,
 * so that nothing is added atomically; where query heads share a key and value head, each
 * writes a part of its own, and the parts are added in their order. */
#include <cuda_runtime.h>
#include <math.h>

#include "kernels/gpu.cuh"
#include "kernels/gpu_ops.h"

/* Rows of a tile, rows of the tiles it runs over, and the padding that keeps rows of
 * shared memory on different banks. */
enum { TILE = 64, STEP = 32, PAD = 8, WARPS = 4, THREADS = WARPS * WARP };

struct operands {
	const bits16 *q, *k, *v, *out, *dout;
	const float *lse, *delta;
	bits16 *to, *dq, *dk, *dv;
	float *part_k, *part_v; /* [rows][heads][head_dim], where heads share keys */
	float *lse_to;
	int heads, kv_heads, stride;
	int causal;
	float scale;
};

/* rows [first, first + count) of a head into shared memory, zeros from `end` on. */
template <int HD>
static __device__ void load_tile(bits16 *tile, const bits16 *from, int64_t stride, int first,
                                 int count, int end)
{
	enum { PIECES = HD / 8 };
	for (int at = threadIdx.x; at < count * PIECES; at += THREADS) {
		int row = at / PIECES, piece = at % PIECES;
		int4 data = make_int4(0, 0, 0, 0);
		if (first + row < end)
			data = *reinterpret_cast<const int4 *>(from + (first + row) * stride +
			                                       piece * 8);
		*reinterpret_cast<int4 *>(tile + row * (HD + PAD) + piece * 8) = data;
	}
}

/* acc[16 rows][8 * N] = a_tile rows * b_tile rows^T over HD. */
template <typename T, int HD, int N>
static __device__ __forceinline__ void multiply_tiles(float (*acc)[4], const bits16 *a_tile,
                                                      const bits16 *b_tile)
{
	for (int n = 0; n < N; n++)
		for (int e = 0; e < 4; e++)
			acc[n][e] = 0;
#pragma unroll
	for (int k = 0; k < HD; k += 16) {
		uint32_t a[4];
		load_a(a, a_tile, HD + PAD, k);
#pragma unroll
		for (int n = 0; n < N; n += 2) {
			uint32_t b[4];
			load_two_b(b, b_tile + n * 8 * (HD + PAD), HD + PAD, k);
			mma_16x8x16<T>(acc[n], a, b);
			mma_16x8x16<T>(acc[n + 1], a, b + 2);
		}
	}
}

/* acc[16][HD] += p[16][STEP] * tile[STEP][HD] */
template <typename T, int HD>
static __device__ __forceinline__ void accumulate_rows(float (*acc)[4], float (*p)[4],
                                                       const bits16 *tile)
{
#pragma unroll
	for (int k = 0; k < STEP / 16; k++) {
		uint32_t a[4];
		accumulators_as_a<T>(a, p[2 * k], p[2 * k + 1]);
#pragma unroll
		for (int n = 0; n < HD / 8; n += 2) {
			uint32_t b[4];
			load_two_b_rows(b, tile + k * 16 * (HD + PAD), HD + PAD, n * 8);
			mma_16x8x16<T>(acc[n], a, b);
			mma_16x8x16<T>(acc[n + 1], a, b + 2);
		}
	}
}

/* A warp's 16 rows of an accumulator to global memory in BF16. */
template <typename T, int HD>
static __device__ void store_rows(bits16 *to, int64_t stride, float (*acc)[4], int row, int end,
                                  const float factor[2])
{
	int g = (threadIdx.x % WARP) / 4, t = threadIdx.x % 4;
#pragma unroll
	for (int n = 0; n < HD / 8; n++)
		for (int half = 0; half < 2; half++) {
			int r = row + g + 8 * half;
			if (r < end)
				*reinterpret_cast<uint32_t *>(to + r * stride + n * 8 + 2 * t) =
					pack<T>(acc[n][2 * half] * factor[half],
					          acc[n][2 * half + 1] * factor[half]);
		}
}

/* Sum and maximum over the four lanes that share a row. */
static __device__ __forceinline__ float quad_sum(float v)
{
	v += __shfl_xor_sync(0xFFFFFFFFu, v, 1);
	return v + __shfl_xor_sync(0xFFFFFFFFu, v, 2);
}

static __device__ __forceinline__ float quad_max(float v)
{
	v = fmaxf(v, __shfl_xor_sync(0xFFFFFFFFu, v, 1));
	return fmaxf(v, __shfl_xor_sync(0xFFFFFFFFu, v, 2));
}

/* ---- forward ---- */

template <typename T, int HD>
static __global__ void __launch_bounds__(THREADS)
forward_tiles(struct operands o, const struct attention_tile *tiles)
{
	extern __shared__ bits16 memory[];
	bits16 *q_tile = memory, *k_tile = q_tile + TILE * (HD + PAD);
	bits16 *v_tile = k_tile + STEP * (HD + PAD);
	struct attention_tile tile = tiles[blockIdx.x];
	int head = blockIdx.y, kv_head = head / (o.heads / o.kv_heads);
	int warp = threadIdx.x / WARP, g = (threadIdx.x % WARP) / 4, t = threadIdx.x % 4;
	int row = tile.row + warp * 16;
	load_tile<HD>(q_tile, o.q + head * HD, o.stride, tile.row, TILE, tile.end);
	float acc[HD / 8][4] = { { 0 } };
	float largest[2] = { -INFINITY, -INFINITY }, sum[2] = { 0, 0 };
	int last = o.causal ? min(tile.end, tile.row + TILE) : tile.end;
	for (int key = tile.begin; key < last; key += STEP) {
		__syncthreads();
		load_tile<HD>(k_tile, o.k + kv_head * HD, o.stride, key, STEP, tile.end);
		load_tile<HD>(v_tile, o.v + kv_head * HD, o.stride, key, STEP, tile.end);
		__syncthreads();
		float s[STEP / 8][4];
		multiply_tiles<T, HD, STEP / 8>(s, q_tile + warp * 16 * (HD + PAD), k_tile);
		for (int half = 0; half < 2; half++) {
			float top = largest[half];
			int r = row + g + 8 * half;
			for (int n = 0; n < STEP / 8; n++)
				for (int e = 0; e < 2; e++) {
					int column = key + n * 8 + 2 * t + e;
					bool seen = column < tile.end && (!o.causal || column <= r);
					float *v = &s[n][2 * half + e];
					*v = seen ? *v * o.scale : -INFINITY;
					top = fmaxf(top, *v);
				}
			top = quad_max(top);
			float base = top == -INFINITY ? 0 : top;
			float shrink = __expf(largest[half] - base), added = 0;
			for (int n = 0; n < STEP / 8; n++)
				for (int e = 0; e < 2; e++) {
					float *v = &s[n][2 * half + e];
					*v = __expf(*v - base);
					added += *v;
				}
			sum[half] = sum[half] * shrink + quad_sum(added);
			largest[half] = top;
			for (int n = 0; n < HD / 8; n++) {
				acc[n][2 * half] *= shrink;
				acc[n][2 * half + 1] *= shrink;
			}
		}
		accumulate_rows<T, HD>(acc, s, v_tile);
	}
	float inverse[2];
	for (int half = 0; half < 2; half++) {
		int r = row + g + 8 * half;
		inverse[half] = sum[half] > 0 ? 1.0f / sum[half] : 0;
		if (t == 0 && r < tile.end)
			o.lse_to[(int64_t)r * o.heads + head] = largest[half] + logf(sum[half]);
	}
	store_rows<T, HD>(o.to + head * HD, (int64_t)o.heads * HD, acc, row, tile.end, inverse);
}

/* ---- backward ---- */

/* delta[row][head] = sum of dout * out, the pull of the softmax's normalisation. */
template <typename T>
static __global__ void delta_rows(float *delta, const bits16 *dout, const bits16 *out,
                                  int heads, int head_dim)
{
	int64_t row = blockIdx.x;
	for (int head = threadIdx.x / WARP; head < heads; head += blockDim.x / WARP) {
		int64_t base = (row * heads + head) * head_dim;
		float sum = 0;
		for (int i = 2 * (threadIdx.x % WARP); i < head_dim; i += 2 * WARP) {
			float a[2], b[2];
			load_numbers<T>(a, dout + base + i);
			load_numbers<T>(b, out + base + i);
			sum += a[0] * b[0] + a[1] * b[1];
		}
		for (int step = WARP / 2; step; step /= 2)
			sum += __shfl_down_sync(0xFFFFFFFFu, sum, step);
		if (threadIdx.x % WARP == 0)
			delta[row * heads + head] = sum;
	}
}

template <typename T, int HD>
static __global__ void __launch_bounds__(THREADS)
backward_q_tiles(struct operands o, const struct attention_tile *tiles)
{
	extern __shared__ bits16 memory[];
	bits16 *q_tile = memory, *dout_tile = q_tile + TILE * (HD + PAD);
	bits16 *k_tile = dout_tile + TILE * (HD + PAD), *v_tile = k_tile + STEP * (HD + PAD);
	struct attention_tile tile = tiles[blockIdx.x];
	int head = blockIdx.y, kv_head = head / (o.heads / o.kv_heads);
	int warp = threadIdx.x / WARP, g = (threadIdx.x % WARP) / 4, t = threadIdx.x % 4;
	int row = tile.row + warp * 16;
	load_tile<HD>(q_tile, o.q + head * HD, o.stride, tile.row, TILE, tile.end);
	load_tile<HD>(dout_tile, o.dout + head * HD, (int64_t)o.heads * HD, tile.row, TILE,
	              tile.end);
	float lse[2], delta[2];
	for (int half = 0; half < 2; half++) {
		int64_t r = row + g + 8 * half;
		lse[half] = r < tile.end ? o.lse[r * o.heads + head] : 0;
		delta[half] = r < tile.end ? o.delta[r * o.heads + head] : 0;
	}
	float acc[HD / 8][4] = { { 0 } };
	int last = o.causal ? min(tile.end, tile.row + TILE) : tile.end;
	for (int key = tile.begin; key < last; key += STEP) {
		__syncthreads();
		load_tile<HD>(k_tile, o.k + kv_head * HD, o.stride, key, STEP, tile.end);
		load_tile<HD>(v_tile, o.v + kv_head * HD, o.stride, key, STEP, tile.end);
		__syncthreads();
		float s[STEP / 8][4], dp[STEP / 8][4];
		multiply_tiles<T, HD, STEP / 8>(s, q_tile + warp * 16 * (HD + PAD), k_tile);
		multiply_tiles<T, HD, STEP / 8>(dp, dout_tile + warp * 16 * (HD + PAD), v_tile);
		for (int n = 0; n < STEP / 8; n++)
			for (int e = 0; e < 4; e++) {
				int half = e / 2, column = key + n * 8 + 2 * t + e % 2;
				int r = row + g + 8 * half;
				bool seen = column < tile.end && r < tile.end &&
				            (!o.causal || column <= r);
				float p = seen ? __expf(s[n][e] * o.scale - lse[half]) : 0;
				s[n][e] = p * (dp[n][e] - delta[half]) * o.scale;
			}
		accumulate_rows<T, HD>(acc, s, k_tile);
	}
	const float one[2] = { 1, 1 };
	store_rows<T, HD>(o.dq + head * HD, o.stride, acc, row, tile.end, one);
}

/* The same in float32. */
template <int HD>
static __device__ void store_float_rows(float *to, int64_t stride, float (*acc)[4], int row,
                                        int end)
{
	int g = (threadIdx.x % WARP) / 4, t = threadIdx.x % 4;
#pragma unroll
	for (int n = 0; n < HD / 8; n++)
		for (int half = 0; half < 2; half++) {
			int r = row + g + 8 * half;
			if (r < end)
				*reinterpret_cast<float2 *>(to + r * stride + n * 8 + 2 * t) =
					make_float2(acc[n][2 * half], acc[n][2 * half + 1]);
		}
}

/* A tile of keys against all rows of one query head that see it. */
template <typename T, int HD>
static __global__ void __launch_bounds__(THREADS)
backward_kv_tiles(struct operands o, const struct attention_tile *tiles)
{
	extern __shared__ bits16 memory[];
	bits16 *k_tile = memory, *v_tile = k_tile + TILE * (HD + PAD);
	bits16 *q_tile = v_tile + TILE * (HD + PAD), *dout_tile = q_tile + STEP * (HD + PAD);
	float *lse = reinterpret_cast<float *>(dout_tile + STEP * (HD + PAD));
	float *delta = lse + STEP;
	struct attention_tile tile = tiles[blockIdx.x];
	int head = blockIdx.y, kv_head = head / (o.heads / o.kv_heads);
	int warp = threadIdx.x / WARP, g = (threadIdx.x % WARP) / 4, t = threadIdx.x % 4;
	int key = tile.row + warp * 16;
	int64_t width = (int64_t)o.heads * HD;
	load_tile<HD>(k_tile, o.k + kv_head * HD, o.stride, tile.row, TILE, tile.end);
	load_tile<HD>(v_tile, o.v + kv_head * HD, o.stride, tile.row, TILE, tile.end);
	float dk[HD / 8][4] = { { 0 } }, dv[HD / 8][4] = { { 0 } };
	int first = o.causal ? tile.begin + (tile.row - tile.begin) / STEP * STEP : tile.begin;
	for (int row = first; row < tile.end; row += STEP) {
		__syncthreads();
		load_tile<HD>(q_tile, o.q + head * HD, o.stride, row, STEP, tile.end);
		load_tile<HD>(dout_tile, o.dout + head * HD, width, row, STEP, tile.end);
		if (threadIdx.x < STEP) {
			int64_t r = row + threadIdx.x;
			lse[threadIdx.x] = r < tile.end ? o.lse[r * o.heads + head] : 0;
			delta[threadIdx.x] = r < tile.end ? o.delta[r * o.heads + head] : 0;
		}
		__syncthreads();
		float s[STEP / 8][4], dp[STEP / 8][4];
		multiply_tiles<T, HD, STEP / 8>(s, k_tile + warp * 16 * (HD + PAD), q_tile);
		multiply_tiles<T, HD, STEP / 8>(dp, v_tile + warp * 16 * (HD + PAD), dout_tile);
		for (int n = 0; n < STEP / 8; n++)
			for (int e = 0; e < 4; e++) {
				int column = n * 8 + 2 * t + e % 2; /* a query row */
				int own = key + g + 8 * (e / 2);
				bool seen = row + column < tile.end && own < tile.end &&
				            (!o.causal || own <= row + column);
				float p = seen ? __expf(s[n][e] * o.scale - lse[column]) : 0;
				s[n][e] = p;
				dp[n][e] = p * (dp[n][e] - delta[column]) * o.scale;
			}
		accumulate_rows<T, HD>(dv, s, dout_tile);
		accumulate_rows<T, HD>(dk, dp, q_tile);
	}
	if (o.heads != o.kv_heads) {
		store_float_rows<HD>(o.part_k + head * HD, width, dk, key, tile.end);
		store_float_rows<HD>(o.part_v + head * HD, width, dv, key, tile.end);
		return;
	}
	const float one[2] = { 1, 1 };
	store_rows<T, HD>(o.dk + head * HD, o.stride, dk, key, tile.end, one);
	store_rows<T, HD>(o.dv + head * HD, o.stride, dv, key, tile.end, one);
}

/* dk and dv of a row: the parts of all query heads that share them. */
template <typename T>
static __global__ void add_parts(struct operands o, int head_dim)
{
	int64_t row = blockIdx.x;
	int shared_by = o.heads / o.kv_heads;
	const float *parts = blockIdx.y ? o.part_v : o.part_k;
	bits16 *to = (blockIdx.y ? o.dv : o.dk) + row * o.stride;
	for (int i = 2 * threadIdx.x; i < o.kv_heads * head_dim; i += 2 * blockDim.x) {
		int head = i / head_dim * shared_by;
		const float *from = parts + (row * o.heads + head) * head_dim + i % head_dim;
		float left = 0, right = 0;
		for (int h = 0; h < shared_by; h++, from += head_dim) {
			left += from[0];
			right += from[1];
		}
		*reinterpret_cast<uint32_t *>(to + i) = pack<T>(left, right);
	}
}

/* ---- launches ---- */

static struct operands describe(const struct attention_shape *shape)
{
	struct operands o = {};
	o.heads = shape->heads;
	o.kv_heads = shape->kv_heads;
	o.stride = shape->stride;
	o.causal = shape->causal;
	o.scale = shape->scale;
	return o;
}

template <typename T, int HD>
static void run_forward(const struct operands &o, const struct attention_tile *tiles,
                        int count, cudaStream_t stream)
{
	size_t bytes = (size_t)(TILE + 2 * STEP) * (HD + PAD) * sizeof(bits16);
	cudaFuncSetAttribute(forward_tiles<T, HD>, cudaFuncAttributeMaxDynamicSharedMemorySize,
	                     (int)bytes);
	forward_tiles<T, HD><<<dim3((unsigned)count, (unsigned)o.heads), THREADS, bytes,
	                       stream>>>(o, tiles);
}

template <typename T, int HD>
static void run_backward(const struct operands &o, const struct attention_tile *tiles,
                         int count, cudaStream_t stream)
{
	size_t bytes = (size_t)(2 * TILE + 2 * STEP) * (HD + PAD) * sizeof(bits16) +
	               2 * STEP * sizeof(float);
	cudaFuncSetAttribute(backward_q_tiles<T, HD>,
	                     cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
	cudaFuncSetAttribute(backward_kv_tiles<T, HD>,
	                     cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
	backward_q_tiles<T, HD><<<dim3((unsigned)count, (unsigned)o.heads), THREADS, bytes,
	                       stream>>>(o, tiles);
	backward_kv_tiles<T, HD><<<dim3((unsigned)count, (unsigned)o.heads), THREADS, bytes,
	                        stream>>>(o, tiles);
}

#define FOR_HEAD_DIM(head_dim, call)                                                       \
	switch (head_dim) {                                                                    \
	case 16: call(16); break;                                                              \
	case 32: call(32); break;                                                              \
	case 48: call(48); break;                                                              \
	case 64: call(64); break;                                                              \
	case 80: call(80); break;                                                              \
	case 96: call(96); break;                                                              \
	case 112: call(112); break;                                                            \
	case 128: call(128); break;                                                            \
	default: break;                                                                        \
	}

void gpu_attention_forward(bits16 *out, float *lse, const bits16 *q,
                           const bits16 *k, const bits16 *v,
                           const struct attention_tile *tiles, int tile_count,
                           const struct attention_shape *shape, enum gpu_number number,
                           gpu_stream stream)
{
	struct operands o = describe(shape);
	o.q = q;
	o.k = k;
	o.v = v;
	o.to = out;
	o.lse_to = lse;
	if (!tile_count)
		return;
#define FORWARD(HD)                                                                        \
	FOR_NUMBER(number, (run_forward<T, HD>(o, tiles, tile_count, (cudaStream_t)stream)))
	FOR_HEAD_DIM(shape->head_dim, FORWARD)
#undef FORWARD
}

void gpu_attention_backward(bits16 *dq, bits16 *dk, bits16 *dv, float *delta,
                            float *parts, const bits16 *dout, const bits16 *out, const float *lse,
                            const bits16 *q, const bits16 *k, const bits16 *v,
                            const struct attention_tile *tiles, int tile_count, int rows,
                            const struct attention_shape *shape, enum gpu_number number,
                            gpu_stream stream)
{
	struct operands o = describe(shape);
	o.q = q;
	o.k = k;
	o.v = v;
	o.dout = dout;
	o.lse = lse;
	o.delta = delta;
	o.dq = dq;
	o.dk = dk;
	o.dv = dv;
	o.part_k = parts;
	o.part_v = parts ? parts + (int64_t)rows * shape->heads * shape->head_dim : NULL;
	if (!tile_count)
		return;
	FOR_NUMBER(number, (delta_rows<T><<<(unsigned)rows, THREADS, 0, (cudaStream_t)stream>>>(
		                   delta, dout, out, shape->heads, shape->head_dim)));
#define BACKWARD(HD)                                                                       \
	FOR_NUMBER(number, (run_backward<T, HD>(o, tiles, tile_count, (cudaStream_t)stream)))
	FOR_HEAD_DIM(shape->head_dim, BACKWARD)
#undef BACKWARD
	if (shape->heads != shape->kv_heads)
		FOR_NUMBER(number, (add_parts<T><<<dim3((unsigned)rows, 2), THREADS, 0,
		                                   (cudaStream_t)stream>>>(o, shape->head_dim)));
}
