/* How sure a ranking is, from the blocks of samples it was scored in. */
#ifndef QUERN_REPORT_CONFIDENCE_H
#define QUERN_REPORT_CONFIDENCE_H

#include "lib/report/findings.h"

enum { CUTS = 9 }; /* top 10 % ... 90 % */

struct confidence {
	int groups, blocks;
	/* [group] of its total score: sqrt(n/(n-1) sum (block - mean)^2) over n blocks; -1
	 * with fewer than two. */
	double *errors;
	/* [cut] share of all groups whose score lies within two standard errors of the cut,
	 * the geometric mean of the scores on its sides; -1 where there is no error. */
	double unsure[CUTS];
	/* [cut][block] share of the groups above the final cut that are above it already
	 * when only blocks 0 to `block` are counted. */
	double *settled;
};

/* NULL-like (blocks 0) when the state is missing. */
bool confidence_make(struct confidence *c, const struct found_baseline *b, arena *memory,
                     error *err);

/* How many groups a top-X % cut keeps. */
int cut_size(int groups, int cut);

#endif
