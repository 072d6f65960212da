/* damage.<set>.json: what an evaluation set says about every scheme of a baseline. */
#ifndef QUERN_QUANT_DAMAGE_FILE_H
#define QUERN_QUANT_DAMAGE_FILE_H

#include "lib/base/json_tree.h"
#include "lib/base/text.h"
#include "lib/quant/evaluate.h"
#include "lib/quant/statistics.h"

/* What stands in the file besides the numbers. */
struct damage_facts {
	const char *baseline, *set, *data;
	bool stand_in; /* the data are not what the scheme's name speaks of */
};

/* The columns of one choice. Changes are paired: every sample with itself unquantised. */
struct damage_summary {
	int samples, tokens;
	double base_perplexity, perplexity;
	struct estimate loss_change; /* cross entropy per graded token, minus the base's */
	struct estimate kl;          /* per graded token */
	double kl_p99, kl_max;
	struct estimate agreement;
	struct estimate last_mse, last_kl; /* per sample */
	struct estimate kl_all; /* mean over a sample's positions, per sample */
};

bool summarise_damage(const struct damage *d, struct damage_summary *out, error *err);

/* {"mean", "standard_error"}; the latter null where there is none. */
cJSON *add_estimate(struct json_tree *tree, cJSON *parent, const char *name,
                    struct estimate e);

bool print_damage(const struct evaluation *job, const struct damage *damage,
                  const struct damage_facts *facts, text *out, error *err);

#endif
