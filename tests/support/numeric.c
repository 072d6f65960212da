#include "tests/support/numeric.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void fill_random(float *x, size_t n, float scale, uint32_t seed)
{
	uint32_t state = seed * 2654435761u + 12345u;
	for (size_t i = 0; i < n; i++) {
		state ^= state << 13;
		state ^= state >> 17;
		state ^= state << 5;
		x[i] = ((float)(state >> 8) / 8388608.0f - 1.0f) * scale;
	}
}

static void assert_one(double found, double expected, size_t i, double tolerance)
{
	if (!(fabs(found - expected) <= tolerance * (1 + fabs(expected))))
		fail_msg("element %zu: expected %.9g, found %.9g", i, expected, found);
}

void assert_gradient(scalar_function f, const void *context, const float *x,
                     const float *gradient, size_t n, double tolerance)
{
	const double step = 1e-5;
	double *at = malloc(n * sizeof *at);
	assert_non_null(at);
	for (size_t i = 0; i < n; i++)
		at[i] = x[i];
	for (size_t i = 0; i < n; i++) {
		at[i] = x[i] + step;
		double above = f(context, at);
		at[i] = x[i] - step;
		double below = f(context, at);
		at[i] = x[i];
		assert_one(gradient[i], (above - below) / (2 * step), i, tolerance);
	}
	free(at);
}

void assert_close(const float *found, const double *expected, size_t n, double tolerance)
{
	for (size_t i = 0; i < n; i++)
		assert_one(found[i], expected[i], i, tolerance);
}

uint64_t hash_floats(const float *x, size_t n)
{
	uint64_t hash = 14695981039346656037u;
	const unsigned char *bytes = (const unsigned char *)x;
	for (size_t i = 0; i < n * sizeof *x; i++)
		hash = (hash ^ bytes[i]) * 1099511628211u;
	return hash;
}
