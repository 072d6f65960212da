/* Reductions in an order that depends on nothing but the length: sixteen partial
 * results taken in turn (element i goes to lane i % 16), combined pairwise. A
 * vector unit of any width up to sixteen floats can follow it. */
#ifndef QUERN_KERNELS_LANES_H
#define QUERN_KERNELS_LANES_H

#include <math.h>
#include <stddef.h>

enum { LANES = 16 };

static inline float sum_lanes(float lanes[LANES])
{
	for (int step = LANES / 2; step; step /= 2)
		for (int lane = 0; lane < step; lane++)
			lanes[lane] += lanes[lane + step];
	return lanes[0];
}

static inline float sum_of(const float *x, size_t n)
{
	float lanes[LANES] = { 0 };
	size_t whole = n / LANES * LANES;
	for (size_t i = 0; i < whole; i += LANES)
		for (size_t lane = 0; lane < LANES; lane++)
			lanes[lane] += x[i + lane];
	for (size_t i = whole; i < n; i++)
		lanes[i - whole] += x[i];
	return sum_lanes(lanes);
}

/* NaN is passed over: whatever is computed from the elements shows it anyway. */
static inline float max_of(const float *x, size_t n)
{
	float lanes[LANES];
	for (size_t lane = 0; lane < LANES; lane++)
		lanes[lane] = -INFINITY;
	size_t whole = n / LANES * LANES;
	for (size_t i = 0; i < whole; i += LANES)
		for (size_t lane = 0; lane < LANES; lane++)
			lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
	for (size_t i = whole; i < n; i++)
		lanes[i - whole] = x[i] > lanes[i - whole] ? x[i] : lanes[i - whole];
	float largest = -INFINITY;
	for (size_t lane = 0; lane < LANES; lane++)
		largest = lanes[lane] > largest ? lanes[lane] : largest;
	return largest;
}

#endif
