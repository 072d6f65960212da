/* Second half of verification: what the files say; see verify.h. */
#include "lib/quant/verify.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/model/caches.h"
#include "lib/model/linears.h"
#include "lib/quant/checkpoint_draft.h"
#include "lib/quant/formats/format.h"
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
	return provenance_read(&v->numbers, &v->manifest, err) &&
	       kv_format_read(&v->kv_cache, &v->manifest, &v->memory, err);
}

/* A universal folder has the file where ModelOpt's language means the same tensors. */
static bool load_hf_quant(struct verifier *v, error *err)
{
	static const char name[] = "hf_quant_config.json";
	char path[PATH_BYTES];
	if (!join_path(path, sizeof path, v->folder, name, err))
		return false;
	return (v->profile == PROFILE_UNIVERSAL && !file_exists(path)) ||
	       verify_load(v, name, &v->hf_quant, err);
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
		return load_hf_quant(v, err);
	}
	v->profile = PROFILE_BF16;
	return join_path(path, sizeof path, v->folder, "hf_quant_config.json", err) &&
	       (!file_exists(path) ||
	        fail(err, EXIT_BAD_INPUT, "%s: expected no such file beside a config.json "
	             "without quantization_config", path));
}

/* The format that a layer's entry names. */
static bool find_format(const struct verifier *v, const cJSON *layer,
                        const struct format **out, error *err)
{
	const char *name;
	return json_text(&v->manifest, layer, "format", &name, err) &&
	       (*out = provenance_format(&v->manifest, name, err));
}

/* A model may have linears that the baseline never looked at: they are as they were. */
static bool find_formats(struct verifier *v, error *err)
{
	const cJSON *layers = json_object(&v->manifest, v->manifest.root, "layers", err);
	int64_t claimed;
	if (!layers || !json_integer(&v->manifest, v->manifest.root, "num_quantized_layers", 0,
	                             v->linear_count, &claimed, err))
		return false;
	for (int i = 0; i < v->linear_count; i++) {
		const cJSON *layer = cJSON_GetObjectItemCaseSensitive(layers, v->linears[i].name);
		if (!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(layer, "quantized")))
			continue;
		if (!find_format(v, layer, &v->formats[i], err))
			return false;
		v->done->quantised_linears++;
	}
	return claimed == v->done->quantised_linears ||
	       json_fail(&v->manifest, v->manifest.root, err,
	                 "num_quantized_layers is %lld, %d of its layers are quantised",
	                 (long long)claimed, v->done->quantised_linears);
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
	size_t count = (size_t)v->linear_count;
	v->formats = arena_alloc(&v->memory, count, sizeof *v->formats, err);
	v->wholes = arena_alloc(&v->memory, count, sizeof *v->wholes, err);
	v->scales = arena_alloc(&v->memory, count, sizeof *v->scales, err);
	v->seen = arena_alloc(&v->memory, v->published.count, sizeof *v->seen, err);
	return v->formats && v->wholes && v->scales && v->seen &&
	        find_formats(v, err);
}

/* ---- groups, manifest, coverage ---- */

static bool verify_groups(const struct verifier *v, error *err)
{
	for (int g = 0; g < v->groups.count; g++) {
		const struct group *group = &v->groups.groups[g];
		int first = group->members[0];
		for (int m = 1; m < group->member_count; m++) {
			int linear = group->members[m];
			if (v->formats[linear] != v->formats[first])
				return fail(err, EXIT_BAD_INPUT,
				            "%s: %s and %s are fused when served but differ in precision",
				            v->folder, v->linears[first].name, v->linears[linear].name);
			if (v->numbers.shared_scales && v->wholes[linear] != v->wholes[first])
				return fail(err, EXIT_BAD_INPUT,
				            "%s: %s: expected the scale %g of its group, found %g",
				            v->folder, v->linears[linear].name, (double)v->wholes[first],
				            (double)v->wholes[linear]);
		}
	}
	return true;
}

/* What the coverage says of a group against what the manifest says of its layers, and
 * the bits of the format against those that its score was made for. */
static bool verify_choice(const struct verifier *v, const struct coverage *c,
                          const struct scored_group *scored, int number, const char *path,
                          error *err)
{
	const struct group *group = find_group(&v->groups, scored->name);
	if (!group)
		return fail(err, EXIT_BAD_INPUT, "%s: %s is no group of the model", path,
		            scored->name);
	const struct format *format = v->formats[group->members[0]];
	if (!format != !c->keeps[number])
		return fail(err, EXIT_BAD_INPUT, "%s: %s: coverage says %s, the manifest says %s",
		            path, scored->name, c->keeps[number] ? "selected" : "dropped",
		            format ? "quantised" : "not quantised");
	double bits = 16 * scored->costs[c->choice[number]] /
	              scored->costs[scored->format_count - 1];
	if (format && fabs(bits - format->bits) > 1e-9)
		return fail(err, EXIT_BAD_INPUT, "%s: %s: coverage says %g bits, the manifest's "
		            "format has %g", path, scored->name, bits, format->bits);
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
	for (int i = 0; ok && i < b->count; i++)
		ok = verify_choice(v, &c, &b->groups[i], i, path, err);
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
	if (!baseline_read(&b, v->manifest.name, err))
		return false;
	bool ok = verify_coverage(v, &b, err);
	baseline_free(&b);
	return ok;
}

/* ---- consumers ---- */

static bool speaks_modelopt(enum consumer c)
{
	return c == CONSUMER_VLLM_MODELOPT || c == CONSUMER_SGLANG_MODELOPT ||
	       c == CONSUMER_TENSORRT_LLM;
}

/* The universal profile speaks to everybody, where its tensors are those of both
 * languages; ModelOpt's to those that know it and the formats. TensorRT-LLM knows all. */
static bool must_read(const struct verifier *v, enum consumer c)
{
	if (!speaks_modelopt(c))
		return v->profile == PROFILE_UNIVERSAL;
	bool bilingual = true;
	for (int i = 0; i < v->linear_count; i++)
		bilingual = bilingual && (!v->formats[i] || v->formats[i]->form.bilingual);
	return bilingual || (v->profile == PROFILE_MODELOPT && c == CONSUMER_TENSORRT_LLM);
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
		decisions[i] = (struct module_decision){ v->linears[i].name,
			v->formats[i] != NULL, v->formats[i] ? &v->formats[i]->form : NULL };
	bool ok = consumer_open(&rules, &v->config, v->hf_quant.root ? &v->hf_quant : NULL, err);
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
