/* The pieces checkpoints are assembled from, in one format: for every group one
 * safetensors file with its packed weights and one with its weights as they are, and
 * one file with all the tensors that belong to no group. Made once, linked by every
 * scheme. */
#ifndef QUERN_QUANT_VARIANTS_H
#define QUERN_QUANT_VARIANTS_H

#include "lib/artifact/memo.h"
#include "lib/artifact/store.h"
#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/base/json.h"
#include "lib/checkpoint/safetensors.h"
#include "lib/quant/fold_file.h"
#include "lib/quant/groups.h"
#include "lib/quant/formats/format.h"

/* One group's pieces. */
struct variant_pair {
	const char *group;              /* its name */
	struct output quantised, plain; /* quantised.bytes 0: the group has no codes; else
	                                   packed weights, but for scales of whole ones */
	int member_count;
	const char *members[MAX_MEMBERS]; /* the linears' names */
	float weight_scales[MAX_MEMBERS]; /* of whole members, as shipped; 1: has none */
};

/* quantize.json */
struct variant_set {
	const char *format_name; /* the catalog's */
	const struct format *format;
	enum profile profile; /* whose tensors the packed weights are */
	struct variant_pair *pairs;
	int count;
	struct output rest;
	/* Of a format with channel scales: the norms before groups, which rest lacks then, as
	 * they are, and with the scales folded in. bytes 0: it has none. */
	struct output norms, folded;
	arena memory;
};

/* What quantise_variants works on. */
struct variant_job {
	const char *model;  /* folder */
	const char *tree;   /* with the store */
	const char *target; /* what logs call this edge */
	const char *format_name; /* what the catalog calls it */
	const struct format *format;
	enum profile profile; /* universal or modelopt: whose tensors are made */
	const struct folds *folds; /* of a format with channel scales */
	enum numerics numerics;
	bool shared_scales;
	bool skip_bad_shapes; /* no codes, not an error, where the format does not fit */
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
