/* Moving whole rows: embedding, window order, the rows that are graded. */
#ifndef QUERN_KERNELS_ROWS_H
#define QUERN_KERNELS_ROWS_H

#include <stdint.h>

/* out[i][width] = in[index[i]][width] for i < count */
void gather_rows(float *out, const float *in, const int32_t *index, int count, int width);

/* out[index[i]][width] = in[i][width] for i < count; other rows stay. */
void scatter_rows(float *out, const float *in, const int32_t *index, int count, int width);

#endif
