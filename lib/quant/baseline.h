/* A scored baseline: every group with its candidate formats, scores and costs.
 * Read from a quant manifest, quern's own or ModelOpt's. */
#ifndef QUERN_QUANT_BASELINE_H
#define QUERN_QUANT_BASELINE_H

#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/base/json.h"
#include "lib/base/json_tree.h"
#include "lib/quant/groups.h"

enum { MAX_FORMATS = 8 };

/* The format that is always there: leave the group as it is. */
#define FORMAT_NONE "NONE(effective-bits: 16.0)"

struct scored_group {
	const char *name;
	int format_count; /* FORMAT_NONE, the last, included */
	const char *formats[MAX_FORMATS];
	double scores[MAX_FORMATS]; /* 0 for FORMAT_NONE */
	double costs[MAX_FORMATS];  /* weights * bits / 16 */
	double importance;          /* score of the cheapest format */
	int rank;                   /* 1 = least sensitive */
};

struct baseline {
	char *name; /* the scheme's name in the manifest */
	struct scored_group *groups; /* in module order */
	int count;
	int *ranking; /* group indices, least sensitive first */
	json_doc doc; /* the manifest itself */
	arena memory;
};

/* Whether there is a choice of formats. ModelOpt's manifests also list the groups
 * that its search was told to leave alone, with FORMAT_NONE only. */
bool is_candidate(const struct scored_group *group);

/* Ascending importance, ties in module order, what is no candidate last; fills rank
 * and ranking. */
bool rank_groups(struct baseline *b, error *err);

bool baseline_read(struct baseline *b, const char *path, error *err);
void baseline_free(struct baseline *b);

/* Adds `layer_sensitivity` and `sensitivity_ranking` to a manifest. */
void add_sensitivity(struct json_tree *tree, cJSON *manifest, const struct baseline *b);

#endif
