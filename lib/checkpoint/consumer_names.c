/* What the consumers call the linears of Qwen2.5-VL, and how they rewrite the names
 * that their lists hold. */
#include "lib/checkpoint/consumer_lists.h"

#include <stdio.h>
#include <string.h>

static bool starts_with(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* vllm/model_executor/models/qwen2_5_vl.py, hf_to_vllm_mapper, and the same rules in
 * SGLang's model file, hf_to_sglang_mapper. They need the dot: a bare "lm_head" or
 * "model.visual" stays as it is. */
char *map_hub_prefix(const char *name, arena *memory, error *err)
{
	static const char *const rules[][2] = {
		{ "model.language_model.", "language_model.model." },
		{ "model.visual.", "visual." },
		{ "lm_head.", "language_model.lm_head." },
		{ "model.", "language_model.model." },
	};
	for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
		if (starts_with(name, rules[i][0]))
			return arena_printf(memory, err, "%s%s", rules[i][1],
			                    name + strlen(rules[i][0]));
	return arena_text(memory, name, strlen(name), err);
}

char *map_sglang_name(const char *name, arena *memory, error *err)
{
	static const char from[] = "attn.qkv", to[] = "attn.qkv_proj";
	const char *found = strstr(name, from);
	if (!found)
		return map_hub_prefix(name, memory, err);
	char *renamed = arena_printf(memory, err, "%.*s%s%s", (int)(found - name), name, to,
	                             found + sizeof from - 1);
	return renamed ? map_hub_prefix(renamed, memory, err) : NULL;
}

/* The module's name without the tower it lies in, and what each program's tree puts
 * there. */
static void write_tree_name(enum program program, const char *module,
                            char out[NAME_BYTES])
{
	static const char text[] = "language_model.";
	static const struct {
		const char *text, *vision, *head;
	} trees[] = {
		[PROGRAM_VLLM] = { "language_model.model.", "", "language_model." },
		[PROGRAM_SGLANG] = { "model.", "", "" },
		[PROGRAM_TENSORRT_LLM] = { "model.", "", "" },
		[PROGRAM_TRANSFORMERS] = { "model.language_model.", "model.", "" },
	};
	if (starts_with(module, text))
		snprintf(out, NAME_BYTES, "%s%s", trees[program].text, module + sizeof text - 1);
	else if (starts_with(module, "visual."))
		snprintf(out, NAME_BYTES, "%s%s", trees[program].vision, module);
	else
		snprintf(out, NAME_BYTES, "%s%s", trees[program].head, module);
}

/* The last component replaced by `leaf`. */
static void rename_leaf(const char *name, const char *leaf, char out[NAME_BYTES])
{
	snprintf(out, NAME_BYTES, "%.*s%s", (int)(name_leaf(name) - name), name, leaf);
}

/* transformers keeps every linear by itself. SGLang gives the vision tower's qkv the
 * name of a fused layer (layers/attention/vision.py). */
static const struct fused_layer *layer_built_for(enum program program,
                                                 const char *module)
{
	if (program == PROGRAM_TRANSFORMERS)
		return NULL;
	if (program == PROGRAM_SGLANG && strcmp(name_leaf(module), "qkv") == 0)
		return fused_layer_of("q_proj");
	return fused_layer_of(module);
}

bool build_module(enum program program, bool modelopt, const char *module,
                  struct built_module *built, error *err)
{
	char name[NAME_BYTES];
	*built = (struct built_module){ .consumer = "" };
	if (strlen(module) + sizeof "language_model.model.gate_up_proj" > NAME_BYTES ||
	    (!starts_with(module, "visual.") && !starts_with(module, "language_model.") &&
	     strcmp(module, "lm_head") != 0))
		return fail(err, EXIT_INTERNAL, "%.100s: expected a linear by quern's name",
		            module);
	const struct fused_layer *fused = layer_built_for(program, module);
	write_tree_name(program, module, name);
	rename_leaf(name, fused ? fused->name : name_leaf(name), built->name);
	/* SGLang's packed_modules_mapping of this model has no qkv_proj; only its matcher
	 * of ModelOpt's lists falls back to a table that has (_FALLBACK_FUSED_SHARDS). */
	bool known = program != PROGRAM_SGLANG || modelopt ||
	             fused != fused_layer_of("q_proj");
	if (!fused || !known)
		return true;
	for (int s = 0; s < fused->count; s++)
		rename_leaf(name, fused->shards[s], built->shards[s]);
	built->shard_count = fused->count;
	return true;
}

bool fail_split(const struct built_module *built, error *err)
{
	const struct fused_layer *fused = fused_layer_of(built->shards[0]);
	char members[64] = "";
	for (int s = 0; s < fused->count; s++) {
		size_t used = strlen(members);
		snprintf(members + used, sizeof members - used, "%s%s", s ? ", " : "",
		         fused->shards[s]);
	}
	return fail(err, EXIT_BAD_INPUT,
	            "%s refuses %s: its list names some of %s, expected all or none",
	            built->consumer, built->name, members);
}
