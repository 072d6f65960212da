/* Which consumer reads which list, and what it builds; see consumers.h. How lists
 * are matched: consumer_modelopt.c and consumer_compressed.c; what modules are called:
 * consumer_names.c. */
#include "lib/checkpoint/consumers.h"

#include <stdio.h>
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

/* A form, and the linears that a consumer takes for being in it. */
struct form_rule {
	struct linear_form form;
	bool everywhere; /* all that is not ignored */
	struct entry_list targets;
};

/* What the files are to one consumer. */
struct view {
	bool reads;
	struct entry_list ignores;
	struct form_rule rules[MAX_STATED];
	int rule_count;
};

struct consumer_rules {
	struct view views[CONSUMER_COUNT];
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

/* vllm/model_executor/model_loader/weight_utils.py, get_quant_config, and SGLang's
 * function of that name: config.json's block, else hf_quant_config.json.
 * tensorrt_llm/_torch/model_config.py, from_pretrained: the other way round. */
static const struct statement *statement_for(enum consumer c, const struct statements *all)
{
	const struct statement *file = &all->file_modelopt, *in = &all->inline_modelopt;
	if (CONSUMERS[c].language == LANGUAGE_COMPRESSED)
		return &all->compressed;
	if (c == CONSUMER_TENSORRT_LLM)
		return file->doc ? file : in;
	return in->doc ? in : file;
}

/* vLLM: modelopt.py, LINEAR_ALGOS. SGLang: modelopt_quant.py, whose classes take "FP8"
 * and "NVFP4"; of MIXED_PRECISION it looks the text layers up under names that the
 * mapped list does not have, and finds nothing. TensorRT-LLM: quantization/mode.py,
 * QuantAlgo, which has them all. */
static bool knows(enum program program, const struct statement *s)
{
	static const char *const known[][4] = {
		[PROGRAM_VLLM] = { "FP8", "NVFP4", "FP8_PER_CHANNEL_PER_TOKEN" },
		[PROGRAM_SGLANG] = { "FP8", "NVFP4" },
	};
	if (program != PROGRAM_VLLM && program != PROGRAM_SGLANG)
		return true;
	if (program == PROGRAM_SGLANG && s->group_count > 1)
		return false;
	for (int g = 0; g < s->group_count; g++) {
		int k = 0;
		while (known[program][k] &&
		       strcmp(known[program][k], s->groups[g].form.algorithm) != 0)
			k++;
		if (!known[program][k])
			return false;
	}
	return true;
}

typedef bool list_reader(struct entry_list *, enum program, const json_doc *,
                         const cJSON *, arena *, error *);

static bool read_view(struct view *view, enum consumer c, const struct statement *s,
                      arena *memory, error *err)
{
	bool modelopt = CONSUMERS[c].language == LANGUAGE_MODELOPT;
	enum program program = CONSUMERS[c].program;
	list_reader *read = modelopt ? read_exclude_list : read_ignore_list;
	view->reads = s->doc && (!modelopt || knows(program, s));
	if (!view->reads)
		return true;
	if (s->ignores && !read(&view->ignores, program, s->doc, s->ignores, memory, err))
		return false;
	for (int g = 0; g < s->group_count; g++) {
		const struct stated_group *group = &s->groups[g];
		struct form_rule *rule = &view->rules[view->rule_count++];
		rule->form = group->form;
		rule->everywhere = group->targets == NULL;
		if (group->targets && !read(&rule->targets, program, s->doc, group->targets,
		                            memory, err))
			return false;
	}
	return true;
}

static bool read_views(struct consumer_rules *rules, const struct statements *all,
                       error *err)
{
	for (enum consumer c = 0; c < CONSUMER_COUNT; c++)
		if (!read_view(&rules->views[c], c, statement_for(c, all), &rules->memory, err))
			return false;
	return true;
}

bool consumer_open(struct consumer_rules **rules, const json_doc *config,
                   const json_doc *hf_quant_config, error *err)
{
	struct statements all;
	*rules = calloc(1, sizeof **rules);
	if (!*rules)
		return fail_memory(err, "consumers' rules", sizeof **rules);
	bool ok = statements_read(&all, config, hf_quant_config, &(*rules)->memory, err) &&
	          read_views(*rules, &all, err);
	(*rules)->inline_compressed = all.compressed.doc != NULL;
	statements_free(&all);
	if (ok)
		return true;
	consumer_close(*rules);
	*rules = NULL;
	return false;
}

void consumer_close(struct consumer_rules *rules)
{
	if (!rules)
		return;
	for (enum consumer c = 0; c < CONSUMER_COUNT; c++) {
		free_list(&rules->views[c].ignores);
		for (int r = 0; r < rules->views[c].rule_count; r++)
			free_list(&rules->views[c].rules[r].targets);
	}
	arena_free(&rules->memory);
	free(rules);
}

/* ---- Asking ---- */

bool consumer_reads(const struct consumer_rules *rules, enum consumer c)
{
	return rules->views[c].reads;
}

bool consumer_chooses(const struct consumer_rules *rules, enum consumer c)
{
	if (!consumer_reads(rules, c) || c == CONSUMER_TENSORRT_LLM)
		return consumer_reads(rules, c);
	return (CONSUMERS[c].language == LANGUAGE_COMPRESSED) == rules->inline_compressed;
}

/* TensorRT-LLM: modeling_qwen2vl.py, Qwen2VisionModelBase, which sets an empty
 * QuantConfig. lm_head is a ParallelLMHead in vLLM and SGLang, of whose names "Linear"
 * is no part, and SGLang consults no class names for it at all (get_lm_head_scheme).
 * patch_embed is a convolution, or built without a quantization config. */
bool consumer_takes_codes(enum consumer c, const char *module)
{
	if (strcmp(module, "visual.patch_embed.proj") == 0)
		return false;
	if (strcmp(module, "lm_head") == 0)
		return c != CONSUMER_VLLM_COMPRESSED && c != CONSUMER_SGLANG_COMPRESSED;
	return c != CONSUMER_TENSORRT_LLM || strncmp(module, "visual.", 7) != 0;
}

void consumer_spells(char out[64], enum consumer c, const struct linear_form *form)
{
	bool whole = form && form->weights.strategy &&
	             strcmp(form->weights.strategy, "tensor") == 0;
	if (!form)
		snprintf(out, 64, "BF16");
	else if (CONSUMERS[c].language == LANGUAGE_MODELOPT)
		snprintf(out, 64, "%s", form->algorithm);
	else
		snprintf(out, 64, "%s%d%s%s", strcmp(form->weights.type, "int") == 0 ? "INT" : "FP",
		         form->weights.bits, whole ? "" : " by ", whole ? "" : form->weights.strategy);
}

/* Where the programs decide that what consumer_takes_codes names is never quantised. */
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

/* The form that the rules give a module that is not ignored; NULL for none of them. */
static bool find_form(const struct view *view, enum program program,
                      const struct built_module *built, const struct linear_form **form,
                      struct entry_match *match, error *err)
{
	*form = NULL;
	for (int r = 0; r < view->rule_count; r++) {
		const struct form_rule *rule = &view->rules[r];
		struct entry_match here = { 0 };
		if (!rule->everywhere &&
		    !match_targets(&rule->targets, program, built, &here, err))
			return false;
		if (!rule->everywhere && !here.entry)
			continue;
		if (*form)
			return fail(err, EXIT_BAD_INPUT, "%s: %s is in two formats, by \"%s\" and "
			            "by \"%s\"", built->consumer, built->name,
			            match->entry->written, here.entry->written);
		*form = &rule->form;
		if (here.entry)
			*match = here;
	}
	return true;
}

/* Ignored, or in some form. */
static bool find_statement(const struct consumer_rules *rules, enum consumer c,
                           const char *module, struct built_module *built,
                           struct entry_match *match, const struct linear_form **form,
                           error *err)
{
	enum program program = CONSUMERS[c].program;
	const struct view *view = &rules->views[c];
	bool modelopt = CONSUMERS[c].language == LANGUAGE_MODELOPT;
	*form = NULL;
	if (!view->reads)
		return fail(err, EXIT_BAD_INPUT, "%s finds no quantization config it can read",
		            CONSUMERS[c].name);
	if (!build_module(program, modelopt, module, built, err))
		return false;
	built->consumer = CONSUMERS[c].name;
	bool ok = modelopt ? match_excludes(&view->ignores, program, built, match, err)
	                   : match_ignores(&view->ignores, program, built, match, err);
	return ok && (match->entry || find_form(view, program, built, form, match, err));
}

bool consumer_statement(const struct consumer_rules *rules, enum profile profile,
                        const char *module, const struct linear_form **form, error *err)
{
	struct built_module built;
	struct entry_match match;
	return find_statement(rules, profile == PROFILE_MODELOPT ? CONSUMER_TENSORRT_LLM
	                                                         : CONSUMER_TRANSFORMERS,
	                      module, &built, &match, form, err);
}

bool consumer_explain(const struct consumer_rules *rules, enum consumer c,
                      const char *module, struct explanation *out, error *err)
{
	struct built_module built;
	struct entry_match match;
	*out = (struct explanation){ 0 };
	if (!find_statement(rules, c, module, &built, &match, &out->form, err))
		return false;
	memcpy(out->built, built.name, sizeof out->built);
	memcpy(out->shards, built.shards, sizeof out->shards);
	out->shard_count = built.shard_count;
	if (consumer_takes_codes(c, module)) {
		out->entry = match.entry ? match.entry->written : NULL;
		out->how = match.how;
		out->rule = match.rule;
		return true;
	}
	out->form = NULL;
	out->rule = never_rule(c, module);
	return true;
}

static void add_why(text *why, enum consumer c, const char *module,
                    const struct explanation *e)
{
	if (!consumer_takes_codes(c, module))
		text_printf(why, "%s: never quantises %s", CONSUMERS[c].name, e->built);
	else if (e->entry)
		text_printf(why, "%s: \"%s\" %s %s", CONSUMERS[c].name, e->entry, e->how,
		            e->built);
	else
		text_printf(why, "%s: no entry matches %s", CONSUMERS[c].name, e->built);
}

bool consumer_decision(const struct consumer_rules *rules, enum consumer c,
                       const char *module, const struct linear_form **form, text *why,
                       error *err)
{
	struct explanation e;
	if (!consumer_explain(rules, c, module, &e, err))
		return false;
	*form = e.form;
	if (why)
		add_why(why, c, module, &e);
	return true;
}

bool consumer_agrees(enum consumer c, const struct linear_form *form,
                     const struct module_decision *module)
{
	if (!form || !module->quantised)
		return !form && !module->quantised;
	return CONSUMERS[c].language == LANGUAGE_COMPRESSED
	           ? forms_equal_compressed(form, module->form)
	           : forms_equal_modelopt(form, module->form);
}

/* The decision was not the expected one: asks once more, for the reason. */
static bool fail_decision(const struct consumer_rules *rules, enum consumer c,
                          const struct module_decision *module, error *err)
{
	text why = { 0 };
	const struct linear_form *form;
	char expected[64], found[64];
	if (consumer_decision(rules, c, module->name, &form, &why, err) && text_ok(&why, err)) {
		consumer_spells(expected, c, module->quantised ? module->form : NULL);
		consumer_spells(found, c, form);
		fail(err, EXIT_BAD_INPUT, "%s: expected %s, found %s by the rules of %s",
		     module->name, expected, found, why.data);
	}
	text_free(&why);
	return false;
}

bool consumer_check(const struct consumer_rules *rules, enum consumer c,
                    const struct module_decision *modules, int count, int *lost,
                    error *err)
{
	*lost = 0;
	for (int i = 0; i < count; i++) {
		const struct linear_form *form;
		if (!consumer_decision(rules, c, modules[i].name, &form, NULL, err))
			return false;
		if (consumer_agrees(c, form, &modules[i]))
			continue;
		if (form || consumer_takes_codes(c, modules[i].name))
			return fail_decision(rules, c, &modules[i], err);
		(*lost)++;
	}
	return true;
}
