/* What the files verify*.c share: a verification in progress. */
#ifndef QUERN_QUANT_VERIFY_PARTS_H
#define QUERN_QUANT_VERIFY_PARTS_H

#include "lib/checkpoint/safetensors.h"
#include "lib/quant/groups.h"
#include "lib/quant/kv_format.h"
#include "lib/quant/numerics.h"
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
	bool *fp8; /* [linear]: what the published tensors are */
	enum numerics numerics; /* of the manifest */
	bool shared_scales;     /* the same */
	struct kv_format kv_cache; /* the same; name NULL: not quantised */
	enum profile profile;
	float *chunk;       /* [VERIFY_CHUNK] */
	float *twin_scales; /* [linear] of PROFILE_BF16; 0: not computed yet */
	struct verified *done;
	arena memory;
};

bool verify_load(const struct verifier *v, const char *name, json_doc *doc, error *err);

/* A scale of the profile's dtype and shape, finite and above 0. */
bool read_scale(const struct verifier *v, const char *name, float *scale, error *err);

/* Whether the manifest has this linear among the quantised ones. */
bool manifest_quantises(const struct verifier *v, int linear);

/* The linear whose weight this tensor is, or -1. */
int linear_of_tensor(const struct verifier *v, const char *tensor);

/* The base's weight of a linear; NULL with the error filled. */
const struct tensor *base_weight(const struct verifier *v, int linear, error *err);

/* verify_twin.c: the weight of a quantised linear in the bf16 profile is, to the bit,
 * what the base's becomes when it is quantised and comes back. */
bool verify_twin(struct verifier *v, int linear, const struct tensor *t,
                 const struct tensor *base, error *err);

/* verify_cache.c: everything says the same of the key/value cache, and where it is in FP8
 * each layer has the scales of its keys and values that the calibration gives. */
bool verify_cache(struct verifier *v, error *err);

/* Whether it is one of those scales. */
bool is_cache_scale(const struct verifier *v, const char *tensor);

/* verify_layout.c: scales have a file to themselves; or shards are numbered throughout
 * and none is larger than it may be. */
bool verify_layout(struct verifier *v, error *err);

#endif
