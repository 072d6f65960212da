/* FP4 E2M1: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives. To nearest, ties to even,
 * saturating at +-6. Source: OCP Microscaling Formats specification 1.0. */
#ifndef QUERN_KERNELS_FP4_H
#define QUERN_KERNELS_FP4_H

#include <stddef.h>
#include <stdint.h>

#define FP4_MAX 6.0f

/* 4 bits, the sign in bit 3. There is no NaN: it gives +-6. */
uint8_t fp4_from_float(float x);
float fp4_to_float(uint8_t code);

/* y[n] = value(e2m1(x[n] / scale)) * scale */
void fp4_round_trip(const float *x, size_t n, float scale, float *y);

/* codes[n] = e2m1(x[n] / scale), one a byte; -0 counts as 0. */
void fp4_encode(const float *x, size_t n, float scale, uint8_t *codes);

/* y[n] = value(codes[n]) * scale; the upper four bits of a code count for nothing. */
void fp4_decode(const uint8_t *codes, size_t n, float scale, float *y);

/* The first i at which value(codes[i]) * scale lies further from w[i] than `steps`
 * (0.5: no other code is nearer) spacings of E2M1 between the two; beyond 6 the spacing
 * is that from 4 to 6. n when there is none. */
size_t fp4_find_far(const uint8_t *codes, const float *w, size_t n, float scale,
                    float steps);

#endif
