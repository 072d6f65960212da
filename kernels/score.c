/* Sixteen partial sums taken in turn and then added pairwise: an order that
 * vector units of any width can follow, so the result is the same on all. */
#include "kernels/score.h"

#include "kernels/lanes.h"
#include "kernels/portable.h"

VECTOR_CLONES
double sum_squared_products(const float *gradient, const float *difference, size_t n)
{
	double lanes[LANES] = { 0 };
	size_t whole = n / LANES * LANES;
	for (size_t i = 0; i < whole; i += LANES)
		for (size_t lane = 0; lane < LANES; lane++) {
			double product = gradient[i + lane] * difference[i + lane];
			lanes[lane] += product * product;
		}
	for (size_t i = whole; i < n; i++) {
		double product = gradient[i] * difference[i];
		lanes[i - whole] += product * product;
	}
	for (size_t step = LANES / 2; step; step /= 2)
		for (size_t lane = 0; lane < step; lane++)
			lanes[lane] += lanes[lane + step];
	return lanes[0];
}

VECTOR_CLONES
void subtract(float *difference, const float *perturbed, const float *plain, size_t n)
{
	for (size_t i = 0; i < n; i++)
		difference[i] = perturbed[i] - plain[i];
}
