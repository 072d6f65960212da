/* quantization_config in compressed-tensors' words: a group of linears a format, and a
 * list of what is left alone. Why each entry looks as it does: the rules in
 * consumer_compressed.c. */
#include <stdio.h>
#include <string.h>

#include "lib/checkpoint/fused.h"
#include "lib/checkpoint/profile_parts.h"

/* Linears that repeat in every block; those of a fused layer are one family. The
 * pattern covers each reader's tree (model.visual..., language_model.model...) by
 * its ".*", and names shards and fused layers alike, since readers ask for either;
 * SGLang calls the vision tower's attn.qkv attn.qkv_proj. Dots stay escaped also
 * because SGLang rewrites the bare text "attn.qkv" wherever it finds it. */
static const struct tower {
	const char *head, *pattern; /* up to the number of the block */
} BLOCKS = { "visual.blocks.", "re:.*visual\\.blocks\\." },
  LAYERS = { "language_model.layers.", "re:.*layers\\." };

static const struct family {
	const struct tower *tower;
	const char *tail, *pattern; /* from that number on, of its first linear */
} FAMILIES[] = {
	{ &BLOCKS, ".attn.qkv", "\\.attn\\.qkv(_proj)?$" },
	{ &BLOCKS, ".attn.proj", "\\.attn\\.proj$" },
	{ &BLOCKS, ".mlp.gate_proj", "\\.mlp\\.(gate|up|gate_up)_proj$" },
	{ &BLOCKS, ".mlp.down_proj", "\\.mlp\\.down_proj$" },
	{ &LAYERS, ".self_attn.q_proj", "\\.self_attn\\.(q|k|v|qkv)_proj$" },
	{ &LAYERS, ".self_attn.o_proj", "\\.self_attn\\.o_proj$" },
	{ &LAYERS, ".mlp.gate_proj", "\\.mlp\\.(gate|up|gate_up)_proj$" },
	{ &LAYERS, ".mlp.down_proj", "\\.mlp\\.down_proj$" },
};

enum { FAMILY_COUNT = sizeof FAMILIES / sizeof FAMILIES[0] };

/* The number of the block whose first linear of this family the module is, as
 * text of *length bytes, or NULL. */
static const char *block_number(const struct family *family, const char *module,
                                size_t *length)
{
	if (!starts_with(module, family->tower->head))
		return NULL;
	const char *number = module + strlen(family->tower->head);
	*length = strspn(number, "0123456789");
	return *length && strcmp(number + *length, family->tail) == 0 ? number : NULL;
}

static int find_family(const char *module)
{
	size_t length;
	for (int f = 0; f < FAMILY_COUNT; f++)
		if (block_number(&FAMILIES[f], module, &length))
			return f;
	return -1;
}

/* Whether a list names the module: as one in this form, or with NULL as left alone. */
static bool belongs(const struct module_decision *module, const struct linear_form *form)
{
	if (!form || !module->quantised)
		return !form && !module->quantised;
	return forms_equal_compressed(module->form, form);
}

/* One entry for all the blocks in which the family belongs to the list. */
static void add_family(struct json_tree *tree, cJSON *list, const struct family *family,
                       const struct model_decisions *d, const struct linear_form *form)
{
	text pattern = { 0 };
	size_t length;
	text_puts(&pattern, family->tower->pattern);
	const char *separator = "(";
	for (int i = 0; i < d->count; i++) {
		const char *number = block_number(family, d->modules[i].name, &length);
		if (!number || !belongs(&d->modules[i], form))
			continue;
		text_puts(&pattern, separator);
		text_add(&pattern, number, length);
		separator = "|";
	}
	text_puts(&pattern, ")");
	text_puts(&pattern, family->pattern);
	tree->failed |= pattern.failed;
	if (!tree->failed)
		tree_text(tree, list, NULL, pattern.data);
	text_free(&pattern);
}

/* A name that stands once in the model: lm_head as it is, as everybody writes it. */
static void add_single(struct json_tree *tree, cJSON *list, const char *module)
{
	text pattern = { 0 };
	if (strchr(module, '.'))
		text_puts(&pattern, "re:.*");
	for (const char *c = module; *c; c++) {
		if (*c == '.')
			text_add(&pattern, "\\", 1);
		text_add(&pattern, c, 1);
	}
	if (strchr(module, '.'))
		text_puts(&pattern, "$");
	tree->failed |= pattern.failed;
	if (!tree->failed)
		tree_text(tree, list, NULL, pattern.data);
	text_free(&pattern);
}

/* The linears that are in a form, or with NULL those that are left alone. */
static void add_modules(struct json_tree *tree, cJSON *list,
                        const struct model_decisions *d, const struct linear_form *form)
{
	bool done[FAMILY_COUNT] = { false };
	bool whole = !form && vision_is_whole(d), named = false;
	for (int i = 0; i < d->count; i++) {
		const char *name = d->modules[i].name;
		if (!belongs(&d->modules[i], form))
			continue;
		int f = find_family(name);
		if (whole && starts_with(name, VISION)) {
			if (!named)
				tree_text(tree, list, NULL, "re:.*visual\\..*");
			named = true;
		} else if (f >= 0) {
			if (!done[f])
				add_family(tree, list, &FAMILIES[f], d, form);
			done[f] = true;
		} else if (i == 0 || !modules_fuse(d->modules[i - 1].name, name)) {
			add_single(tree, list, name);
		}
	}
}

static void add_numbers(struct json_tree *tree, cJSON *group, const char *name,
                        const struct number_form *numbers)
{
	if (!numbers->bits) {
		tree_null(tree, group, name);
		return;
	}
	cJSON *object = tree_object(tree, group, name);
	if (numbers->time == SCALE_LOCAL)
		tree_text(tree, object, "dynamic", "local");
	else
		tree_boolean(tree, object, "dynamic", numbers->time == SCALE_DYNAMIC);
	tree_number(tree, object, "num_bits", numbers->bits);
	tree_text(tree, object, "type", numbers->type);
	if (numbers->group_size)
		tree_number(tree, object, "group_size", numbers->group_size);
	if (numbers->scales)
		tree_text(tree, object, "scale_dtype", numbers->scales);
	tree_text(tree, object, "strategy", numbers->strategy);
	tree_boolean(tree, object, "symmetric", true);
}

/* Targets: every linear, or of several formats patterns of those in this one. (With
 * "Linear" beside others SGLang would take it for every fused layer.) */
static void add_group(struct json_tree *tree, cJSON *groups, int number,
                      const struct model_decisions *d)
{
	const struct linear_form *form = d->forms.forms[number];
	char name[32];
	snprintf(name, sizeof name, "group_%d", number);
	cJSON *group = tree_object(tree, groups, name);
	if (d->forms.count > 1)
		tree_text(tree, group, "format", form->format);
	add_numbers(tree, group, "input_activations", &form->inputs);
	tree_null(tree, group, "output_activations");
	cJSON *targets = tree_array(tree, group, "targets");
	if (d->forms.count > 1)
		add_modules(tree, targets, d, form);
	else
		tree_text(tree, targets, NULL, "Linear");
	add_numbers(tree, group, "weights", &form->weights);
}

/* compressed_tensors/compressors/format.py, _flatten_formats. */
static const char *common_format(const struct form_list *list)
{
	for (int i = 1; i < list->count; i++)
		if (strcmp(list->forms[i]->format, list->forms[0]->format) != 0)
			return "mixed-precision";
	return list->forms[0]->format;
}

void build_compressed(struct json_tree *tree, const struct model_decisions *d)
{
	cJSON *groups = tree_object(tree, tree->root, "config_groups");
	for (int i = 0; i < d->forms.count; i++)
		add_group(tree, groups, i, d);
	tree_text(tree, tree->root, "format", common_format(&d->forms));
	tree_null(tree, tree->root, "global_compression_ratio");
	add_modules(tree, tree_array(tree, tree->root, "ignore"), d, NULL);
	add_numbers(tree, tree->root, "kv_cache_scheme",
	            d->fp8_cache ? &FP8_CACHE : &(struct number_form){ 0 });
	tree_text(tree, tree->root, "quant_method", "compressed-tensors");
	tree_text(tree, tree->root, "quantization_status", "compressed");
}
