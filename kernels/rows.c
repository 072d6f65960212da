/* Moving rows; see rows.h. */
#include "kernels/rows.h"

#include <stddef.h>
#include <string.h>

void gather_rows(float *out, const float *in, const int32_t *index, int count, int width)
{
	size_t bytes = (size_t)width * sizeof(float);
	for (int i = 0; i < count; i++)
		memcpy(out + (size_t)i * width, in + (size_t)index[i] * width, bytes);
}

void scatter_rows(float *out, const float *in, const int32_t *index, int count, int width)
{
	size_t bytes = (size_t)width * sizeof(float);
	for (int i = 0; i < count; i++)
		memcpy(out + (size_t)index[i] * width, in + (size_t)i * width, bytes);
}
