/* Stored weights to float32, and the check that they are numbers. `in` may be
 * unaligned: a tensor starts wherever its file's header ends. */
#ifndef QUERN_KERNELS_CONVERT_H
#define QUERN_KERNELS_CONVERT_H

#include <stddef.h>

void convert_bf16(float *out, const void *in, size_t n);
void convert_f16(float *out, const void *in, size_t n);
void convert_f32(float *out, const void *in, size_t n);

/* The index of the first NaN or infinity, or n when there is none. */
size_t find_nonfinite_bf16(const void *in, size_t n);
size_t find_nonfinite_f16(const void *in, size_t n);
size_t find_nonfinite_f32(const void *in, size_t n);

#endif
