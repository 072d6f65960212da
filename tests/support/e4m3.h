/* FP8 E4M3 by its definition, in float64 and without bit tricks, and the roundings
 * around it: what the kernels and the scales are held against. */
#ifndef QUERN_TESTS_SUPPORT_E4M3_H
#define QUERN_TESTS_SUPPORT_E4M3_H

#include <stdint.h>

enum { E4M3_LARGEST = 0x7E, E4M3_NAN = 0x7F };

/* OCP 8-bit floating point specification 1.0, table 1: sign, 4 exponent bits of
 * bias 7, 3 fraction bits. */
double e4m3_value(uint8_t code);

/* The code nearest to the real number x / scale (scale > 0), ties to the even code,
 * saturating: compared without any rounding for float32 x and scale. NaN gives the
 * NaN code; the sign of x is kept. */
uint8_t e4m3_nearest(double x, double scale);

/* The BF16 number nearest to x, ties to even; of a finite x it may be infinite. */
float bf16_reference(double x);

/* The float32 of a BF16 pattern. */
float bf16_pattern(uint32_t pattern);

#endif
