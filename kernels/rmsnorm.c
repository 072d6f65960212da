/* Root mean square normalisation, row by row; the backward computes the row's scale
 * again instead of keeping it. Formulas: rmsnorm.h. */
#include "kernels/rmsnorm.h"

#include <math.h>

#include "kernels/portable.h"

#include "kernels/lanes.h"

static inline float sum_of_squares(const float *x, size_t n)
{
	float lanes[LANES] = { 0 };
	size_t whole = n / LANES * LANES;
	for (size_t i = 0; i < whole; i += LANES)
		for (size_t lane = 0; lane < LANES; lane++)
			lanes[lane] += x[i + lane] * x[i + lane];
	for (size_t i = whole; i < n; i++)
		lanes[i - whole] += x[i] * x[i];
	return sum_lanes(lanes);
}

/* sum of weight * dy * x */
static inline float sum_of_products(const float *weight, const float *dy,
                                    const float *x, size_t n)
{
	float lanes[LANES] = { 0 };
	size_t whole = n / LANES * LANES;
	for (size_t i = 0; i < whole; i += LANES)
		for (size_t lane = 0; lane < LANES; lane++)
			lanes[lane] += weight[i + lane] * dy[i + lane] * x[i + lane];
	for (size_t i = whole; i < n; i++)
		lanes[i - whole] += weight[i] * dy[i] * x[i];
	return sum_lanes(lanes);
}

VECTOR_CLONES
void rmsnorm_forward(float *y, const float *x, const float *weight, int rows,
                     int width, float eps)
{
	size_t n = (size_t)width;
	for (int row = 0; row < rows; row++, x += n, y += n) {
		float r = 1.0f / sqrtf(sum_of_squares(x, n) / (float)width + eps);
		for (size_t i = 0; i < n; i++)
			y[i] = weight[i] * (x[i] * r);
	}
}

VECTOR_CLONES
void rmsnorm_backward(float *dx, const float *dy, const float *x, const float *weight,
                      int rows, int width, float eps)
{
	size_t n = (size_t)width;
	for (int row = 0; row < rows; row++, x += n, dy += n, dx += n) {
		float r = 1.0f / sqrtf(sum_of_squares(x, n) / (float)width + eps);
		float mean = sum_of_products(weight, dy, x, n) / (float)width;
		float pull = r * r * mean;
		for (size_t i = 0; i < n; i++)
			dx[i] += r * (weight[i] * dy[i] - x[i] * pull);
	}
}
