/* What the device kernels share: BF16 in and out of float, reductions over a block,
 * tensor-core products. Device code only. */
#ifndef QUERN_KERNELS_GPU_CUH
#define QUERN_KERNELS_GPU_CUH

#include <cuda_bf16.h>
#include <stdint.h>

typedef __nv_bfloat16 bf16;

enum { WARP = 32 };

static __device__ __forceinline__ uint32_t pack_bf16(float low, float high)
{
	__nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
	return *reinterpret_cast<uint32_t *>(&pair);
}

/* Sum over a block of at most 1024 threads, in an order fixed by the block's size.
 * Every thread gets the result; scratch holds 32 values. */
template <typename T>
static __device__ T block_sum(T value, T *scratch)
{
	int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	for (int step = WARP / 2; step; step /= 2)
		value += __shfl_down_sync(0xFFFFFFFFu, value, step);
	__syncthreads();
	if (lane == 0)
		scratch[warp] = value;
	__syncthreads();
	T total = 0;
	for (int w = 0; w < (int)(blockDim.x + WARP - 1) / WARP; w++)
		total += scratch[w];
	return total;
}

static __device__ float block_max(float value, float *scratch)
{
	int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	for (int step = WARP / 2; step; step /= 2)
		value = fmaxf(value, __shfl_down_sync(0xFFFFFFFFu, value, step));
	__syncthreads();
	if (lane == 0)
		scratch[warp] = value;
	__syncthreads();
	float largest = scratch[0];
	for (int w = 1; w < (int)(blockDim.x + WARP - 1) / WARP; w++)
		largest = fmaxf(largest, scratch[w]);
	return largest;
}

/* c[16][8] += a[16][16] b[16][8], BF16 with float32 accumulation (PTX ISA, mma.m16n8k16).
 * Lane l holds, with g = l / 4 and t = l % 4: of a the pairs (g, 2t), (g+8, 2t),
 * (g, 2t+8), (g+8, 2t+8); of b the pairs (k = 2t, n = g), (2t+8, g); of c the elements
 * (g, 2t), (g, 2t+1), (g+8, 2t), (g+8, 2t+1). */
static __device__ __forceinline__ void mma_16x8x16(float c[4], const uint32_t a[4],
                                                   const uint32_t b[2])
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
	             "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
	             : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
	             : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* The a operand of rows [0, 16) and columns [k, k + 16) of a tile in shared memory
 * whose rows are `stride` apart. */
static __device__ __forceinline__ void load_a(uint32_t a[4], const bf16 *tile, int stride,
                                              int k)
{
	int g = (threadIdx.x % WARP) / 4, t = threadIdx.x % 4;
	const bf16 *p = tile + g * stride + k + 2 * t;
	a[0] = *reinterpret_cast<const uint32_t *>(p);
	a[1] = *reinterpret_cast<const uint32_t *>(p + 8 * stride);
	a[2] = *reinterpret_cast<const uint32_t *>(p + 8);
	a[3] = *reinterpret_cast<const uint32_t *>(p + 8 * stride + 8);
}

/* The b operand b[k..k+16)[8] = tile[8 rows][k..k+16) transposed: a tile stored with n
 * as rows. */
static __device__ __forceinline__ void load_b(uint32_t b[2], const bf16 *tile, int stride,
                                              int k)
{
	int g = (threadIdx.x % WARP) / 4, t = threadIdx.x % 4;
	const bf16 *p = tile + g * stride + k + 2 * t;
	b[0] = *reinterpret_cast<const uint32_t *>(p);
	b[1] = *reinterpret_cast<const uint32_t *>(p + 8);
}

/* The b operand of rows [0, 16) (k) and columns [n, n + 8) of a tile stored with k as
 * rows. */
static __device__ __forceinline__ void load_b_rows(uint32_t b[2], const bf16 *tile,
                                                   int stride, int n)
{
	int lane = threadIdx.x % 16;
	uint32_t address = (uint32_t)__cvta_generic_to_shared(tile + lane * stride + n);
	asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];\n"
	             : "=r"(b[0]), "=r"(b[1])
	             : "r"(address));
}

/* Two neighbouring 16x8 accumulators as the a operand of a following product. */
static __device__ __forceinline__ void accumulators_as_a(uint32_t a[4], const float left[4],
                                                         const float right[4])
{
	a[0] = pack_bf16(left[0], left[1]);
	a[1] = pack_bf16(left[2], left[3]);
	a[2] = pack_bf16(right[0], right[1]);
	a[3] = pack_bf16(right[2], right[3]);
}

#endif
