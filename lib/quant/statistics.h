/* The few statistics that damage tables and rankings need. */
#ifndef QUERN_QUANT_STATISTICS_H
#define QUERN_QUANT_STATISTICS_H

#include "lib/base/error.h"

/* A mean and its standard error; the error is -1 where there is nothing to estimate it
 * from (fewer than two samples). */
struct estimate {
	double mean, error;
};

/* sum(values) / sum(weights) over samples, which are the independent draws: tokens of
 * one sample are not. Standard error of the ratio estimator, sqrt(n/(n-1) sum (v - m w)^2)
 * / sum(w). weights NULL: all 1. Samples of weight 0 do not count. */
struct estimate estimate_ratio(const double *values, const double *weights, int count);

/* The smallest value that at least `share` of values[count] do not exceed; sorts them. */
double quantile(double *values, int count, double share);

double median(double *values, int count); /* sorts them */

/* Spearman's rank correlation, ties at their mean rank; 0 where it has no meaning. */
bool rank_correlation(const double *a, const double *b, int count, double *out, error *err);

#endif
