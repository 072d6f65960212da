/* FP8 E4M3 (OCP "e4m3fn": no infinity, NaN is 0x7F/0xFF, largest 448).
 * Rounding is to nearest, ties to even, saturating at +-448, subnormals kept.
 * Source: OCP 8-bit floating point specification 1.0; the arithmetic around it:
 * lib/quant/numerics.h. */
#ifndef QUERN_KERNELS_FP8_H
#define QUERN_KERNELS_FP8_H

#include <stddef.h>
#include <stdint.h>

#define FP8_MAX 448.0f

/* One number; NaN gives the NaN code. */
uint8_t fp8_from_float(float x);
float fp8_to_float(uint8_t code);

/* codes[n] = e4m3(x[n] * multiplier), the product rounded to float32 first. */
void fp8_encode(const float *x, size_t n, float multiplier, uint8_t *codes);

/* codes[n] = e4m3(x[n] / scale). With x and scale both exact in BF16 this is one
 * rounding: the quotient differs from any midpoint between two codes by 2^-14 of
 * its size or not at all, so the float32 division cannot create a tie. */
void fp8_encode_divided(const float *x, size_t n, float scale, uint8_t *codes);

/* codes[n] = e4m3(bf16(x[n] / scale)): the double rounding of ModelOpt's export. */
void fp8_encode_through_bf16(const float *x, size_t n, float scale, uint8_t *codes);

/* y[n] = value(codes[n]) * scale */
void fp8_decode(const uint8_t *codes, size_t n, float scale, float *y);

/* y[n] = value(e4m3(x[n] * multiplier)) * scale: quantise and come back. */
void fp8_round_trip(const float *x, size_t n, float multiplier, float scale, float *y);

/* The first i at which value(codes[i]) * scale lies further from w[i] than `steps`
 * (0.5: no other code is nearer) spacings of E4M3 between the two, or codes[i] is
 * NaN; n when there is none. */
size_t fp8_find_far(const uint8_t *codes, const float *w, size_t n, float scale,
                    float steps);

#endif
