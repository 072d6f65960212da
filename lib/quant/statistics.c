/* See statistics.h. */
#include "lib/quant/statistics.h"

#include <math.h>
#include <stdlib.h>

struct estimate estimate_ratio(const double *values, const double *weights, int count)
{
	struct estimate e = { .mean = 0, .error = -1 };
	double sum = 0, weight = 0, squares = 0;
	int used = 0;
	for (int i = 0; i < count; i++) {
		double w = weights ? weights[i] : 1;
		sum += w > 0 ? values[i] : 0;
		weight += w;
		used += w > 0;
	}
	if (!(weight > 0))
		return e;
	e.mean = sum / weight;
	for (int i = 0; i < count; i++) {
		double w = weights ? weights[i] : 1;
		double rest = w > 0 ? values[i] - e.mean * w : 0;
		squares += rest * rest;
	}
	if (used > 1)
		e.error = sqrt(squares * used / (used - 1)) / weight;
	return e;
}

static int compare_numbers(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

double quantile(double *values, int count, double share)
{
	if (count == 0)
		return 0;
	qsort(values, (size_t)count, sizeof *values, compare_numbers);
	int at = (int)ceil(share * count - 1e-9) - 1;
	return values[at < 0 ? 0 : at >= count ? count - 1 : at];
}

double median(double *values, int count)
{
	if (count == 0)
		return 0;
	qsort(values, (size_t)count, sizeof *values, compare_numbers);
	return count % 2 ? values[count / 2]
	                 : (values[count / 2 - 1] + values[count / 2]) / 2;
}

struct ranked {
	double value;
	int index;
};

static int compare_ranked(const void *a, const void *b)
{
	return compare_numbers(&((const struct ranked *)a)->value,
	                       &((const struct ranked *)b)->value);
}

static bool rank_values(const double *values, int count, double *ranks, error *err)
{
	struct ranked *order = malloc(((size_t)count + 1) * sizeof *order);
	if (!order)
		return fail_memory(err, "ranks", (unsigned long long)count * sizeof *order);
	for (int i = 0; i < count; i++)
		order[i] = (struct ranked){ values[i], i };
	qsort(order, (size_t)count, sizeof *order, compare_ranked);
	for (int i = 0, end; i < count; i = end) {
		for (end = i; end < count && order[end].value == order[i].value; end++)
			;
		for (int k = i; k < end; k++)
			ranks[order[k].index] = (i + end - 1) / 2.0;
	}
	free(order);
	return true;
}

bool rank_correlation(const double *a, const double *b, int count, double *out, error *err)
{
	double *ranks = malloc((2 * (size_t)count + 1) * sizeof *ranks);
	double xy = 0, xx = 0, yy = 0, mean = (count - 1) / 2.0;
	*out = 0;
	if (!ranks)
		return fail_memory(err, "ranks", 2ULL * (unsigned long long)count * sizeof *ranks);
	bool ok = rank_values(a, count, ranks, err) &&
	          rank_values(b, count, ranks + count, err);
	for (int i = 0; ok && i < count; i++) {
		double x = ranks[i] - mean, y = ranks[count + i] - mean;
		xy += x * y;
		xx += x * x;
		yy += y * y;
	}
	if (ok && xx > 0 && yy > 0)
		*out = xy / sqrt(xx * yy);
	free(ranks);
	return ok;
}
