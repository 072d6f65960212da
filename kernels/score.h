/* The arithmetic of a sensitivity score, element by element. */
#ifndef QUERN_KERNELS_SCORE_H
#define QUERN_KERNELS_SCORE_H

#include <stddef.h>

/* sum over i of (gradient[i] * difference[i])^2: the products in float32, the
 * sum in float64, in an order that depends on n alone. */
double sum_squared_products(const float *gradient, const float *difference, size_t n);

/* difference[n] = perturbed[n] - plain[n]; difference may be perturbed. */
void subtract(float *difference, const float *perturbed, const float *plain, size_t n);

#endif
