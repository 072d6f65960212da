/* Cross entropy by the log of a sum of exponentials, each relative to the row's
 * largest logit so that none overflows; see cross_entropy.h. */
#include "kernels/cross_entropy.h"

#include <math.h>

#include "kernels/portable.h"

#include "kernels/exp.h"
#include "kernels/lanes.h"

/* Exponentials summed in float32 before they go to the float64 total: few enough
 * that a vocabulary of any size loses nothing. */
enum { STRETCH = 1024 };

static inline float sum_of_exponentials(const float *x, size_t n, float largest)
{
	float lanes[LANES] = { 0 };
	size_t whole = n / LANES * LANES;
	for (size_t i = 0; i < whole; i += LANES)
		for (size_t lane = 0; lane < LANES; lane++)
			lanes[lane] += exp_portable(x[i + lane] - largest);
	for (size_t i = whole; i < n; i++)
		lanes[i - whole] += exp_portable(x[i] - largest);
	return sum_lanes(lanes);
}

VECTOR_CLONES
void cross_entropy_forward(double *losses, float *largest, float *sum,
                           const float *logits, const int32_t *targets, int rows,
                           int vocab)
{
	size_t n = (size_t)vocab;
	for (int row = 0; row < rows; row++, logits += n) {
		double total = 0;
		largest[row] = max_of(logits, n);
		for (size_t i = 0; i < n; i += STRETCH)
			total += sum_of_exponentials(
				logits + i, n - i < STRETCH ? n - i : STRETCH, largest[row]);
		sum[row] = (float)total;
		losses[row] = (double)largest[row] + log(total) - (double)logits[targets[row]];
	}
}

VECTOR_CLONES
void cross_entropy_backward(float *logits, const float *largest, const float *sum,
                            const int32_t *targets, int rows, int vocab, float scale)
{
	size_t n = (size_t)vocab;
	for (int row = 0; row < rows; row++, logits += n) {
		float share = scale / sum[row], top = largest[row];
		for (size_t i = 0; i < n; i++)
			logits[i] = exp_portable(logits[i] - top) * share;
		logits[targets[row]] -= scale;
	}
}
