/* Numbers for tests: reproducible inputs, comparisons that say which element is
 * wrong, and gradients by finite differences. */
#ifndef QUERN_TESTS_SUPPORT_NUMERIC_H
#define QUERN_TESTS_SUPPORT_NUMERIC_H

#include <stddef.h>
#include <stdint.h>

/* x[n] uniform in [-scale, scale], the same for the same seed everywhere. */
void fill_random(float *x, size_t n, float scale, uint32_t seed);

/* A function of one array whose gradient is to be checked. */
typedef double (*scalar_function)(const void *context, const double *x);

/* Asserts that gradient[n] is the slope of f at x[n], by central differences in
 * float64: |difference| <= tolerance * (1 + |slope|). */
void assert_gradient(scalar_function f, const void *context, const float *x,
                     const float *gradient, size_t n, double tolerance);

/* |found - expected| <= tolerance * (1 + |expected|), elementwise. */
void assert_close(const float *found, const double *expected, size_t n,
                  double tolerance);

/* FNV-1a over the bytes: results that must be the same bits everywhere are
 * compared with the hash they had when they were checked by other means. */
uint64_t hash_floats(const float *x, size_t n);

#endif
