/* Which consumer reads which list, and what it builds; see consumers.h. How lists
 * are matched: consumer_modelopt.c and consumer_compressed.c; what modules are called:
 * consumer_names.c. */
#include "lib/checkpoint/consumers.h"

#include <stdlib.h>
#include <string.h>

#include "lib/checkpoint/consumer_lists.h"

enum language { LANGUAGE_MODELOPT, LANGUAGE_COMPRESSED };

static const char *const PROGRAMS[] = {
	[PROGRAM_VLLM] = "vllm", [PROGRAM_SGLANG] = "sglang",
	[PROGRAM_TENSORRT_LLM] = "tensorrt-llm", [PROGRAM_TRANSFORMERS] = "transformers",
};

static const struct {
	const char *name;
	enum program program;
	enum language language;
} CONSUMERS[CONSUMER_COUNT] = {
	[CONSUMER_VLLM_MODELOPT] = { "vLLM (modelopt)", PROGRAM_VLLM, LANGUAGE_MODELOPT },
	[CONSUMER_VLLM_COMPRESSED] = { "vLLM (compressed-tensors)", PROGRAM_VLLM,
	                               LANGUAGE_COMPRESSED },
	[CONSUMER_SGLANG_MODELOPT] = { "SGLang (modelopt)", PROGRAM_SGLANG,
	                               LANGUAGE_MODELOPT },
	[CONSUMER_SGLANG_COMPRESSED] = { "SGLang (compressed-tensors)", PROGRAM_SGLANG,
	                                 LANGUAGE_COMPRESSED },
	[CONSUMER_TENSORRT_LLM] = { "TensorRT-LLM", PROGRAM_TENSORRT_LLM,
	                            LANGUAGE_MODELOPT },
	[CONSUMER_TRANSFORMERS] = { "transformers", PROGRAM_TRANSFORMERS,
	                            LANGUAGE_COMPRESSED },
};

struct consumer_rules {
	struct entry_list lists[CONSUMER_COUNT];
	bool reads[CONSUMER_COUNT];
	bool inline_compressed; /* config.json speaks compressed-tensors */
	arena memory;
};

const char *consumer_name(enum consumer c)
{
	return CONSUMERS[c].name;
}

const char *consumer_program(enum consumer c)
{
	return PROGRAMS[CONSUMERS[c].program];
}

/* ---- Opening ---- */

/* Fails unless the field is this text. */
static bool expect_text(const json_doc *doc, const cJSON *object, const char *field,
                        const char *expected, error *err)
{
	const char *found;
	if (!json_text(doc, object, field, &found, err))
		return false;
	return strcmp(found, expected) == 0 ||
	       json_fail(doc, cJSON_GetObjectItemCaseSensitive(object, field), err,
	                 "expected \"%s\", found \"%.60s\"", expected, found);
}

/* {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": false} */
static bool expect_tensor_fp8(const json_doc *doc, const cJSON *group, const char *field,
                              error *err)
{
	int64_t bits;
	bool dynamic, symmetric = true;
	const cJSON *numbers = json_object(doc, group, field, err);
	if (!numbers || !json_integer(doc, numbers, "num_bits", 8, 8, &bits, err) ||
	    !expect_text(doc, numbers, "type", "float", err) ||
	    !expect_text(doc, numbers, "strategy", "tensor", err) ||
	    !json_boolean(doc, numbers, "dynamic", &dynamic, err) ||
	    !json_boolean_or(doc, numbers, "symmetric", &symmetric, err))
		return false;
	return (!dynamic && symmetric) ||
	       json_fail(doc, numbers, err, "expected static, symmetric FP8");
}

/* One group, of all linears: then a linear is FP8 unless it is ignored. */
static bool expect_one_group(const json_doc *doc, const cJSON *block, error *err)
{
	const cJSON *groups = json_object(doc, block, "config_groups", err);
	if (!groups)
		return false;
	const cJSON *group = groups->child;
	if (!cJSON_IsObject(group) || group->next)
		return json_fail(doc, groups, err, "expected one group");
	const cJSON *targets = json_array(doc, group, "targets", err);
	if (!targets)
		return false;
	const cJSON *target = targets->child;
	if (!cJSON_IsString(target) || target->next ||
	    strcmp(target->valuestring, "Linear") != 0)
		return json_fail(doc, targets, err, "expected [\"Linear\"]");
	return expect_tensor_fp8(doc, group, "weights", err) &&
	       expect_tensor_fp8(doc, group, "input_activations", err);
}

/* A list in one of the files. */
struct source {
	const json_doc *doc;
	const cJSON *array; /* NULL: there is none */
};

static bool find_compressed(const json_doc *doc, const cJSON *block,
                            struct source *source, error *err)
{
	*source = (struct source){ .doc = doc };
	return expect_text(doc, block, "format", "float-quantized", err) &&
	       expect_text(doc, block, "quantization_status", "compressed", err) &&
	       expect_one_group(doc, block, err) &&
	       (source->array = json_array(doc, block, "ignore", err));
}

/* Nested ("quantization", "exclude_modules") or flat ("ignore"). SGLang takes no
 * other spelling of "FP8". */
static bool find_modelopt(const json_doc *doc, const cJSON *block, struct source *source,
                          error *err)
{
	bool nested = cJSON_GetObjectItemCaseSensitive(block, "quantization") != NULL;
	const cJSON *inner = nested ? json_object(doc, block, "quantization", err) : block;
	*source = (struct source){ .doc = doc };
	return inner && expect_text(doc, inner, "quant_algo", "FP8", err) &&
	       (source->array = json_array(doc, inner, nested ? "exclude_modules" : "ignore",
	                                   err));
}

/* What the two files hold, by language. */
struct sources {
	struct source inline_modelopt, file_modelopt, compressed;
};

static bool find_sources(struct sources *found, const json_doc *config,
                         const json_doc *hf_quant_config, error *err)
{
	const char *method;
	const cJSON *block = cJSON_GetObjectItemCaseSensitive(config->root,
	                                                      "quantization_config");
	*found = (struct sources){ 0 };
	if (hf_quant_config && !find_modelopt(hf_quant_config, hf_quant_config->root,
	                                      &found->file_modelopt, err))
		return false;
	if (!block)
		return true;
	if (!json_text(config, block, "quant_method", &method, err))
		return false;
	if (strcmp(method, "modelopt") == 0)
		return find_modelopt(config, block, &found->inline_modelopt, err);
	if (strcmp(method, "compressed-tensors") == 0)
		return find_compressed(config, block, &found->compressed, err);
	return json_fail(config, cJSON_GetObjectItemCaseSensitive(block, "quant_method"),
	                 err, "expected \"modelopt\" or \"compressed-tensors\", found "
	                 "\"%.60s\"", method);
}

/* vllm/model_executor/model_loader/weight_utils.py, get_quant_config, and SGLang's
 * function of that name: config.json's block, else hf_quant_config.json.
 * tensorrt_llm/_torch/model_config.py, from_pretrained: the other way round. */
static const struct source *source_for(enum consumer c, const struct sources *found)
{
	const struct source *file = &found->file_modelopt, *in = &found->inline_modelopt;
	if (CONSUMERS[c].language == LANGUAGE_COMPRESSED)
		return &found->compressed;
	if (c == CONSUMER_TENSORRT_LLM)
		return file->array ? file : in;
	return in->array ? in : file;
}

typedef bool list_reader(struct entry_list *, enum program, const json_doc *,
                         const cJSON *, arena *, error *);

static bool read_lists(struct consumer_rules *rules, const struct sources *found,
                       error *err)
{
	for (enum consumer c = 0; c < CONSUMER_COUNT; c++) {
		const struct source *source = source_for(c, found);
		list_reader *read = CONSUMERS[c].language == LANGUAGE_MODELOPT
		                        ? read_exclude_list : read_ignore_list;
		rules->reads[c] = source->array != NULL;
		if (source->array && !read(&rules->lists[c], CONSUMERS[c].program, source->doc,
		                           source->array, &rules->memory, err))
			return false;
	}
	return true;
}

bool consumer_open(struct consumer_rules **rules, const json_doc *config,
                   const json_doc *hf_quant_config, error *err)
{
	struct sources found;
	*rules = calloc(1, sizeof **rules);
	if (!*rules)
		return fail_memory(err, "consumers' rules", sizeof **rules);
	if (find_sources(&found, config, hf_quant_config, err) &&
	    read_lists(*rules, &found, err)) {
		(*rules)->inline_compressed = found.compressed.array != NULL;
		return true;
	}
	consumer_close(*rules);
	*rules = NULL;
	return false;
}

void consumer_close(struct consumer_rules *rules)
{
	if (!rules)
		return;
	for (enum consumer c = 0; c < CONSUMER_COUNT; c++)
		free_list(&rules->lists[c]);
	arena_free(&rules->memory);
	free(rules);
}

/* ---- Asking ---- */

bool consumer_reads(const struct consumer_rules *rules, enum consumer c)
{
	return rules->reads[c];
}

bool consumer_chooses(const struct consumer_rules *rules, enum consumer c)
{
	if (!rules->reads[c] || c == CONSUMER_TENSORRT_LLM)
		return rules->reads[c];
	return (CONSUMERS[c].language == LANGUAGE_COMPRESSED) == rules->inline_compressed;
}

/* TensorRT-LLM: modeling_qwen2vl.py, Qwen2VisionModelBase, which sets an empty
 * QuantConfig. lm_head is a ParallelLMHead in vLLM and SGLang, of whose names "Linear"
 * is no part, and SGLang consults no class names for it at all (get_lm_head_scheme).
 * patch_embed is a convolution, or built without a quantization config. */
bool consumer_takes_fp8(enum consumer c, const char *module)
{
	if (strcmp(module, "visual.patch_embed.proj") == 0)
		return false;
	if (strcmp(module, "lm_head") == 0)
		return c != CONSUMER_VLLM_COMPRESSED && c != CONSUMER_SGLANG_COMPRESSED;
	return c != CONSUMER_TENSORRT_LLM || strncmp(module, "visual.", 7) != 0;
}

/* Where the programs decide that what consumer_takes_fp8 names is never FP8. */
static const char *never_rule(enum consumer c, const char *module)
{
	static const char *const heads[] = {
		[PROGRAM_VLLM] = "vllm/model_executor/layers/quantization/compressed_tensors/"
		                 "utils.py, find_matched_target",
		[PROGRAM_SGLANG] = "sglang/srt/layers/quantization/compressed_tensors/"
		                   "compressed_tensors.py, get_lm_head_scheme",
	};
	static const char *const patches[] = {
		[PROGRAM_VLLM] = "vllm/model_executor/models/qwen2_5_vl.py, "
		                 "Qwen2_5_VisionPatchEmbed",
		[PROGRAM_SGLANG] = "sglang/srt/models/qwen2_5_vl.py, Qwen2_5_VisionPatchEmbed",
		[PROGRAM_TRANSFORMERS] = "transformers/models/qwen2_5_vl/modeling_qwen2_5_vl.py, "
		                         "Qwen2_5_VisionPatchEmbed",
	};
	if (c == CONSUMER_TENSORRT_LLM)
		return "tensorrt_llm/_torch/models/modeling_qwen2vl.py, Qwen2VisionModelBase";
	return (strcmp(module, "lm_head") == 0 ? heads : patches)[CONSUMERS[c].program];
}

static bool ask(const struct consumer_rules *rules, enum consumer c,
                const struct built_module *built, struct explanation *out, error *err)
{
	struct entry_match match;
	enum program program = CONSUMERS[c].program;
	bool ok = CONSUMERS[c].language == LANGUAGE_MODELOPT
	              ? match_excludes(&rules->lists[c], program, built, &match, err)
	              : match_ignores(&rules->lists[c], program, built, &match, err);
	if (!ok)
		return false;
	out->quantised = match.entry == NULL;
	out->entry = match.entry ? match.entry->written : NULL;
	out->how = match.how;
	out->rule = match.rule;
	return true;
}

bool consumer_explain(const struct consumer_rules *rules, enum consumer c,
                      const char *module, struct explanation *out, error *err)
{
	struct built_module built;
	bool modelopt = CONSUMERS[c].language == LANGUAGE_MODELOPT;
	*out = (struct explanation){ 0 };
	if (!rules->reads[c])
		return fail(err, EXIT_BAD_INPUT, "%s finds no quantization config it can read",
		            CONSUMERS[c].name);
	if (!build_module(CONSUMERS[c].program, modelopt, module, &built, err))
		return false;
	built.consumer = CONSUMERS[c].name;
	memcpy(out->built, built.name, sizeof out->built);
	memcpy(out->shards, built.shards, sizeof out->shards);
	out->shard_count = built.shard_count;
	if (consumer_takes_fp8(c, module))
		return ask(rules, c, &built, out, err);
	out->rule = never_rule(c, module);
	return true;
}

static void add_why(text *why, enum consumer c, const char *module,
                    const struct explanation *e)
{
	if (!consumer_takes_fp8(c, module))
		text_printf(why, "%s: never builds %s in FP8", CONSUMERS[c].name, e->built);
	else if (e->entry)
		text_printf(why, "%s: \"%s\" %s %s", CONSUMERS[c].name, e->entry, e->how,
		            e->built);
	else
		text_printf(why, "%s: no entry matches %s", CONSUMERS[c].name, e->built);
}

bool consumer_decision(const struct consumer_rules *rules, enum consumer c,
                       const char *module, bool *quantised, text *why, error *err)
{
	struct explanation e;
	if (!consumer_explain(rules, c, module, &e, err))
		return false;
	*quantised = e.quantised;
	if (why)
		add_why(why, c, module, &e);
	return true;
}

/* The decision was not the expected one: asks once more, for the reason. */
static bool fail_decision(const struct consumer_rules *rules, enum consumer c,
                          const struct module_decision *module, error *err)
{
	text why = { 0 };
	bool quantised;
	if (consumer_decision(rules, c, module->name, &quantised, &why, err) &&
	    text_ok(&why, err))
		fail(err, EXIT_BAD_INPUT, "%s: expected %s, found %s by the rules of %s",
		     module->name, module->quantised ? "FP8" : "BF16",
		     quantised ? "FP8" : "BF16", why.data);
	text_free(&why);
	return false;
}

bool consumer_check(const struct consumer_rules *rules, enum consumer c,
                    const struct module_decision *modules, int count, int *lost,
                    error *err)
{
	*lost = 0;
	for (int i = 0; i < count; i++) {
		bool quantised;
		if (!consumer_decision(rules, c, modules[i].name, &quantised, NULL, err))
			return false;
		if (quantised == modules[i].quantised)
			continue;
		if (quantised || consumer_takes_fp8(c, modules[i].name))
			return fail_decision(rules, c, &modules[i], err);
		(*lost)++;
	}
	return true;
}
