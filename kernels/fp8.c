/* FP8 E4M3 by bit arithmetic on float32, without branches, so that loops over it
 * vectorise and give the same bits at any vector width. */
#include "kernels/fp8.h"

#include <stdbool.h>
#include <string.h>

#include "kernels/portable.h"

static inline uint32_t bits_of(float x)
{
	uint32_t u;
	memcpy(&u, &x, sizeof u);
	return u;
}

static inline float float_of(uint32_t u)
{
	float x;
	memcpy(&x, &u, sizeof x);
	return x;
}

/* |x| rounded to a multiple of its E4M3 spacing and clamped to 448, still as
 * float32. From 2^-6 up there are 3 fraction bits, so 20 of float32's 23 go;
 * below, the spacing is 2^-9 throughout, and adding 2^14 (whose float32 spacing
 * is 2^-9) rounds to it. */
static inline float round_magnitude(float magnitude)
{
	uint32_t u = bits_of(magnitude);
	uint32_t even = (u >> 20) & 1;
	float normal = float_of((u + 0x7FFFF + even) & 0xFFF00000u);
	float shifted = magnitude + 16384.0f;
	float subnormal = shifted - 16384.0f;
	float rounded = magnitude < 0.015625f ? subnormal : normal;
	return rounded > FP8_MAX ? FP8_MAX : rounded;
}

static inline float round_to_fp8(float x)
{
	uint32_t sign = bits_of(x) & 0x80000000u;
	float magnitude = float_of(bits_of(x) & 0x7FFFFFFFu);
	float rounded = float_of(bits_of(round_magnitude(magnitude)) | sign);
	return x == x ? rounded : x;
}

/* x must be a value that E4M3 holds exactly, or NaN. */
static inline uint8_t code_of_exact(float x)
{
	uint32_t u = bits_of(x);
	uint32_t sign = (u >> 24) & 0x80;
	uint32_t magnitude = u & 0x7FFFFFFFu;
	/* Rebias the exponent from 127 to 7 and keep 3 fraction bits. */
	uint32_t normal = (magnitude >> 20) - ((127 - 7) << 3);
	/* 2^14 + k * 2^-9 has k in its lowest bits; NaN comes to no harm. */
	uint32_t subnormal = bits_of(float_of(magnitude) + 16384.0f) & 7;
	uint32_t code = magnitude < 0x3C800000u ? subnormal : normal;
	code = magnitude > 0x7F800000u ? 0x7F : code;
	return (uint8_t)(sign | code);
}

uint8_t fp8_from_float(float x)
{
	return code_of_exact(round_to_fp8(x));
}

/* Inline, so that loops over codes become vectors: a call would end that. */
static inline float value_of(uint8_t code)
{
	uint32_t sign = (uint32_t)(code & 0x80) << 24;
	uint32_t magnitude = code & 0x7F;
	float normal = float_of((magnitude << 20) + ((127u - 7) << 23));
	float subnormal = (float)(int32_t)magnitude * 0.001953125f; /* 2^-9 */
	float value = magnitude < 8 ? subnormal : normal;
	value = magnitude == 0x7F ? float_of(0x7FC00000u) : value;
	return float_of(bits_of(value) | sign);
}

float fp8_to_float(uint8_t code)
{
	return value_of(code);
}

VECTOR_CLONES
void fp8_encode(const float *x, size_t n, float multiplier, uint8_t *codes)
{
	for (size_t i = 0; i < n; i++)
		codes[i] = code_of_exact(round_to_fp8(x[i] * multiplier));
}

VECTOR_CLONES
void fp8_encode_divided(const float *x, size_t n, float scale, uint8_t *codes)
{
	for (size_t i = 0; i < n; i++)
		codes[i] = code_of_exact(round_to_fp8(x[i] / scale));
}

/* Round to nearest even at bit 16; NaN stays NaN because the quiet bit stays. */
static inline float round_to_bf16(float x)
{
	uint32_t u = bits_of(x);
	uint32_t rounded = (u + 0x7FFF + ((u >> 16) & 1)) & 0xFFFF0000u;
	return x == x ? float_of(rounded) : x;
}

VECTOR_CLONES
void fp8_encode_through_bf16(const float *x, size_t n, float scale, uint8_t *codes)
{
	for (size_t i = 0; i < n; i++)
		codes[i] = code_of_exact(round_to_fp8(round_to_bf16(x[i] / scale)));
}

VECTOR_CLONES
void fp8_decode(const uint8_t *codes, size_t n, float scale, float *y)
{
	for (size_t i = 0; i < n; i++)
		y[i] = value_of(codes[i]) * scale;
}

VECTOR_CLONES
void fp8_round_trip(const float *x, size_t n, float multiplier, float scale, float *y)
{
	for (size_t i = 0; i < n; i++)
		y[i] = round_to_fp8(x[i] * multiplier) * scale;
}

/* The spacing of E4M3 numbers from `magnitude` (>= 0) up: 3 fraction bits, 2^-9 from
 * the subnormals up to 2^-6. */
static inline float spacing_at(float magnitude)
{
	uint32_t exponent = bits_of(magnitude) & 0x7F800000u;
	float spacing = float_of(exponent) * 0.125f;
	return spacing < 0.001953125f ? 0.001953125f : spacing;
}

/* The spacing on the side of `value`, which E4M3 holds, where `exact` lies: below a
 * power of two it is half of what it is above. */
static inline float spacing_towards(float value, double exact)
{
	uint32_t magnitude = bits_of(value) & 0x7FFFFFFFu;
	double distance = exact < 0 ? -exact : exact;
	bool inwards = distance < (double)float_of(magnitude);
	return spacing_at(float_of(inwards ? magnitude - 1 : magnitude));
}

static bool is_far(uint8_t code, float w, float scale, float steps)
{
	double exact = (double)w / (double)scale;
	float value = value_of(code);
	double off = (double)value - exact;
	double most = (double)steps * (double)spacing_towards(value, exact);
	return !((off < 0 ? -off : off) <= most * (1 + 1e-6));
}

/* Whether any might be far: in float32, with a margin for its rounding. */
VECTOR_CLONES
static bool any_suspicious(const uint8_t *codes, const float *w, size_t n, float scale,
                           float steps)
{
	int suspicious = 0;
	for (size_t i = 0; i < n; i++) {
		float exact = w[i] / scale, value = value_of(codes[i]);
		uint32_t magnitude = bits_of(value) & 0x7FFFFFFFu;
		uint32_t inwards = (bits_of(exact) & 0x7FFFFFFFu) < magnitude;
		float off = float_of(bits_of(value - exact) & 0x7FFFFFFFu);
		float most = steps * spacing_at(float_of(magnitude - inwards));
		suspicious |= !(off <= most * 0.9999f);
	}
	return suspicious;
}

size_t fp8_find_far(const uint8_t *codes, const float *w, size_t n, float scale,
                    float steps)
{
	enum { STRETCH = 64 };
	for (size_t at = 0; at < n; at += STRETCH) {
		size_t count = n - at < STRETCH ? n - at : STRETCH;
		if (!any_suspicious(codes + at, w + at, count, scale, steps))
			continue;
		for (size_t i = at; i < at + count; i++)
			if (is_far(codes[i], w[i], scale, steps))
				return i;
	}
	return n;
}
