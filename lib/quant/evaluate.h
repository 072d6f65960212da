/* The damage a scheme does: the model with some groups quantised, weights and inputs
 * as a server would, against the model as it is, sample by sample.
 *
 * Many schemes are measured in one pass: the base model runs once a sample, the
 * weights are quantised once, and a scheme is only a choice among them. Blocks of
 * samples are stored per scheme, like all heavy results. */
#ifndef QUERN_QUANT_EVALUATE_H
#define QUERN_QUANT_EVALUATE_H

#include <stdint.h>

#include "lib/artifact/digest.h"
#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/quant/block_gpu.h"
#include "lib/quant/fold_file.h"
#include "lib/quant/formats/format.h"
#include "lib/quant/groups.h"
#include "lib/quant/provenance.h"
#include "lib/quant/source.h"

/* Groups in formats, to be measured together. */
struct variant_choice {
	const char *name;
	/* [group] of struct evaluation; NULL: it stays as it is. */
	const struct format *const *formats;
	bool fp8_cache; /* keys and values through FP8 */
};

struct evaluation {
	struct source_settings data;
	const struct linear_shape *linears;
	int linear_count;
	const struct group_list *groups;
	const float *input_amax; /* [linear] */
	const float *cache_amax; /* [part]; needed where a choice has an FP8 cache */
	struct provenance numbers;
	const struct folds *folds; /* of formats with channel scales; NULL: there are none */
	const struct variant_choice *choices;
	int choice_count;
	struct device_choice device;
	const char *tree;   /* with the store */
	const char *tool;   /* in keys, logs and progress */
	struct digest sources; /* of the tool */
	const char *target; /* in logs */
};

/* One sample. Sums over its tokens, float64. */
struct sample_damage {
	int tokens;    /* graded: of the answer, or of the text but the first */
	int positions; /* all, image placeholders included */
	double base_loss, loss; /* sums of the graded tokens' cross entropies */
	double kl, kl_all;      /* sums over graded tokens, and over all positions */
	int agreed;             /* graded tokens whose most likely id stayed the same */
	/* At the last token of what the model is given before it answers; in a sample
	 * that asks nothing, the last token. */
	double last_kl, last_mse;
	double *token_kl; /* [tokens] */
};

/* One choice, all samples. A sample that on_bad_sample let pass has 0 tokens. */
struct damage {
	struct sample_damage *samples;
	int count, skipped;
};

/* Fills damage[choice_count] for the rows of job->data; all in `memory`. */
bool evaluate_choices(const struct evaluation *job, struct damage *damage, arena *memory,
                      error *err);

#endif
