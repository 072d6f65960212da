/* Floats as the 16-bit numbers of the device, to the nearest, ties to even. Private to
 * lib/gpu. */
#ifndef QUERN_GPU_NUMBERS_H
#define QUERN_GPU_NUMBERS_H

#include <string.h>

#include "kernels/gpu_ops.h"

static inline bits16 to_bf16(float x)
{
	uint32_t u;
	memcpy(&u, &x, sizeof u);
	return (bits16)((u + 0x7FFF + ((u >> 16) & 1)) >> 16);
}

static inline bits16 to_fp16(float x)
{
	uint32_t u, sign;
	memcpy(&u, &x, sizeof u);
	sign = u >> 16 & 0x8000;
	u &= 0x7FFFFFFF;
	if (u < 0x38800000) { /* below 2^-14: steps of 2^-24, which are those at 0.5 */
		float magnitude, half = 0.5f;
		uint32_t at;
		memcpy(&magnitude, &u, sizeof magnitude);
		magnitude += half;
		memcpy(&at, &magnitude, sizeof at);
		return (bits16)(sign | (at - 0x3F000000));
	}
	if (u >= 0x477FF000) /* rounds to 65536 or more, or is NaN */
		return (bits16)(sign | (u > 0x7F800000 ? 0x7E00 : 0x7C00));
	return (bits16)(sign | ((u + 0xFFF + (u >> 13 & 1) - 0x38000000) >> 13));
}

static inline bits16 to_number(float x, enum gpu_number number)
{
	return number == GPU_FP16 ? to_fp16(x) : to_bf16(x);
}

/* What gradients are multiplied with, so that those of FP16 keep clear of both ends of its
 * range; a score has its square. */
static inline float gradient_scale(enum gpu_number number)
{
	return number == GPU_FP16 ? 1024 : 1;
}

#endif
