/* What the device kernels share: 16-bit floats in and out of float, reductions over a
 * block, tensor-core products. Device code only. */
#ifndef QUERN_KERNELS_GPU_CUH
#define QUERN_KERNELS_GPU_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <stdint.h>

typedef __nv_bfloat16 bf16;

enum { WARP = 32 };

/* Runs `call` with T as the type that `number` (enum gpu_number) names. */
#define FOR_NUMBER(number, call)                                                           \
	do {                                                                                   \
		if ((number) == GPU_FP16) {                                                        \
			typedef __half T;                                                              \
			call;                                                                          \
		} else {                                                                           \
			typedef bf16 T;                                                                \
			call;                                                                          \
		}                                                                                  \
	} while (0)

/* Two numbers to and from one 32-bit word, the first in the low half. */
template <typename T>
static __device__ __forceinline__ uint32_t pack(float low, float high);

template <>
__device__ __forceinline__ uint32_t pack<bf16>(float low, float high)
{
	__nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
	return *reinterpret_cast<uint32_t *>(&pair);
}

template <>
__device__ __forceinline__ uint32_t pack<__half>(float low, float high)
{
	__half2 pair = __floats2half2_rn(low, high);
	return *reinterpret_cast<uint32_t *>(&pair);
}

template <typename T>
static __device__ __forceinline__ float2 unpack(uint32_t word);

template <>
__device__ __forceinline__ float2 unpack<bf16>(uint32_t word)
{
	return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xFFFF0000u));
}

template <>
__device__ __forceinline__ float2 unpack<__half>(uint32_t word)
{
	return __half22float2(*reinterpret_cast<__half2 *>(&word));
}

/* N numbers at p (aligned to their size together, at most 16 bytes) in one load. */
template <typename T, int N>
static __device__ __forceinline__ void load_numbers(float (&v)[N], const void *p)
{
	if constexpr (N == 1) {
		v[0] = unpack<T>(*reinterpret_cast<const uint16_t *>(p)).x;
	} else {
		uint32_t words[N / 2];
		if constexpr (N == 8)
			*reinterpret_cast<uint4 *>(words) = *reinterpret_cast<const uint4 *>(p);
		else if constexpr (N == 4)
			*reinterpret_cast<uint2 *>(words) = *reinterpret_cast<const uint2 *>(p);
		else
			words[0] = *reinterpret_cast<const uint32_t *>(p);
#pragma unroll
		for (int i = 0; i < N / 2; i++) {
			float2 pair = unpack<T>(words[i]);
			v[2 * i] = pair.x;
			v[2 * i + 1] = pair.y;
		}
	}
}

template <typename T, int N>
static __device__ __forceinline__ void store_numbers(void *p, const float (&v)[N])
{
	if constexpr (N == 1) {
		*reinterpret_cast<uint16_t *>(p) = (uint16_t)pack<T>(v[0], 0);
	} else {
		uint32_t words[N / 2];
#pragma unroll
		for (int i = 0; i < N / 2; i++)
			words[i] = pack<T>(v[2 * i], v[2 * i + 1]);
		if constexpr (N == 8)
			*reinterpret_cast<uint4 *>(p) = *reinterpret_cast<uint4 *>(words);
		else
			*reinterpret_cast<uint2 *>(p) = *reinterpret_cast<uint2 *>(words);
	}
}

template <int N>
static __device__ __forceinline__ void load_floats(float (&v)[N], const float *p)
{
	if constexpr (N % 4 == 0) {
#pragma unroll
		for (int i = 0; i < N; i += 4)
			*reinterpret_cast<float4 *>(v + i) = *reinterpret_cast<const float4 *>(p + i);
	} else {
#pragma unroll
		for (int i = 0; i < N; i++)
			v[i] = p[i];
	}
}

template <int N>
static __device__ __forceinline__ void store_floats(float *p, const float (&v)[N])
{
#pragma unroll
	for (int i = 0; i < N; i += 4)
		*reinterpret_cast<float4 *>(p + i) =
			make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]);
}

/* To FP8, nearest even and saturating, as kernels/fp8.c. */
static __device__ __forceinline__ uint8_t to_fp8(float x)
{
	return __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3);
}

template <int N>
static __device__ __forceinline__ void store_codes(uint8_t *p, const float (&v)[N])
{
	if constexpr (N == 1) {
		*p = to_fp8(v[0]);
	} else {
		uint32_t words[N / 4];
#pragma unroll
		for (int i = 0; i < N / 4; i++)
			words[i] = (uint32_t)to_fp8(v[4 * i]) | (uint32_t)to_fp8(v[4 * i + 1]) << 8 |
			           (uint32_t)to_fp8(v[4 * i + 2]) << 16 |
			           (uint32_t)to_fp8(v[4 * i + 3]) << 24;
		if constexpr (N == 8)
			*reinterpret_cast<uint2 *>(p) = *reinterpret_cast<uint2 *>(words);
		else
			*reinterpret_cast<uint32_t *>(p) = words[0];
	}
}

/* fmaxf passes NaN over; here NaN wins, so that the result tells of it. */
static __device__ __forceinline__ float larger(float a, float b)
{
	return a != a || a > b ? a : b;
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

/* The largest of a block; NaN if there is one. */
static __device__ float block_max(float value, float *scratch)
{
	int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	for (int step = WARP / 2; step; step /= 2)
		value = larger(value, __shfl_down_sync(0xFFFFFFFFu, value, step));
	__syncthreads();
	if (lane == 0)
		scratch[warp] = value;
	__syncthreads();
	float largest = scratch[0];
	for (int w = 1; w < (int)(blockDim.x + WARP - 1) / WARP; w++)
		largest = larger(largest, scratch[w]);
	return largest;
}

/* c[16][8] += a[16][16] b[16][8] with float32 accumulation (PTX ISA, mma.m16n8k16).
 * Lane l holds, with g = l / 4 and t = l % 4: of a the pairs (g, 2t), (g+8, 2t),
 * (g, 2t+8), (g+8, 2t+8); of b the pairs (k = 2t, n = g), (2t+8, g); of c the elements
 * (g, 2t), (g, 2t+1), (g+8, 2t), (g+8, 2t+1). */
template <typename T>
static __device__ __forceinline__ void mma_16x8x16(float c[4], const uint32_t a[4],
                                                   const uint32_t b[2]);

#define DEFINE_MMA(T, name)                                                                \
	template <>                                                                            \
	__device__ __forceinline__ void mma_16x8x16<T>(float c[4], const uint32_t a[4],        \
	                                               const uint32_t b[2])                    \
	{                                                                                      \
		asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." name "." name ".f32 "        \
		             "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"             \
		             : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                      \
		             : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])); \
	}
DEFINE_MMA(bf16, "bf16")
DEFINE_MMA(__half, "f16")
#undef DEFINE_MMA

/* Four 8x8 matrices from shared memory, a row's 16 bytes from every lane's address (PTX
 * ISA, ldmatrix); `transposed`: each of them turned. */
template <bool transposed>
static __device__ __forceinline__ void load_matrices(uint32_t m[4], const uint16_t *p)
{
	uint32_t address = (uint32_t)__cvta_generic_to_shared(p);
	if constexpr (transposed)
		asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
		             : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
		             : "r"(address));
	else
		asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
		             : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
		             : "r"(address));
}

/* The a operand of rows [0, 16) and columns [k, k + 16) of a tile in shared memory
 * whose rows are `stride` apart. */
static __device__ __forceinline__ void load_a(uint32_t a[4], const uint16_t *tile, int stride,
                                              int k)
{
	int lane = threadIdx.x % WARP;
	load_matrices<false>(a, tile + lane % 16 * stride + k + lane / 16 * 8);
}

/* Two b operands, b[k..k+16)[8] = tile[8 rows][k..k+16) transposed, of the rows [0, 8) and
 * [8, 16): a tile stored with n as rows. */
static __device__ __forceinline__ void load_two_b(uint32_t b[4], const uint16_t *tile,
                                                  int stride, int k)
{
	int lane = threadIdx.x % WARP;
	load_matrices<false>(b, tile + (lane % 8 + lane / 16 * 8) * stride + k + lane / 8 % 2 * 8);
}

/* Two b operands of rows [0, 16) (k), columns [n, n + 8) and [n + 8, n + 16), of a tile
 * stored with k as rows. */
static __device__ __forceinline__ void load_two_b_rows(uint32_t b[4], const uint16_t *tile,
                                                       int stride, int n)
{
	int lane = threadIdx.x % WARP;
	load_matrices<true>(b, tile + lane % 16 * stride + n + lane / 16 * 8);
}

/* Two neighbouring 16x8 accumulators as the a operand of a following product. */
template <typename T>
static __device__ __forceinline__ void accumulators_as_a(uint32_t a[4], const float left[4],
                                                         const float right[4])
{
	a[0] = pack<T>(left[0], left[1]);
	a[1] = pack<T>(left[2], left[3]);
	a[2] = pack<T>(right[0], right[1]);
	a[3] = pack<T>(right[2], right[3]);
}

#endif
