/* The pieces checkpoints are assembled from: for every group one safetensors file
 * with its codes and one with its weights as they are, and one file with all the
 * tensors that belong to no group. Made once, linked by every scheme. */
#ifndef QUERN_QUANT_VARIANTS_H
#define QUERN_QUANT_VARIANTS_H

#include "lib/artifact/memo.h"
#include "lib/artifact/store.h"
#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/base/json.h"
#include "lib/checkpoint/safetensors.h"
#include "lib/quant/groups.h"
#include "lib/quant/numerics.h"

/* One group's pieces. */
struct variant_pair {
	const char *group;              /* its name */
	struct output quantised, plain; /* quantised.bytes 0: the group has no codes */
	int member_count;
	const char *members[MAX_MEMBERS]; /* the linears' names */
	float weight_scales[MAX_MEMBERS]; /* as shipped */
};

/* quantize.json */
struct variant_set {
	struct variant_pair *pairs;
	int count;
	struct output rest;
	arena memory;
};

/* What quantise_variants works on. */
struct variant_job {
	const char *model;  /* folder */
	const char *tree;   /* with the store */
	const char *target; /* what logs call this edge */
	enum numerics numerics;
	bool shared_scales;
	const char *const *include; /* globs: groups that get codes; none: all */
	int include_count;
	const char *const *exclude; /* globs: of those, the ones that get none */
	int exclude_count;
};

/* Makes what the store lacks; bounded memory whatever the model's size. */
bool make_variants(struct variant_set *set, const struct variant_job *job, error *err);
bool print_variants(const struct variant_set *set, text *out, error *err);

bool variants_read(struct variant_set *set, const char *path, error *err);
void variants_free(struct variant_set *set);

#endif
