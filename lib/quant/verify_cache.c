/* The key/value cache: what manifest, coverage and both configurations say of it, and
 * its scales, which must be what the calibration of the checkpoint's own search state
 * gives. A changed one would not be found in what the model computes from its weights. */
#include <stdio.h>
#include <string.h>

#include "lib/model/caches.h"
#include "lib/quant/amax_file.h"
#include "lib/quant/checkpoint_draft.h"
#include "lib/quant/verify_parts.h"

/* ---- what is said ---- */

/* The members of `scheme` that say static, symmetric FP8 per tensor; ModelOpt's form has
 * the first three. */
static bool is_fp8_scheme(const cJSON *scheme, enum profile profile)
{
	const cJSON *bits = cJSON_GetObjectItemCaseSensitive(scheme, "num_bits");
	const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(scheme, "type"));
	const char *strategy = cJSON_GetStringValue(
		cJSON_GetObjectItemCaseSensitive(scheme, "strategy"));
	return cJSON_IsNumber(bits) && bits->valuedouble == 8 && type &&
	       strcmp(type, "float") == 0 &&
	       cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(scheme, "dynamic")) &&
	       (profile == PROFILE_MODELOPT ||
	        (strategy && strcmp(strategy, "tensor") == 0 &&
	         cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(scheme, "symmetric"))));
}

/* `item` absent or null says that the cache stays as it is. */
static bool check_said(const struct verifier *v, const json_doc *doc, const cJSON *parent,
                       const cJSON *item, bool fp8, error *err)
{
	bool wanted = v->kv_cache.name != NULL;
	bool says_nothing = !item || cJSON_IsNull(item);
	if (wanted ? fp8 : says_nothing)
		return true;
	return json_fail(doc, item ? item : parent, err, "the manifest says that the key/value "
	                 "cache is %s, this says something else",
	                 wanted ? "in FP8" : "not quantised");
}

static bool check_configs(const struct verifier *v, error *err)
{
	const cJSON *block = json_object(&v->config, v->config.root, "quantization_config", err);
	bool alone = v->hf_quant.root == NULL; /* config.json is the only one */
	const cJSON *nested = !block || alone ? NULL : json_object(&v->hf_quant, v->hf_quant.root,
	                                                           "quantization", err);
	if (!block || (!alone && !nested))
		return false;
	const cJSON *scheme = cJSON_GetObjectItemCaseSensitive(block, "kv_cache_scheme");
	const cJSON *algo = cJSON_GetObjectItemCaseSensitive(nested, "kv_cache_quant_algo");
	bool fp8 = cJSON_IsString(algo) && strcmp(algo->valuestring, "FP8") == 0;
	return check_said(v, &v->config, block, scheme, is_fp8_scheme(scheme, v->profile), err) &&
	       (alone || check_said(v, &v->hf_quant, nested, algo, fp8, err));
}

static bool check_coverage(const struct verifier *v, const json_doc *coverage, arena *memory,
                           error *err)
{
	struct kv_format said;
	if (!kv_format_read(&said, coverage, memory, err))
		return false;
	const char *here = said.name ? said.name : "none";
	const char *there = v->kv_cache.name ? v->kv_cache.name : "none";
	return strcmp(here, there) == 0 ||
	       json_fail(coverage, coverage->root, err, "kv_cache: expected %s as in the "
	                 "manifest, found %s", there, here);
}

/* ---- scales ---- */

bool is_cache_scale(const struct verifier *v, const char *tensor)
{
	for (int i = 0; v->kv_cache.name && i < count_caches(&v->model); i++) {
		char name[NAME_BYTES];
		profile_cache_scale_name(v->profile, i / 2, i % 2, name);
		if (strcmp(name, tensor) == 0)
			return true;
	}
	return false;
}

/* The state of the search that the coverage was cut from lies beside it, under the name
 * of its manifest. */
static bool load_state(const struct verifier *v, const json_doc *coverage, json_doc *state,
                       error *err)
{
	static const char tail[] = "_quant_manifest.json";
	const char *manifest;
	char name[PATH_BYTES];
	if (!json_text(coverage, coverage->root, "baseline_manifest", &manifest, err))
		return false;
	const char *slash = strrchr(manifest, '/'), *file = slash ? slash + 1 : manifest;
	size_t length = strlen(file), stem = length - strlen(tail);
	if (length < strlen(tail) || strcmp(file + stem, tail) != 0)
		return json_fail(coverage, coverage->root, err, "baseline_manifest: expected a name "
		                 "that ends in %s, found \"%s\"", tail, manifest);
	snprintf(name, sizeof name, SENSITIVITY_FOLDER "/%.*s_autoquant_state.json", (int)stem,
	         file);
	return verify_load(v, name, state, err);
}

static bool check_scales(struct verifier *v, const json_doc *state, const float *amax,
                         int count, error *err)
{
	int parts = count_caches(&v->model);
	if (count != parts)
		return json_fail(state, state->root, err, AMAX_CACHE ": expected %d parts, found %d",
		                 parts, count);
	for (int i = 0; i < parts; i++) {
		char name[NAME_BYTES];
		float scale, expected = fp8_shipped_cache_scale(v->numbers.numerics, amax[i]);
		profile_cache_scale_name(v->profile, i / 2, i % 2, name);
		if (!read_scale(v, name, &scale, err))
			return false;
		if (scale != expected)
			return fail(err, EXIT_BAD_INPUT, "%s: %s: expected the scale %.9g of the "
			            "calibration, found %.9g", v->folder, name, (double)expected,
			            (double)scale);
	}
	return true;
}

static bool check_calibrated(struct verifier *v, const json_doc *coverage, arena *memory,
                             error *err)
{
	json_doc state;
	float *amax = NULL;
	int count;
	if (!v->kv_cache.name)
		return true;
	if (!load_state(v, coverage, &state, err))
		return false;
	bool ok = read_cache_amax(&state, memory, &amax, &count, err) &&
	          check_scales(v, &state, amax, count, err);
	json_free(&state);
	return ok;
}

bool verify_cache(struct verifier *v, error *err)
{
	json_doc coverage;
	arena memory = { 0 };
	char name[PATH_BYTES];
	if (!profile_is_quantised(v->profile))
		return !v->kv_cache.name ||
		       json_fail(&v->manifest, v->manifest.root, err, "kv_cache: expected none, since "
		                 "this profile has no scales");
	snprintf(name, sizeof name, "%s_coverage_from_baseline.json", v->manifest_name);
	if (!check_configs(v, err) || !verify_load(v, name, &coverage, err))
		return false;
	bool ok = check_coverage(v, &coverage, &memory, err) &&
	          check_calibrated(v, &coverage, &memory, err);
	json_free(&coverage);
	arena_free(&memory);
	return ok;
}
