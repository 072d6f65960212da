/* Whole numbers of few bits, as INT8 and INT4 store them: to nearest, ties to even,
 * clamped. The arithmetic around it: lib/quant/formats/. */
#ifndef QUERN_KERNELS_INTEGER_H
#define QUERN_KERNELS_INTEGER_H

#include <stddef.h>
#include <stdint.h>

/* codes[n] = round(x[n] / scale) within [low, high], which lie within +-2^21; NaN gives
 * low. */
void integer_encode(const float *x, size_t n, float scale, int low, int high,
                    int8_t *codes);

/* y[n] = codes[n] * scale */
void integer_decode(const int8_t *codes, size_t n, float scale, float *y);

/* The first i at which codes[i] * scale lies further from w[i] than `steps` * scale
 * (0.5: no other code is nearer); n when there is none. */
size_t integer_find_far(const int8_t *codes, const float *w, size_t n, float scale,
                        float steps);

/* y[n] = that value / divisor: quantise and come back, as ModelOpt does. */
void integer_round_trip_divided(const float *x, size_t n, float multiplier, int low,
                                int high, float divisor, float *y);

/* y[n] = round(x[n] / scale) within [low, high] * scale: as a server does. */
void integer_round_trip(const float *x, size_t n, float scale, int low, int high,
                        float *y);

#endif
