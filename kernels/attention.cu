/* Device twin of attention: no scores are kept, rows are processed in tiles of 64 with
 * running maxima and sums (Dao et al., FlashAttention-2, arXiv 2307.08691). Segments are
 * given as tiles, so windows of the vision tower and whole samples of the language model
 * are one launch each. The backward pass computes dq by one kernel and dk, dv by another,
 * so that nothing is added atomically. */
#include <cuda_runtime.h>
#include <math.h>

#include "kernels/gpu.cuh"
#include "kernels/gpu_ops.h"

/* Rows of a tile, rows of the tiles it runs over, and the padding that keeps rows of
 * shared memory on different banks. */
enum { TILE = 64, STEP = 32, PAD = 8, WARPS = 4, THREADS = WARPS * WARP };

struct operands {
	const bf16 *q, *k, *v, *out, *dout;
	const float *lse, *delta;
	bf16 *to, *dq, *dk, *dv;
	float *lse_to;
	int heads, kv_heads, stride;
	int causal;
	float scale;
};

/* rows [first, first + count) of a head into shared memory, zeros from `end` on. */
template <int HD>
static __device__ void load_tile(bf16 *tile, const bf16 *from, int64_t stride, int first,
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
template <int HD, int N>
static __device__ __forceinline__ void multiply_rows(float (*acc)[4], const bf16 *a_tile,
                                                     const bf16 *b_tile)
{
	for (int n = 0; n < N; n++)
		for (int e = 0; e < 4; e++)
			acc[n][e] = 0;
#pragma unroll
	for (int k = 0; k < HD; k += 16) {
		uint32_t a[4];
		load_a(a, a_tile, HD + PAD, k);
#pragma unroll
		for (int n = 0; n < N; n++) {
			uint32_t b[2];
			load_b(b, b_tile + n * 8 * (HD + PAD), HD + PAD, k);
			mma_16x8x16(acc[n], a, b);
		}
	}
}

/* acc[16][HD] += p[16][STEP] * tile[STEP][HD] */
template <int HD>
static __device__ __forceinline__ void accumulate_rows(float (*acc)[4], float (*p)[4],
                                                       const bf16 *tile)
{
#pragma unroll
	for (int k = 0; k < STEP / 16; k++) {
		uint32_t a[4];
		accumulators_as_a(a, p[2 * k], p[2 * k + 1]);
#pragma unroll
		for (int n = 0; n < HD / 8; n++) {
			uint32_t b[2];
			load_b_rows(b, tile + k * 16 * (HD + PAD), HD + PAD, n * 8);
			mma_16x8x16(acc[n], a, b);
		}
	}
}

/* A warp's 16 rows of an accumulator to global memory in BF16. */
template <int HD>
static __device__ void store_rows(bf16 *to, int64_t stride, float (*acc)[4], int row, int end,
                                  const float factor[2])
{
	int g = (threadIdx.x % WARP) / 4, t = threadIdx.x % 4;
#pragma unroll
	for (int n = 0; n < HD / 8; n++)
		for (int half = 0; half < 2; half++) {
			int r = row + g + 8 * half;
			if (r < end)
				*reinterpret_cast<uint32_t *>(to + r * stride + n * 8 + 2 * t) =
					pack_bf16(acc[n][2 * half] * factor[half],
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

template <int HD>
static __global__ void __launch_bounds__(THREADS)
forward_tiles(struct operands o, const struct attention_tile *tiles)
{
	extern __shared__ bf16 memory[];
	bf16 *q_tile = memory, *k_tile = q_tile + TILE * (HD + PAD);
	bf16 *v_tile = k_tile + STEP * (HD + PAD);
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
		multiply_rows<HD, STEP / 8>(s, q_tile + warp * 16 * (HD + PAD), k_tile);
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
		accumulate_rows<HD>(acc, s, v_tile);
	}
	float inverse[2];
	for (int half = 0; half < 2; half++) {
		int r = row + g + 8 * half;
		inverse[half] = sum[half] > 0 ? 1.0f / sum[half] : 0;
		if (t == 0 && r < tile.end)
			o.lse_to[(int64_t)r * o.heads + head] = largest[half] + logf(sum[half]);
	}
	store_rows<HD>(o.to + head * HD, (int64_t)o.heads * HD, acc, row, tile.end, inverse);
}

/* ---- backward ---- */

/* delta[row][head] = sum of dout * out, the pull of the softmax's normalisation. */
static __global__ void delta_rows(float *delta, const bf16 *dout, const bf16 *out, int heads,
                                  int head_dim)
{
	int64_t row = blockIdx.x;
	for (int head = threadIdx.x / WARP; head < heads; head += blockDim.x / WARP) {
		int64_t base = (row * heads + head) * head_dim;
		float sum = 0;
		for (int i = threadIdx.x % WARP; i < head_dim; i += WARP)
			sum += __bfloat162float(dout[base + i]) * __bfloat162float(out[base + i]);
		for (int step = WARP / 2; step; step /= 2)
			sum += __shfl_down_sync(0xFFFFFFFFu, sum, step);
		if (threadIdx.x % WARP == 0)
			delta[row * heads + head] = sum;
	}
}

template <int HD>
static __global__ void __launch_bounds__(THREADS)
backward_q_tiles(struct operands o, const struct attention_tile *tiles)
{
	extern __shared__ bf16 memory[];
	bf16 *q_tile = memory, *dout_tile = q_tile + TILE * (HD + PAD);
	bf16 *k_tile = dout_tile + TILE * (HD + PAD), *v_tile = k_tile + STEP * (HD + PAD);
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
		multiply_rows<HD, STEP / 8>(s, q_tile + warp * 16 * (HD + PAD), k_tile);
		multiply_rows<HD, STEP / 8>(dp, dout_tile + warp * 16 * (HD + PAD), v_tile);
		for (int n = 0; n < STEP / 8; n++)
			for (int e = 0; e < 4; e++) {
				int half = e / 2, column = key + n * 8 + 2 * t + e % 2;
				int r = row + g + 8 * half;
				bool seen = column < tile.end && r < tile.end &&
				            (!o.causal || column <= r);
				float p = seen ? __expf(s[n][e] * o.scale - lse[half]) : 0;
				s[n][e] = p * (dp[n][e] - delta[half]) * o.scale;
			}
		accumulate_rows<HD>(acc, s, k_tile);
	}
	const float one[2] = { 1, 1 };
	store_rows<HD>(o.dq + head * HD, o.stride, acc, row, tile.end, one);
}

/* A tile of keys, against all query rows that see it, of all query heads that share its
 * key and value head. */
template <int HD>
static __global__ void __launch_bounds__(THREADS)
backward_kv_tiles(struct operands o, const struct attention_tile *tiles)
{
	extern __shared__ bf16 memory[];
	bf16 *k_tile = memory, *v_tile = k_tile + TILE * (HD + PAD);
	bf16 *q_tile = v_tile + TILE * (HD + PAD), *dout_tile = q_tile + STEP * (HD + PAD);
	float *lse = reinterpret_cast<float *>(dout_tile + STEP * (HD + PAD));
	float *delta = lse + STEP;
	struct attention_tile tile = tiles[blockIdx.x];
	int kv_head = blockIdx.y, shared_by = o.heads / o.kv_heads;
	int warp = threadIdx.x / WARP, g = (threadIdx.x % WARP) / 4, t = threadIdx.x % 4;
	int key = tile.row + warp * 16;
	load_tile<HD>(k_tile, o.k + kv_head * HD, o.stride, tile.row, TILE, tile.end);
	load_tile<HD>(v_tile, o.v + kv_head * HD, o.stride, tile.row, TILE, tile.end);
	float dk[HD / 8][4] = { { 0 } }, dv[HD / 8][4] = { { 0 } };
	int first = o.causal ? tile.begin + (tile.row - tile.begin) / STEP * STEP : tile.begin;
	for (int head = kv_head * shared_by; head < (kv_head + 1) * shared_by; head++) {
		for (int row = first; row < tile.end; row += STEP) {
			__syncthreads();
			load_tile<HD>(q_tile, o.q + head * HD, o.stride, row, STEP, tile.end);
			load_tile<HD>(dout_tile, o.dout + head * HD, (int64_t)o.heads * HD, row, STEP,
			              tile.end);
			if (threadIdx.x < STEP) {
				int64_t r = row + threadIdx.x;
				lse[threadIdx.x] = r < tile.end ? o.lse[r * o.heads + head] : 0;
				delta[threadIdx.x] = r < tile.end ? o.delta[r * o.heads + head] : 0;
			}
			__syncthreads();
			float s[STEP / 8][4], dp[STEP / 8][4];
			multiply_rows<HD, STEP / 8>(s, k_tile + warp * 16 * (HD + PAD), q_tile);
			multiply_rows<HD, STEP / 8>(dp, v_tile + warp * 16 * (HD + PAD), dout_tile);
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
			accumulate_rows<HD>(dv, s, dout_tile);
			accumulate_rows<HD>(dk, dp, q_tile);
		}
	}
	const float one[2] = { 1, 1 };
	store_rows<HD>(o.dk + kv_head * HD, o.stride, dk, key, tile.end, one);
	store_rows<HD>(o.dv + kv_head * HD, o.stride, dv, key, tile.end, one);
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

template <int HD>
static void run_forward(const struct operands &o, const struct attention_tile *tiles,
                        int count, cudaStream_t stream)
{
	size_t bytes = (size_t)(TILE + 2 * STEP) * (HD + PAD) * sizeof(bf16);
	cudaFuncSetAttribute(forward_tiles<HD>, cudaFuncAttributeMaxDynamicSharedMemorySize,
	                     (int)bytes);
	forward_tiles<HD><<<dim3((unsigned)count, (unsigned)o.heads), THREADS, bytes, stream>>>(
		o, tiles);
}

template <int HD>
static void run_backward(const struct operands &o, const struct attention_tile *tiles,
                         int count, cudaStream_t stream)
{
	size_t bytes = (size_t)(2 * TILE + 2 * STEP) * (HD + PAD) * sizeof(bf16) +
	               2 * STEP * sizeof(float);
	cudaFuncSetAttribute(backward_q_tiles<HD>, cudaFuncAttributeMaxDynamicSharedMemorySize,
	                     (int)bytes);
	cudaFuncSetAttribute(backward_kv_tiles<HD>, cudaFuncAttributeMaxDynamicSharedMemorySize,
	                     (int)bytes);
	backward_q_tiles<HD><<<dim3((unsigned)count, (unsigned)o.heads), THREADS, bytes,
	                       stream>>>(o, tiles);
	backward_kv_tiles<HD><<<dim3((unsigned)count, (unsigned)o.kv_heads), THREADS, bytes,
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

void gpu_attention_forward(bf16_bits *out, float *lse, const bf16_bits *q,
                           const bf16_bits *k, const bf16_bits *v,
                           const struct attention_tile *tiles, int tile_count,
                           const struct attention_shape *shape, gpu_stream stream)
{
	struct operands o = describe(shape);
	o.q = (const bf16 *)q;
	o.k = (const bf16 *)k;
	o.v = (const bf16 *)v;
	o.to = (bf16 *)out;
	o.lse_to = lse;
	if (!tile_count)
		return;
#define FORWARD(HD) run_forward<HD>(o, tiles, tile_count, (cudaStream_t)stream)
	FOR_HEAD_DIM(shape->head_dim, FORWARD)
#undef FORWARD
}

void gpu_attention_backward(bf16_bits *dq, bf16_bits *dk, bf16_bits *dv, float *delta,
                            const bf16_bits *dout, const bf16_bits *out, const float *lse,
                            const bf16_bits *q, const bf16_bits *k, const bf16_bits *v,
                            const struct attention_tile *tiles, int tile_count, int rows,
                            const struct attention_shape *shape, gpu_stream stream)
{
	struct operands o = describe(shape);
	o.q = (const bf16 *)q;
	o.k = (const bf16 *)k;
	o.v = (const bf16 *)v;
	o.dout = (const bf16 *)dout;
	o.lse = lse;
	o.delta = delta;
	o.dq = (bf16 *)dq;
	o.dk = (bf16 *)dk;
	o.dv = (bf16 *)dv;
	if (!tile_count)
		return;
	delta_rows<<<(unsigned)rows, THREADS, 0, (cudaStream_t)stream>>>(
		delta, (const bf16 *)dout, (const bf16 *)out, shape->heads, shape->head_dim);
#define BACKWARD(HD) run_backward<HD>(o, tiles, tile_count, (cudaStream_t)stream)
	FOR_HEAD_DIM(shape->head_dim, BACKWARD)
#undef BACKWARD
}
