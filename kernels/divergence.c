/* KL(p || q) = sum_i P_i f(d_i), d_i = log P_i - log Q_i, f(d) = exp(-d) - 1 + d: the
 * same as sum P_i d_i, since P and Q add up to 1 each, but no term is negative, so
 * nothing cancels however close the two are; see divergence.h. */
#include "kernels/divergence.h"

#include <math.h>
#include <stdbool.h>

#include "kernels/portable.h"

#include "kernels/exp.h"
#include "kernels/lanes.h"

static inline double fold(double lanes[LANES])
{
	for (size_t step = LANES / 2; step; step /= 2)
		for (size_t lane = 0; lane < step; lane++)
			lanes[lane] += lanes[lane + step];
	return lanes[0];
}

VECTOR_CLONES
static double sum_exponentials(const float *x, size_t n, float most)
{
	double lanes[LANES] = { 0 };
	for (size_t i = 0; i < n; i += LANES) {
		size_t count = n - i < LANES ? n - i : LANES;
		for (size_t lane = 0; lane < count; lane++)
			lanes[lane] += exp_portable(x[i + lane] - most);
	}
	return fold(lanes);
}

/* f(d) by its series, for |d| < 1/8 exact to 1e-10 of itself. */
static inline double near_zero(double d)
{
	double tail = 1.0 / 720 - d * (1.0 / 5040 - d * (1.0 / 40320));
	return d * d * (0.5 - d * (1.0 / 6 - d * (1.0 / 24 - d * (1.0 / 120 - d * tail))));
}

/* A row's logits and how they become log-probabilities: x - most - log_sum. */
struct row {
	const float *x;
	float most;
	double log_sum;
};

VECTOR_CLONES
static double add_terms(struct row p, struct row q, size_t n)
{
	double lanes[LANES] = { 0 }, scale_p = exp(-p.log_sum), scale_q = exp(-q.log_sum);
	double shift = q.log_sum - p.log_sum;
	for (size_t i = 0; i < n; i += LANES) {
		size_t count = n - i < LANES ? n - i : LANES;
		for (size_t lane = 0; lane < count; lane++) {
			float a = p.x[i + lane] - p.most, b = q.x[i + lane] - q.most;
			double chance = exp_portable(a) * scale_p, other = exp_portable(b) * scale_q;
			double d = (double)a - b + shift;
			bool small = d < 0.125 && d > -0.125;
			lanes[lane] += small ? chance * near_zero(d) : other - chance + chance * d;
		}
	}
	return fold(lanes);
}

static struct row prepare_row(const float *x, size_t n)
{
	struct row row = { x, max_of(x, n), 0 };
	row.log_sum = log(sum_exponentials(x, n, row.most));
	return row;
}

double divergence(const float *p, const float *q, int rows, int vocab)
{
	size_t n = (size_t)vocab;
	double total = 0;
	for (int row = 0; row < rows; row++, p += n, q += n)
		total += add_terms(prepare_row(p, n), prepare_row(q, n), n);
	return total;
}

VECTOR_CLONES
static double sum_squares(const float *base, const float *other, size_t n)
{
	double lanes[LANES] = { 0 };
	for (size_t i = 0; i < n; i += LANES) {
		size_t count = n - i < LANES ? n - i : LANES;
		for (size_t lane = 0; lane < count; lane++) {
			double d = (double)base[i + lane] - (double)other[i + lane];
			lanes[lane] += d * d;
		}
	}
	return fold(lanes);
}

static size_t first_of(const float *x, size_t n, float value)
{
	size_t i = 0;
	while (i + 1 < n && x[i] != value)
		i++;
	return i;
}

void divergence_of_rows(struct divergence *out, const float *base, const float *other,
                        int rows, int vocab)
{
	size_t n = (size_t)vocab;
	for (int row = 0; row < rows; row++, base += n, other += n) {
		struct row p = prepare_row(base, n), q = prepare_row(other, n);
		out[row].kl = add_terms(p, q, n);
		out[row].squared = sum_squares(base, other, n) / (double)n;
		out[row].agrees = first_of(base, n, p.most) == first_of(other, n, q.most);
	}
}
