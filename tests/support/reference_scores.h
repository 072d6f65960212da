/* Scores of a golden search (autoquant.*.json) beside scores made here from the same
 * samples, and how far they are apart. Failures fail the test. */
#ifndef QUERN_TESTS_SUPPORT_REFERENCE_SCORES_H
#define QUERN_TESTS_SUPPORT_REFERENCE_SCORES_H

#include "lib/base/json.h"
#include "lib/model/qwen.h"
#include "lib/quant/formats/format.h"
#include "lib/quant/groups.h"

/* A golden file, its samples, and the demo model calibrated on them. */
struct reference {
	json_doc doc;
	struct model_config config;
	struct checkpoint ckpt;
	struct model model;
	struct workspace *space;
	struct linear_shape *linears;
	int linear_count;
	struct group_list groups; /* all of them */
	struct sample *samples;
	int sample_count;
	float *input_amax; /* [linear_count] */
	arena memory;
};

void reference_open(struct reference *r, const char *folder, const char *name);
void reference_close(struct reference *r);

/* The golden's score of a group in its format number `format`; -1 where only NONE was a
 * candidate. */
double reference_score(const struct reference *r, const struct group *group, int format);

/* scores[group] of all samples under numerics modelopt and per-member scales; -1 where
 * the golden has none. */
void score_gradient(struct reference *r, const struct format *format, double *scores);
void score_divergence(struct reference *r, const struct format *format, double *scores);

/* Median of |found - golden| / golden, and Spearman's rank correlation, over the groups
 * that have a golden score. */
struct agreement {
	double median, spearman;
	int count;
};

struct agreement compare_scores(const struct reference *r, int format,
                                const double *scores);

#endif
