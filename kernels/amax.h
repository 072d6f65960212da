/* The largest magnitude: what a scale is made from. */
#ifndef QUERN_KERNELS_AMAX_H
#define QUERN_KERNELS_AMAX_H

#include <stddef.h>

/* max |x[i]|, 0 for n == 0. If any element is NaN the result is NaN, otherwise
 * if any is infinite it is infinite, so that testing the result tests them all. */
float amax(const float *x, size_t n);

#endif
