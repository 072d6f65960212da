/* Is a ranking worth anything? It goes by the score of a group in its format of fewest
 * bits, so groups are measured in that. The least sensitive groups must do clearly less damage
 * than as many drawn at random, and far less than the most sensitive ones; and groups
 * quantised alone must do damage in the order of their scores. All ranked groups take
 * part, those too that no exported scheme quantises: it is the ranking that is judged. */
#ifndef QUERN_QUANT_QUALITY_H
#define QUERN_QUANT_QUALITY_H

#include "lib/base/text.h"
#include "lib/quant/damage_file.h"
#include "lib/quant/material.h"

enum {
	QUALITY_CUTS = 3, /* 25, 50 and 75 % of the groups */
	QUALITY_DRAWS = 5,
	QUALITY_ALONE = 16, /* groups measured one by one, evenly spread over the ranks */
	/* Least sensitive and the draws of every cut, and the most sensitive at 50 %. */
	QUALITY_SETS = QUALITY_CUTS * (1 + QUALITY_DRAWS) + 1,
	QUALITY_CHOICES = QUALITY_SETS + QUALITY_ALONE
};

/* One group quantised, all others as they are. */
struct group_alone {
	const char *name;
	double score, kl; /* of the ranking; per graded token */
};

struct quality {
	int sizes[QUALITY_CUTS]; /* groups */
	double least[QUALITY_CUTS], draws[QUALITY_CUTS][QUALITY_DRAWS]; /* KL a token */
	double medians[QUALITY_CUTS];
	double reversed; /* at 50 % */
	/* KL of the least sensitive over that of the median draw, and of the reversed
	 * ranking; paired sample by sample. */
	struct estimate of_median[QUALITY_CUTS], of_reversed;
	struct group_alone alone[QUALITY_ALONE];
	int alone_count;
	double correlation; /* Spearman's, of the scores and KLs of alone[] */
	bool cut_holds[QUALITY_CUTS]; /* least <= median / 2 */
	bool reversed_holds;          /* least at 50 % <= reversed / 5 */
};

int quality_percent(int cut);

/* The choices to measure, at most QUALITY_CHOICES; the draws are the same in every run. */
bool quality_choices(struct material *m, struct variant_choice *choices, int *count,
                     error *err);

/* From what was measured of quality_choices, in their order. */
bool judge_quality(const struct material *m, const struct damage *damage,
                   struct quality *out, error *err);

bool print_quality(const struct quality *q, const struct damage_facts *facts, text *out,
                   error *err);

#endif
