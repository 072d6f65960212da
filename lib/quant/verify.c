/* Second half of verification: what the files say; see verify.h. */
#include "lib/quant/verify.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/fp8.h"
#include "lib/base/file.h"
#include "lib/model/caches.h"
#include "lib/model/expand.h"
#include "lib/model/linears.h"
#include "lib/quant/assemble.h"
#include "lib/quant/slice.h"
#include "lib/quant/verify_files.h"
#include "lib/quant/verify_parts.h"

enum { MAX_JSON_BYTES = 256 << 20 };

bool verify_load(const struct verifier *v, const char *name, json_doc *doc, error *err)
{
	char path[PATH_BYTES];
	return join_path(path, sizeof path, v->folder, name, err) &&
	       json_load(doc, path, MAX_JSON_BYTES, err);
}

/* The list is called <file_name>_files.json; the manifests share the file name. */
static bool load_manifest(struct verifier *v, error *err)
{
	const char *slash = strrchr(v->list.name, '/');
	const char *file = slash ? slash + 1 : v->list.name;
	int stem = (int)(strlen(file) - strlen(FILES_SUFFIX));
	v->manifest_name = arena_printf(&v->memory, err, SENSITIVITY_FOLDER "/%.*s", stem,
	                                file);
	char name[PATH_BYTES];
	if (!v->manifest_name)
		return false;
	snprintf(name, sizeof name, "%s_quant_manifest.json", v->manifest_name);
	if (!verify_load(v, name, &v->manifest, err))
		return false;
	const cJSON *provenance = cJSON_GetObjectItemCaseSensitive(v->manifest.root,
	                                                           "provenance");
	const char *numerics = "quern", *scales = "group";
	if (provenance &&
	    !(json_text_or(&v->manifest, provenance, "numerics", &numerics, err) &&
	      json_text_or(&v->manifest, provenance, "weight_scales", &scales, err)))
		return false;
	v->shared_scales = strcmp(scales, "group") == 0;
	if (!kv_format_read(&v->kv_cache, &v->manifest, &v->memory, err))
		return false;
	return numerics_from_name(numerics, &v->numerics) ||
	       json_fail(&v->manifest, provenance, err, "unknown numerics \"%s\"", numerics);
}

/* By the files alone: without a quantization config it can only be the bf16 profile,
 * which then has none in the other file either. */
static bool find_profile(struct verifier *v, error *err)
{
	const char *method, *field = "quantization_config";
	char path[PATH_BYTES];
	if (cJSON_HasObjectItem(v->config.root, field)) {
		const cJSON *block = json_object(&v->config, v->config.root, field, err);
		if (!block || !json_text(&v->config, block, "quant_method", &method, err))
			return false;
		v->profile = strcmp(method, "modelopt") == 0 ? PROFILE_MODELOPT
		                                             : PROFILE_UNIVERSAL;
		return verify_load(v, "hf_quant_config.json", &v->hf_quant, err);
	}
	v->profile = PROFILE_BF16;
	return join_path(path, sizeof path, v->folder, "hf_quant_config.json", err) &&
	       (!file_exists(path) ||
	        fail(err, EXIT_BAD_INPUT, "%s: expected no such file beside a config.json "
	             "without quantization_config", path));
}

static bool load_all(struct verifier *v, const char *model, error *err)
{
	v->chunk = malloc(VERIFY_CHUNK * sizeof(float));
	if (!v->chunk)
		return fail_memory(err, "a chunk of weights", VERIFY_CHUNK * sizeof(float));
	if (!load_manifest(v, err) || !verify_load(v, "config.json", &v->config, err) ||
	    !find_profile(v, err) || !checkpoint_open(&v->base, model, err) ||
	    !checkpoint_open(&v->published, v->folder, err) ||
	    !model_config_load(&v->model, v->folder, err) ||
	    !list_linears(&v->model, &v->memory, &v->linears, &v->linear_count, err) ||
	    !make_groups(v->linears, v->linear_count, NULL, 0, &v->memory, &v->groups, err))
		return false;
	v->fp8 = arena_alloc(&v->memory, (size_t)v->linear_count, sizeof *v->fp8, err);
	v->twin_scales = arena_alloc(&v->memory, (size_t)v->linear_count,
	                             sizeof *v->twin_scales, err);
	return v->fp8 && v->twin_scales;
}

/* ---- tensors ---- */

static bool same_shape(const struct tensor *a, const struct tensor *b)
{
	return a->rank == b->rank &&
	       memcmp(a->shape, b->shape, (size_t)a->rank * sizeof a->shape[0]) == 0;
}

bool read_scale(const struct verifier *v, const char *name, float *scale, error *err)
{
	const struct tensor *t = checkpoint_find(&v->published, name);
	enum dtype dtype = profile_scale_dtype(v->profile);
	if (!t)
		return fail(err, EXIT_BAD_INPUT, "%s: expected tensor %s, found none", v->folder,
		            name);
	if (t->dtype != dtype || t->rank != profile_scale_rank(v->profile) || t->elements != 1)
		return fail(err, EXIT_BAD_INPUT,
		            "%s: %s: expected one %s of rank %d, found %s of rank %d", t->file,
		            name, dtype_name(dtype), profile_scale_rank(v->profile),
		            dtype_name(t->dtype), t->rank);
	expand_values(scale, t->dtype, t->data, 1);
	if (!(isfinite(*scale) && *scale > 0))
		return fail(err, EXIT_BAD_INPUT, "%s: %s: expected a finite scale above 0, found %g",
		            t->file, name, (double)*scale);
	return true;
}

/* `suffix` is "weight_scale" or "input_scale". */
static bool read_linear_scale(const struct verifier *v, int linear, const char *suffix,
                              float *scale, error *err)
{
	char hub[NAME_BYTES], name[NAME_BYTES + 32];
	name_to_hub(v->linears[linear].name, hub);
	snprintf(name, sizeof name, "%s.%s", hub, suffix);
	return read_scale(v, name, scale, err);
}

static bool verify_codes(const struct verifier *v, const struct tensor *codes,
                         const struct tensor *base, float scale, error *err)
{
	float steps = v->numerics == NUMERICS_MODELOPT ? 1.0f : 0.5f;
	for (int64_t at = 0; at < base->elements; at += VERIFY_CHUNK) {
		int64_t left = base->elements - at;
		size_t count = (size_t)(left < VERIFY_CHUNK ? left : VERIFY_CHUNK);
		expand_values(v->chunk, base->dtype,
		              (const char *)base->data + (size_t)at * dtype_bytes(base->dtype),
		              count);
		const uint8_t *piece = (const uint8_t *)codes->data + at;
		size_t far = fp8_find_far(piece, v->chunk, count, scale, steps);
		if (far < count)
			return fail(err, EXIT_BAD_INPUT,
			            "%s: %s[%lld]: expected a code within %g step of %g, found 0x%02X "
			            "(%g)", codes->file, codes->name, (long long)at + (long long)far,
			            (double)steps, (double)v->chunk[far], piece[far],
			            (double)(fp8_to_float(piece[far]) * scale));
		forget_pages(piece, count);
		forget_pages((const char *)base->data + (size_t)at * dtype_bytes(base->dtype),
		             count * dtype_bytes(base->dtype));
	}
	return true;
}

/* `name` is "<module>.weight" of a linear that the published file has in FP8. */
static bool verify_fp8(struct verifier *v, int linear, const struct tensor *t,
                       const struct tensor *base, error *err)
{
	float weight_scale, input_scale;
	v->fp8[linear] = true;
	v->done->fp8_linears++;
	return read_linear_scale(v, linear, "weight_scale", &weight_scale, err) &&
	       read_linear_scale(v, linear, "input_scale", &input_scale, err) &&
	       verify_codes(v, t, base, weight_scale, err);
}

bool manifest_quantises(const struct verifier *v, int linear)
{
	const cJSON *layers = cJSON_GetObjectItemCaseSensitive(v->manifest.root, "layers");
	const cJSON *layer = cJSON_GetObjectItemCaseSensitive(layers, v->linears[linear].name);
	return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(layer, "quantized"));
}

const struct tensor *base_weight(const struct verifier *v, int linear, error *err)
{
	char hub[NAME_BYTES], name[NAME_BYTES + 8];
	name_to_hub(v->linears[linear].name, hub);
	snprintf(name, sizeof name, "%s.weight", hub);
	const struct tensor *t = checkpoint_find(&v->base, name);
	if (!t)
		fail(err, EXIT_BAD_INPUT, "%s: expected tensor %s, found none", v->base.folder,
		     name);
	return t;
}

int linear_of_tensor(const struct verifier *v, const char *tensor)
{
	char module[NAME_BYTES];
	size_t length = strlen(tensor), suffix = strlen(".weight");
	name_from_any(tensor, module);
	length = strlen(module);
	if (length <= suffix || strcmp(module + length - suffix, ".weight") != 0)
		return -1;
	module[length - suffix] = '\0';
	for (int i = 0; i < v->linear_count; i++)
		if (strcmp(v->linears[i].name, module) == 0)
			return i;
	return -1;
}

/* Through both mappings at once, without keeping them. */
static bool same_bytes(const struct tensor *a, const struct tensor *b)
{
	enum { AT_ONCE = 1 << 20 };
	const char *x = a->data, *y = b->data;
	bool same = a->bytes == b->bytes;
	for (size_t at = 0; same && at < a->bytes; at += AT_ONCE) {
		size_t some = a->bytes - at < AT_ONCE ? a->bytes - at : AT_ONCE;
		same = memcmp(x + at, y + at, some) == 0;
		forget_pages(x + at, some);
		forget_pages(y + at, some);
	}
	return same;
}

static bool verify_tensor(struct verifier *v, const struct tensor *base, error *err)
{
	const struct tensor *t = checkpoint_find(&v->published, base->name);
	if (!t)
		return fail(err, EXIT_BAD_INPUT, "%s: expected the base's tensor %s, found none",
		            v->folder, base->name);
	if (!same_shape(t, base))
		return fail(err, EXIT_BAD_INPUT, "%s: %s: expected the base's shape", t->file,
		            t->name);
	v->done->tensors++;
	int linear = linear_of_tensor(v, t->name);
	if (!profile_is_quantised(v->profile) && linear >= 0 && manifest_quantises(v, linear))
		return verify_twin(v, linear, t, base, err);
	if (t->dtype == DTYPE_F8_E4M3 && base->dtype != DTYPE_F8_E4M3 &&
	    profile_is_quantised(v->profile)) {
		return linear >= 0 ? verify_fp8(v, linear, t, base, err)
		                   : fail(err, EXIT_BAD_INPUT,
		                          "%s: %s: expected %s, found F8_E4M3 in a tensor that is "
		                          "no linear's weight", t->file, t->name,
		                          dtype_name(base->dtype));
	}
	if (t->dtype != base->dtype || !same_bytes(t, base))
		return fail(err, EXIT_BAD_INPUT, "%s: %s: expected the base's bytes in %s, found "
		            "others in %s", t->file, t->name, dtype_name(base->dtype),
		            dtype_name(t->dtype));
	return true;
}

/* Two scales an FP8 linear and two a layer whose cache is in FP8, where the profile has
 * any, and nothing else beside the base's tensors. */
static bool verify_tensors(struct verifier *v, error *err)
{
	for (size_t i = 0; i < v->base.count; i++)
		if (!verify_tensor(v, v->base.by_name[i], err))
			return false;
	bool quantised = profile_is_quantised(v->profile);
	int scales = quantised ? 2 * v->done->fp8_linears : 0;
	v->done->cache_scales = quantised && v->kv_cache.name ? count_caches(&v->model) : 0;
	scales += v->done->cache_scales;
	size_t expected = v->base.count + (size_t)scales;
	for (size_t i = 0; v->published.count != expected && i < v->published.count; i++) {
		const char *name = v->published.by_name[i]->name;
		if (checkpoint_find(&v->base, name) || is_cache_scale(v, name))
			continue;
		const char *dot = strrchr(name, '.');
		char weight[NAME_BYTES + 8];
		snprintf(weight, sizeof weight, "%.*s.weight", dot ? (int)(dot - name) : 0, name);
		int linear = linear_of_tensor(v, weight);
		if (linear < 0 || !v->fp8[linear] || !quantised)
			return fail(err, EXIT_BAD_INPUT,
			            "%s: %s: a scale of what is not in FP8, or a stranger",
			            v->published.by_name[i]->file, name);
	}
	v->done->tensors += scales;
	return v->published.count == expected ||
	       fail(err, EXIT_BAD_INPUT, "%s: expected %zu tensors, found %zu", v->folder,
	            expected, v->published.count);
}

/* ---- groups, manifest, coverage ---- */

static bool verify_groups(const struct verifier *v, error *err)
{
	for (int g = 0; g < v->groups.count; g++) {
		const struct group *group = &v->groups.groups[g];
		float first = 0, scale;
		for (int m = 0; m < group->member_count; m++) {
			int linear = group->members[m];
			if (v->fp8[linear] != v->fp8[group->members[0]])
				return fail(err, EXIT_BAD_INPUT,
				            "%s: %s and %s are fused when served but differ in precision",
				            v->folder, v->linears[group->members[0]].name,
				            v->linears[linear].name);
			if (!v->fp8[linear] || !v->shared_scales || !profile_is_quantised(v->profile))
				continue;
			if (!read_linear_scale(v, linear, "weight_scale", &scale, err))
				return false;
			first = m == 0 ? scale : first;
			if (scale != first)
				return fail(err, EXIT_BAD_INPUT,
				            "%s: %s: expected the scale %g of its group, found %g",
				            v->folder, v->linears[linear].name, (double)first,
				            (double)scale);
		}
	}
	return true;
}

static bool verify_layers(const struct verifier *v, error *err)
{
	const cJSON *layers = json_object(&v->manifest, v->manifest.root, "layers", err);
	int64_t claimed;
	if (!layers || !json_integer(&v->manifest, v->manifest.root, "num_quantized_layers", 0,
	                             v->linear_count, &claimed, err))
		return false;
	for (int i = 0; i < v->linear_count; i++) {
		const cJSON *layer = cJSON_GetObjectItemCaseSensitive(layers, v->linears[i].name);
		bool says = manifest_quantises(v, i);
		if (says != v->fp8[i])
			return json_fail(&v->manifest, layer ? layer : layers, err,
			                 "%s: the manifest says %s, the tensors say %s",
			                 v->linears[i].name, says ? "FP8" : "not FP8",
			                 v->fp8[i] ? "FP8" : "not FP8");
	}
	if (claimed != v->done->fp8_linears)
		return json_fail(&v->manifest, v->manifest.root, err,
		                 "num_quantized_layers is %lld, the tensors have %d",
		                 (long long)claimed, v->done->fp8_linears);
	return true;
}

/* coverage_read checks that selected + dropped = all groups; here they are held
 * against the tensors, and the bits against both. */
static bool verify_coverage(struct verifier *v, const struct baseline *b, error *err)
{
	struct coverage c;
	char name[PATH_BYTES], path[PATH_BYTES];
	snprintf(name, sizeof name, "%s_coverage_from_baseline.json", v->manifest_name);
	if (!join_path(path, sizeof path, v->folder, name, err) ||
	    !coverage_read(&c, b, path, err))
		return false;
	bool ok = true;
	for (int i = 0; ok && i < b->count; i++) {
		const struct group *group = find_group(&v->groups, b->groups[i].name);
		if (!group)
			ok = fail(err, EXIT_BAD_INPUT, "%s: %s is no group of the model", path,
			          b->groups[i].name);
		else if (v->fp8[group->members[0]] != c.keeps[i])
			ok = fail(err, EXIT_BAD_INPUT, "%s: %s: coverage says %s, the tensors say %s",
			          path, b->groups[i].name, c.keeps[i] ? "selected" : "dropped",
			          c.keeps[i] ? "not FP8" : "FP8");
	}
	double claimed = 0;
	const cJSON *scheme = json_object(&v->manifest, v->manifest.root, "scheme", err);
	ok = ok && scheme && json_number(&v->manifest, scheme, "auto_quantize_bits", 0, 16,
	                                 &claimed, err);
	if (ok && fabs(claimed - c.delivered_bits) > 1e-9)
		ok = json_fail(&v->manifest, scheme, err, "claims %.6f bits, delivers %.6f",
		               claimed, c.delivered_bits);
	v->done->groups_selected = c.selected;
	v->done->groups_total = c.total;
	v->done->bits = c.delivered_bits;
	coverage_free(&c);
	return ok;
}

static bool verify_manifests(struct verifier *v, error *err)
{
	struct baseline b;
	if (!verify_layers(v, err) || !baseline_read(&b, v->manifest.name, err))
		return false;
	bool ok = verify_coverage(v, &b, err);
	baseline_free(&b);
	return ok;
}

/* ---- consumers ---- */

/* The universal profile speaks to everybody, ModelOpt's to those that know it. */
static bool must_read(const struct verifier *v, enum consumer c)
{
	return v->profile == PROFILE_UNIVERSAL || c == CONSUMER_VLLM_MODELOPT ||
	       c == CONSUMER_SGLANG_MODELOPT || c == CONSUMER_TENSORRT_LLM;
}

static bool verify_consumers(const struct verifier *v, error *err)
{
	struct consumer_rules *rules = NULL;
	for (int c = 0; c < CONSUMER_COUNT; c++)
		v->done->lost[c] = -1;
	if (!profile_is_quantised(v->profile))
		return true;
	struct module_decision *decisions = calloc((size_t)v->linear_count, sizeof *decisions);
	if (!decisions)
		return fail_memory(err, "the decisions", 0);
	for (int i = 0; i < v->linear_count; i++)
		decisions[i] = (struct module_decision){ v->linears[i].name, v->fp8[i] };
	bool ok = consumer_open(&rules, &v->config, &v->hf_quant, err);
	for (int c = 0; ok && c < CONSUMER_COUNT; c++) {
		if (consumer_reads(rules, (enum consumer)c))
			ok = consumer_check(rules, (enum consumer)c, decisions, v->linear_count,
			                    &v->done->lost[c], err);
		else if (must_read(v, (enum consumer)c))
			ok = fail(err, EXIT_BAD_INPUT, "%s: neither configuration says anything to %s",
			          v->folder, consumer_name((enum consumer)c));
	}
	consumer_close(rules);
	free(decisions);
	return ok;
}

static void free_verifier(struct verifier *v)
{
	json_free(&v->list);
	json_free(&v->manifest);
	json_free(&v->config);
	json_free(&v->hf_quant);
	checkpoint_close(&v->base);
	checkpoint_close(&v->published);
	free(v->chunk);
	arena_free(&v->memory);
}

bool verify_checkpoint(const char *folder, const char *model, struct verified *out,
                       error *err)
{
	struct verifier v = { .folder = folder, .done = out };
	*out = (struct verified){ 0 };
	bool ok = verify_files(folder, &v.list, &out->files, &out->bytes, err) &&
	          load_all(&v, model, err) && verify_tensors(&v, err) && verify_layout(&v, err) &&
	          verify_groups(&v, err) && verify_manifests(&v, err) && verify_cache(&v, err) &&
	          verify_consumers(&v, err);
	out->profile = profile_name(v.profile);
	free_verifier(&v);
	return ok;
}
