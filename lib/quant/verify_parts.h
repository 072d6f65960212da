/* What the files verify*.c share: a verification in progress. */
#ifndef QUERN_QUANT_VERIFY_PARTS_H
#define QUERN_QUANT_VERIFY_PARTS_H

#include "lib/checkpoint/safetensors.h"
#include "lib/quant/formats/format.h"
#include "lib/quant/groups.h"
#include "lib/quant/kv_format.h"
#include "lib/quant/provenance.h"
#include "lib/quant/verify.h"

enum { VERIFY_CHUNK = 1 << 18 }; /* elements at once */

struct verifier {
	const char *folder;
	json_doc list, manifest, config, hf_quant;
	const char *manifest_name; /* of the scheme itself, from the list */
	struct checkpoint base, published;
	struct model_config model;
	struct linear_shape *linears;
	int linear_count;
	struct group_list groups;
	const struct format **formats; /* [linear], by the manifest; NULL: as it is */
	float *wholes;          /* [linear]: the scale of the whole weight, where it has one */
	const float **scales;   /* [linear]: of its columns, as the norms have it; NULL: none */
	bool *seen;             /* [published.count]: tensors that were accounted for */
	struct provenance numbers; /* of the manifest */
	struct kv_format kv_cache; /* the same; name NULL: not quantised */
	enum profile profile;
	float *chunk;       /* [VERIFY_CHUNK] */
	struct verified *done;
	arena memory;
};

bool verify_load(const struct verifier *v, const char *name, json_doc *doc, error *err);

/* ---- verify_tensors.c ---- */

/* A scale of the profile's dtype and shape, finite and above 0. */
bool read_scale(const struct verifier *v, const char *name, float *scale, error *err);

/* Every published tensor is a base tensor to the byte, or belongs to a linear that the
 * manifest quantises and is what its format makes of the base's weight. */
bool verify_tensors(struct verifier *v, error *err);

/* The base's weight of a linear; NULL with the error filled. */
const struct tensor *base_weight(const struct verifier *v, int linear, error *err);

/* Whole rows at once of a weight of `in` columns, an even number of them. */
bool rows_at_once(const struct verifier *v, int linear, int *rows, error *err);

/* Rows of a linear's base weight as its format rounds them, into v->chunk. */
void expand_rows(const struct verifier *v, int linear, const struct tensor *t, int first,
                 int rows);
void forget_rows(const struct tensor *t, int out, int first, int rows);

/* verify_norms.c: whether a tensor is a norm before a group whose format has channel
 * scales; and if so, that it is the base's with such folded in, which go to v->scales. */
bool is_folded_norm(const struct verifier *v, const char *tensor, int *group);
bool verify_norm(struct verifier *v, const struct tensor *base, const struct tensor *t,
                 int group, error *err);

/* verify_twin.c: the weight of a quantised linear in the bf16 profile is, to the bit,
 * what the base's becomes when it is quantised and comes back. *twin: that weight. */
bool verify_twin(struct verifier *v, int linear, const struct tensor **twin, error *err);

/* verify_cache.c: everything says the same of the key/value cache, and where it is in FP8
 * each layer has the scales of its keys and values that the calibration gives. */
bool verify_cache(struct verifier *v, error *err);

/* Whether it is one of those scales. */
bool is_cache_scale(const struct verifier *v, const char *tensor);

/* verify_layout.c: scales have a file to themselves; or shards are numbered throughout
 * and none is larger than it may be. */
bool verify_layout(struct verifier *v, error *err);

#endif
