/* KL, squared distance and agreement of rows of logits; see divergence.h.
 *
 * Rounding: exponentials are float32, products and sums float64, and the difference
 * of two log-probabilities is taken from the logits first, so equal rows give
 * exactly 0 and small divergences are not drowned by the size of the logits. */
#include "kernels/divergence.h"

#include <math.h>

#include "kernels/portable.h"

#include "kernels/exp.h"
#include "kernels/lanes.h"

/* Independent sums, so that the loops vectorise; added in a fixed order. */
enum { SUMS = 8 };

static inline double add_up(const double *sums)
{
	double total = 0;
	for (int i = 0; i < SUMS; i++)
		total += sums[i];
	return total;
}

static inline double sum_of_exponentials(const float *x, size_t n, float largest)
{
	double sums[SUMS] = { 0 };
	size_t whole = n / SUMS * SUMS;
	for (size_t i = 0; i < whole; i += SUMS)
		for (size_t s = 0; s < SUMS; s++)
			sums[s] += (double)exp_portable(x[i + s] - largest);
	for (size_t i = whole; i < n; i++)
		sums[i - whole] += (double)exp_portable(x[i] - largest);
	return add_up(sums);
}

/* sum exp(base - largest) (base - other) and sum (base - other)^2 */
static inline void sum_differences(double *weighted, double *squared, const float *base,
                                   const float *other, size_t n, float largest)
{
	double w[SUMS] = { 0 }, q[SUMS] = { 0 };
	size_t whole = n / SUMS * SUMS;
	for (size_t i = 0; i < n; i += SUMS) {
		size_t end = i < whole ? SUMS : n - whole;
		for (size_t s = 0; s < end; s++) {
			double d = (double)base[i + s] - (double)other[i + s];
			w[s] += (double)exp_portable(base[i + s] - largest) * d;
			q[s] += d * d;
		}
	}
	*weighted = add_up(w);
	*squared = add_up(q);
}

static size_t first_of(const float *x, size_t n, float value)
{
	size_t i = 0;
	while (i + 1 < n && x[i] != value)
		i++;
	return i;
}

VECTOR_CLONES
void divergence_of_rows(struct divergence *out, const float *base, const float *other,
                        int rows, int vocab)
{
	size_t n = (size_t)vocab;
	for (int row = 0; row < rows; row++, base += n, other += n) {
		float top = max_of(base, n), other_top = max_of(other, n);
		double sum = sum_of_exponentials(base, n, top);
		double other_sum = sum_of_exponentials(other, n, other_top);
		double weighted, squared;
		sum_differences(&weighted, &squared, base, other, n, top);
		/* log p - log q = (base - other) - (log-sum of base - log-sum of other) */
		out[row].kl = weighted / sum - ((double)top - (double)other_top) -
		              log(sum / other_sum);
		out[row].squared = squared / (double)n;
		out[row].agrees = first_of(base, n, top) == first_of(other, n, other_top);
	}
}
