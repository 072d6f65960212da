/* Whole numbers of few bits, as INT8 and INT4 store them: to nearest, ties to even,
 * clamped. The arithmetic around it: lib/quant/formats/. */
#ifndef QUERN_KERNELS_INTEGER_H
#define QUERN_KERNELS_INTEGER_H

#include <stddef.h>
#include <stdint.h>

/* codes[n] = round(x[n] * multiplier) within [low, high], which |values| of at most
 * 2^21 bound; NaN gives low. */
void integer_encode(const float *x, size_t n, float multiplier, int low, int high,
                    int8_t *codes);

/* y[n] = that value / divisor: quantise and come back, as ModelOpt does. */
void integer_round_trip_divided(const float *x, size_t n, float multiplier, int low,
                                int high, float divisor, float *y);

/* y[n] = round(x[n] / scale) within [low, high] * scale: as a server does. */
void integer_round_trip(const float *x, size_t n, float scale, int low, int high,
                        float *y);

#endif
