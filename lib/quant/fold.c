/* Channel scales and the norms that hold them; see fold.h. */
#include "lib/quant/fold.h"

#include <math.h>

#include "lib/quant/numerics.h"

void fold_norm(const float *norm, const float *scales, int in, float *folded)
{
	for (int i = 0; i < in; i++) {
		float value = bf16_nearest(norm[i] / scales[i]);
		folded[i] = isnormal(value) ? value : norm[i];
	}
}

int fold_scales(const float *norm, const float *folded, int in, float *scales)
{
	for (int i = 0; i < in; i++) {
		scales[i] = norm[i] == folded[i] ? 1.0f : norm[i] / folded[i];
		if (!isnormal(scales[i]) || scales[i] < 0)
			return i;
	}
	return in;
}

void scale_columns(float *w, int rows, int in, const float *scales)
{
	for (int row = 0; row < rows; row++, w += in)
		for (int i = 0; i < in; i++)
			w[i] *= scales[i];
}

void unscale_columns(float *w, int rows, int in, const float *scales)
{
	for (int row = 0; row < rows; row++, w += in)
		for (int i = 0; i < in; i++)
			w[i] /= scales[i];
}
