/* Is a ranking worth anything? The least sensitive groups must do clearly less damage
 * than as many drawn at random, and far less than the most sensitive ones. All ranked
 * groups take part, those too that no exported scheme quantises: it is the ranking
 * that is judged. */
#ifndef QUERN_QUANT_QUALITY_H
#define QUERN_QUANT_QUALITY_H

#include "lib/base/text.h"
#include "lib/quant/damage_file.h"
#include "lib/quant/material.h"

enum {
	QUALITY_CUTS = 3, /* 25, 50 and 75 % of the groups */
	QUALITY_DRAWS = 5,
	/* Least sensitive and the draws of every cut, and the most sensitive at 50 %. */
	QUALITY_CHOICES = QUALITY_CUTS * (1 + QUALITY_DRAWS) + 1
};

struct quality {
	int sizes[QUALITY_CUTS]; /* groups */
	double least[QUALITY_CUTS], draws[QUALITY_CUTS][QUALITY_DRAWS]; /* KL a token */
	double medians[QUALITY_CUTS];
	double reversed; /* at 50 % */
	bool cut_holds[QUALITY_CUTS]; /* least <= median / 2 */
	bool reversed_holds;          /* least at 50 % <= reversed / 5 */
};

int quality_percent(int cut);

/* The choices to measure; the draws are the same in every run. */
bool quality_choices(struct material *m, struct variant_choice *choices, error *err);

/* From what was measured of quality_choices, in their order. */
bool judge_quality(const struct material *m, const struct damage *damage,
                   struct quality *out, error *err);

bool print_quality(const struct quality *q, const struct damage_facts *facts, text *out,
                   error *err);

#endif
