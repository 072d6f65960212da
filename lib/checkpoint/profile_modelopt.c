/* The quantization configs in ModelOpt's words, laid out as ModelOpt 0.47.0 does it
 * (modelopt/torch/export/quant_utils.py, process_layer_quant_config, and
 * convert_hf_config.py): one format with a list of what is left out, or MIXED_PRECISION
 * with a list of what is in which. Why each entry looks as it does: the rules in
 * consumer_modelopt.c. */
#include <stdio.h>
#include <string.h>

#include "lib/checkpoint/fused.h"
#include "lib/checkpoint/names.h"
#include "lib/checkpoint/profile_parts.h"

/* Readers know a ModelOpt config by the producer's name; the version is that of
 * the ModelOpt whose layout is written here ("0.47.0": flat quantization_config,
 * nested hf_quant_config.json, hub names). None of the readers looks at it. What
 * made the checkpoint is in its manifest. */
#define PRODUCER "modelopt"
#define PRODUCER_VERSION "0.47.0"

/* The exclude list: hub names in full, because a wildcard after a number also hits
 * every number it begins ("model.layers.1*": 10 to 19), and
 * - for a tower left alone, "visual" and "visual.*": readers differ in which of the
 *   two they understand;
 * - beside q, k and v, "....self_attn.q*": SGLang before 0.5.23 asks for qkv_proj
 *   without knowing what is fused into it. In vLLM, which takes it for a
 *   substring, it means the same matrix. */
static void add_excludes(struct json_tree *tree, cJSON *list,
                         const struct model_decisions *d)
{
	bool whole = vision_is_whole(d), named = false;
	for (int i = 0; i < d->count; i++) {
		char hub[NAME_BYTES], alias[NAME_BYTES + 1];
		if (d->modules[i].quantised)
			continue;
		if (whole && starts_with(d->modules[i].name, VISION)) {
			if (!named) {
				tree_text(tree, list, NULL, "visual");
				tree_text(tree, list, NULL, "visual.*");
			}
			named = true;
			continue;
		}
		name_to_hub(d->modules[i].name, hub);
		tree_text(tree, list, NULL, hub);
		if (strcmp(name_leaf(hub), "v_proj") != 0)
			continue;
		snprintf(alias, sizeof alias, "%.*sq*", (int)(name_leaf(hub) - hub), hub);
		tree_text(tree, list, NULL, alias);
	}
}

static void add_producer(struct json_tree *tree, cJSON *object)
{
	cJSON *producer = tree_object(tree, object, "producer");
	tree_text(tree, producer, "name", PRODUCER);
	tree_text(tree, producer, "version", PRODUCER_VERSION);
}

/* "quant_algo" and what belongs to it. */
static void add_algorithm(struct json_tree *tree, cJSON *object,
                          const struct linear_form *form)
{
	tree_text(tree, object, "quant_algo", form->algorithm);
	if (form->weights.group_size)
		tree_number(tree, object, "group_size", form->weights.group_size);
	if (form->awq_fields) {
		tree_boolean(tree, object, "has_zero_point", false);
		tree_boolean(tree, object, "pre_quant_scale", false);
	}
}

/* Of several formats: {module: its algorithm}, by hub names, in module order. */
static void add_layers(struct json_tree *tree, cJSON *object,
                       const struct model_decisions *d)
{
	cJSON *layers = tree_object(tree, object, "quantized_layers");
	for (int i = 0; i < d->count; i++) {
		char hub[NAME_BYTES];
		if (!d->modules[i].quantised)
			continue;
		name_to_hub(d->modules[i].name, hub);
		add_algorithm(tree, tree_object(tree, layers, hub), d->modules[i].form);
	}
}

/* ModelOpt calls inputs static whatever they are, and names the strategy of rows only. */
static void add_numbers(struct json_tree *tree, cJSON *group, const char *name,
                        const struct number_form *numbers)
{
	if (!numbers->bits)
		return;
	cJSON *object = tree_object(tree, group, name);
	tree_boolean(tree, object, "dynamic", false);
	tree_number(tree, object, "num_bits", numbers->bits);
	tree_text(tree, object, "type", numbers->type);
	if (numbers->group_size)
		tree_number(tree, object, "group_size", numbers->group_size);
	if (strcmp(numbers->strategy, "channel") == 0)
		tree_text(tree, object, "strategy", numbers->strategy);
}

/* Targets: every linear, or of several formats the names of those in this one. */
static void add_group(struct json_tree *tree, cJSON *groups, int number,
                      const struct linear_form *form, const struct model_decisions *d)
{
	char name[32];
	snprintf(name, sizeof name, "group_%d", number);
	cJSON *group = tree_object(tree, groups, name);
	add_numbers(tree, group, "input_activations", &form->inputs);
	add_numbers(tree, group, "weights", &form->weights);
	cJSON *targets = tree_array(tree, group, "targets");
	if (d->forms.count == 1)
		tree_text(tree, targets, NULL, "Linear");
	for (int i = 0; d->forms.count > 1 && i < d->count; i++) {
		char hub[NAME_BYTES];
		if (!d->modules[i].quantised || !forms_equal_modelopt(d->modules[i].form, form))
			continue;
		name_to_hub(d->modules[i].name, hub);
		tree_text(tree, targets, NULL, hub);
	}
}

void build_modelopt(struct json_tree *tree, const struct model_decisions *d)
{
	bool mixed = d->forms.count > 1;
	if (mixed || d->forms.forms[0]->own_groups) {
		cJSON *groups = tree_object(tree, tree->root, "config_groups");
		for (int i = 0; i < d->forms.count; i++)
			add_group(tree, groups, i, d->forms.forms[i], d);
	}
	if (mixed)
		add_layers(tree, tree->root, d);
	cJSON *ignore = tree_array(tree, tree->root, "ignore");
	if (!mixed)
		add_excludes(tree, ignore, d);
	if (d->fp8_cache)
		add_numbers(tree, tree->root, "kv_cache_scheme", &FP8_CACHE);
	if (mixed)
		tree_text(tree, tree->root, "quant_algo", "MIXED_PRECISION");
	else
		add_algorithm(tree, tree->root, d->forms.forms[0]);
	add_producer(tree, tree->root);
	tree_text(tree, tree->root, "quant_method", "modelopt");
}

static void add_cache(struct json_tree *tree, cJSON *object, const struct model_decisions *d)
{
	if (d->fp8_cache)
		tree_text(tree, object, "kv_cache_quant_algo", "FP8");
	else
		tree_null(tree, object, "kv_cache_quant_algo");
}

void build_nested(struct json_tree *tree, const struct model_decisions *d)
{
	add_producer(tree, tree->root);
	cJSON *quantization = tree_object(tree, tree->root, "quantization");
	if (d->forms.count > 1) {
		tree_text(tree, quantization, "quant_algo", "MIXED_PRECISION");
		add_cache(tree, quantization, d);
		add_layers(tree, quantization, d);
		return;
	}
	add_algorithm(tree, quantization, d->forms.forms[0]);
	add_cache(tree, quantization, d);
	add_excludes(tree, tree_array(tree, quantization, "exclude_modules"), d);
}
