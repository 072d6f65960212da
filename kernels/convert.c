/* Conversions by bit arithmetic, which vectorises and is exact; see convert.h. */
#include "kernels/convert.h"

#include <stdbool.h>
#include <string.h>

#include "kernels/portable.h"

#include "kernels/bits.h"

/* Elements taken at a time by the search, so that a bad file is named early and
 * a good one is read once at full speed. */
enum { STRETCH = 4096 };

static inline uint16_t load_16(const uint8_t *bytes, size_t i)
{
	uint16_t bits;
	memcpy(&bits, bytes + 2 * i, sizeof bits);
	return bits;
}

static inline uint32_t load_32(const uint8_t *bytes, size_t i)
{
	uint32_t bits;
	memcpy(&bits, bytes + 4 * i, sizeof bits);
	return bits;
}

VECTOR_CLONES
void convert_bf16(float *restrict out, const void *restrict in, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = float_of_bits((uint32_t)load_16(in, i) << 16);
}

/* The 15 magnitude bits moved to float32's place are the number times 2^-112
 * (float32's exponent bias is 112 larger), subnormals included; infinity and NaN
 * need their exponent filled. */
VECTOR_CLONES
void convert_f16(float *restrict out, const void *restrict in, size_t n)
{
	const float rebias = 0x1p112f;
	for (size_t i = 0; i < n; i++) {
		uint32_t bits = load_16(in, i);
		uint32_t sign = (bits & 0x8000) << 16, magnitude = (bits & 0x7FFF) << 13;
		uint32_t number = bits_of_float(float_of_bits(magnitude) * rebias);
		uint32_t special = magnitude | 0x7F800000u;
		uint32_t chosen = magnitude >= 0x0F800000u ? special : number;
		out[i] = float_of_bits(chosen | sign);
	}
}

void convert_f32(float *out, const void *in, size_t n)
{
	memcpy(out, in, n * sizeof(float));
}

VECTOR_CLONES
static bool all_below_16(const uint8_t *in, size_t n, uint32_t limit)
{
	uint32_t largest = 0;
	for (size_t i = 0; i < n; i++) {
		uint32_t magnitude = load_16(in, i) & 0x7FFFu;
		largest = magnitude > largest ? magnitude : largest;
	}
	return largest < limit;
}

VECTOR_CLONES
static bool all_below_32(const uint8_t *in, size_t n, uint32_t limit)
{
	uint32_t largest = 0;
	for (size_t i = 0; i < n; i++) {
		uint32_t magnitude = load_32(in, i) & 0x7FFFFFFFu;
		largest = magnitude > largest ? magnitude : largest;
	}
	return largest < limit;
}

/* `limit` is the bit pattern of infinity: NaN and infinity are not below it. */
static size_t find_from_16(const uint8_t *in, size_t n, uint32_t limit)
{
	for (size_t start = 0; start < n; start += STRETCH) {
		size_t end = n - start > STRETCH ? start + STRETCH : n;
		if (all_below_16(in + 2 * start, end - start, limit))
			continue;
		for (size_t i = start; i < end; i++)
			if ((load_16(in, i) & 0x7FFFu) >= limit)
				return i;
	}
	return n;
}

size_t find_nonfinite_bf16(const void *in, size_t n)
{
	return find_from_16(in, n, 0x7F80);
}

size_t find_nonfinite_f16(const void *in, size_t n)
{
	return find_from_16(in, n, 0x7C00);
}

size_t find_nonfinite_f32(const void *in, size_t n)
{
	const uint8_t *bytes = in;
	for (size_t start = 0; start < n; start += STRETCH) {
		size_t end = n - start > STRETCH ? start + STRETCH : n;
		if (all_below_32(bytes + 4 * start, end - start, 0x7F800000u))
			continue;
		for (size_t i = start; i < end; i++)
			if ((load_32(bytes, i) & 0x7FFFFFFFu) >= 0x7F800000u)
				return i;
	}
	return n;
}
