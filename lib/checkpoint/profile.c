/* Wording of the quantization configs; see profile.h. Why each entry looks as it
 * does: the rules in consumer_modelopt.c and consumer_compressed.c. */
#include "lib/checkpoint/profile.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/json_scan.h"
#include "lib/base/json_tree.h"
#include "lib/checkpoint/fused.h"
#include "lib/checkpoint/names.h"

/* Readers know a ModelOpt config by the producer's name; the version is that of
 * the ModelOpt whose layout is written here ("0.47.0": flat quantization_config,
 * nested hf_quant_config.json, hub names). None of the readers looks at it. What
 * made the checkpoint is in its manifest. */
#define PRODUCER "modelopt"
#define PRODUCER_VERSION "0.47.0"

#define FIELD "quantization_config"
#define VISION "visual."

static const char *const NAMES[] = {
	[PROFILE_UNIVERSAL] = "universal", [PROFILE_MODELOPT] = "modelopt",
	[PROFILE_BF16] = "bf16"
};

const char *profile_name(enum profile p)
{
	return NAMES[p];
}

bool profile_from_name(const char *name, enum profile *out)
{
	for (enum profile p = 0; p < PROFILE_COUNT; p++) {
		if (strcmp(name, NAMES[p]) != 0)
			continue;
		*out = p;
		return true;
	}
	return false;
}

bool profile_is_quantised(enum profile p)
{
	return p != PROFILE_BF16;
}

enum dtype profile_scale_dtype(enum profile p)
{
	return p == PROFILE_UNIVERSAL ? DTYPE_BF16 : DTYPE_F32;
}

int profile_scale_rank(enum profile p)
{
	return p == PROFILE_UNIVERSAL ? 1 : 0;
}

void profile_cache_scale_name(enum profile p, int layer, bool values, char out[NAME_BYTES])
{
	char part = values ? 'v' : 'k';
	if (p == PROFILE_UNIVERSAL)
		snprintf(out, NAME_BYTES, "model.layers.%d.self_attn.%c_scale", layer, part);
	else
		snprintf(out, NAME_BYTES, "model.layers.%d.self_attn.%c_proj.%c_scale", layer, part,
		         part);
}

/* ---- Decisions ---- */

static bool starts_with(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool check_decisions(const struct module_decision *modules, int count, error *err)
{
	for (int i = 0; i < count; i++) {
		const char *name = modules[i].name;
		if (modules[i].quantised && (strcmp(name, "visual.patch_embed.proj") == 0 ||
		                             strcmp(name, "lm_head") == 0))
			return fail(err, EXIT_INTERNAL, "%s: no reader loads it in FP8", name);
		if (i > 0 && modules[i].quantised != modules[i - 1].quantised &&
		    modules_fuse(modules[i - 1].name, name))
			return fail(err, EXIT_INTERNAL,
			            "%s and %s: servers fuse them, but only one is quantised",
			            modules[i - 1].name, name);
	}
	return true;
}

/* No linear of the vision tower is quantised. */
static bool vision_is_whole(const struct module_decision *modules, int count)
{
	for (int i = 0; i < count; i++)
		if (modules[i].quantised && starts_with(modules[i].name, VISION))
			return false;
	return true;
}

/* ---- ModelOpt ---- */

/* The exclude list: hub names in full, because a wildcard after a number also hits
 * every number it begins ("model.layers.1*": 10 to 19), and
 * - for a tower left alone, "visual" and "visual.*": readers differ in which of the
 *   two they understand;
 * - beside q, k and v, "....self_attn.q*": SGLang before 0.5.23 asks for qkv_proj
 *   without knowing what is fused into it. In vLLM, which takes it for a
 *   substring, it means the same matrix. */
static void add_excludes(struct json_tree *tree, cJSON *list,
                         const struct module_decision *modules, int count)
{
	bool whole = vision_is_whole(modules, count), named = false;
	for (int i = 0; i < count; i++) {
		char hub[NAME_BYTES], alias[NAME_BYTES + 1];
		if (modules[i].quantised)
			continue;
		if (whole && starts_with(modules[i].name, VISION)) {
			if (!named) {
				tree_text(tree, list, NULL, "visual");
				tree_text(tree, list, NULL, "visual.*");
			}
			named = true;
			continue;
		}
		name_to_hub(modules[i].name, hub);
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

/* The fields that both languages give of a tensor in static per-tensor FP8. */
static cJSON *add_fp8(struct json_tree *tree, cJSON *group, const char *name)
{
	cJSON *numbers = tree_object(tree, group, name);
	tree_boolean(tree, numbers, "dynamic", false);
	tree_number(tree, numbers, "num_bits", 8);
	tree_text(tree, numbers, "type", "float");
	return numbers;
}

static void build_modelopt(struct json_tree *tree, const struct module_decision *modules,
                           int count, bool fp8_cache)
{
	cJSON *groups = tree_object(tree, tree->root, "config_groups");
	cJSON *group = tree_object(tree, groups, "group_0");
	add_fp8(tree, group, "input_activations");
	add_fp8(tree, group, "weights");
	tree_text(tree, tree_array(tree, group, "targets"), NULL, "Linear");
	add_excludes(tree, tree_array(tree, tree->root, "ignore"), modules, count);
	if (fp8_cache)
		add_fp8(tree, tree->root, "kv_cache_scheme");
	tree_text(tree, tree->root, "quant_algo", "FP8");
	add_producer(tree, tree->root);
	tree_text(tree, tree->root, "quant_method", "modelopt");
}

/* ---- compressed-tensors ---- */

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

/* One entry for all the blocks in which the family is left alone. */
static void add_family(struct json_tree *tree, cJSON *list, const struct family *family,
                       const struct module_decision *modules, int count)
{
	text pattern = { 0 };
	size_t length;
	text_puts(&pattern, family->tower->pattern);
	const char *separator = "(";
	for (int i = 0; i < count; i++) {
		const char *number = block_number(family, modules[i].name, &length);
		if (!number || modules[i].quantised)
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

static void add_ignores(struct json_tree *tree, cJSON *list,
                        const struct module_decision *modules, int count)
{
	bool done[FAMILY_COUNT] = { false };
	bool whole = vision_is_whole(modules, count), named = false;
	for (int i = 0; i < count; i++) {
		if (modules[i].quantised)
			continue;
		int f = find_family(modules[i].name);
		if (whole && starts_with(modules[i].name, VISION)) {
			if (!named)
				tree_text(tree, list, NULL, "re:.*visual\\..*");
			named = true;
		} else if (f >= 0) {
			if (!done[f])
				add_family(tree, list, &FAMILIES[f], modules, count);
			done[f] = true;
		} else if (i == 0 || !modules_fuse(modules[i - 1].name, modules[i].name)) {
			add_single(tree, list, modules[i].name);
		}
	}
}

static void add_tensor_fp8(struct json_tree *tree, cJSON *group, const char *name)
{
	cJSON *numbers = add_fp8(tree, group, name);
	tree_text(tree, numbers, "strategy", "tensor");
	tree_boolean(tree, numbers, "symmetric", true);
}

static void build_compressed(struct json_tree *tree,
                             const struct module_decision *modules, int count,
                             bool fp8_cache)
{
	cJSON *groups = tree_object(tree, tree->root, "config_groups");
	cJSON *group = tree_object(tree, groups, "group_0");
	add_tensor_fp8(tree, group, "input_activations");
	tree_null(tree, group, "output_activations");
	tree_text(tree, tree_array(tree, group, "targets"), NULL, "Linear");
	add_tensor_fp8(tree, group, "weights");
	tree_text(tree, tree->root, "format", "float-quantized");
	tree_null(tree, tree->root, "global_compression_ratio");
	add_ignores(tree, tree_array(tree, tree->root, "ignore"), modules, count);
	if (fp8_cache)
		add_tensor_fp8(tree, tree->root, "kv_cache_scheme");
	else
		tree_null(tree, tree->root, "kv_cache_scheme");
	tree_text(tree, tree->root, "quant_method", "compressed-tensors");
	tree_text(tree, tree->root, "quantization_status", "compressed");
}

/* ---- Files ---- */

bool print_hf_quant_config(enum profile p, const struct module_decision *modules,
                           int count, bool fp8_cache, text *out, error *err)
{
	(void)p; /* both profiles say it in ModelOpt's form */
	if (!check_decisions(modules, count, err))
		return false;
	struct json_tree tree = tree_new();
	add_producer(&tree, tree.root);
	cJSON *quantization = tree_object(&tree, tree.root, "quantization");
	tree_text(&tree, quantization, "quant_algo", "FP8");
	if (fp8_cache)
		tree_text(&tree, quantization, "kv_cache_quant_algo", "FP8");
	else
		tree_null(&tree, quantization, "kv_cache_quant_algo");
	add_excludes(&tree, tree_array(&tree, quantization, "exclude_modules"), modules,
	             count);
	return tree_finish(&tree, out, err);
}

/* Where quantization_config goes in the text of a config.json. */
struct place {
	bool present, empty; /* present: [start, end) is the value to replace */
	size_t start, end;   /* else both are where the last member ends */
};

static bool scan_place(struct json_scan *s, struct place *place, error *err)
{
	*place = (struct place){ .empty = true };
	if (!json_scan_expect(s, JSON_OBJECT_OPEN, "an object", err))
		return false;
	place->start = place->end = s->end;
	while (json_scan_next(s, err)) {
		if (s->token == JSON_OBJECT_CLOSE)
			return true;
		bool found = json_scan_is(s, FIELD);
		if (!json_scan_next(s, err))
			return false;
		size_t start = s->start;
		if (!json_scan_skip(s, err))
			return false;
		if (found)
			*place = (struct place){ .present = true, .start = start, .end = s->end };
		else if (!place->present)
			*place = (struct place){ .start = s->end, .end = s->end };
	}
	return false;
}

static bool find_place(const json_doc *config, struct place *place, error *err)
{
	struct json_scan s;
	json_scan_begin(&s, config->name, config->text, config->size);
	bool ok = scan_place(&s, place, err);
	json_scan_free(&s);
	return ok;
}

/* A printed document as the value of a member: one level deeper, no newline at its
 * end. */
static void add_indented(text *out, const text *printed)
{
	for (size_t i = 0; i + 1 < printed->length; i++) {
		text_add(out, printed->data + i, 1);
		if (printed->data[i] == '\n')
			text_puts(out, "  ");
	}
}

static bool print_block(enum profile p, const struct module_decision *modules, int count,
                        bool fp8_cache, text *out, error *err)
{
	struct json_tree tree = tree_new();
	if (p == PROFILE_UNIVERSAL)
		build_compressed(&tree, modules, count, fp8_cache);
	else
		build_modelopt(&tree, modules, count, fp8_cache);
	return tree_finish(&tree, out, err);
}

bool print_config(enum profile p, const json_doc *base_config,
                  const struct module_decision *modules, int count, bool fp8_cache,
                  text *out, error *err)
{
	struct place place;
	text block = { 0 };
	if (!check_decisions(modules, count, err) || !find_place(base_config, &place, err))
		return false;
	if (!profile_is_quantised(p)) {
		if (place.present)
			return json_fail(base_config,
			                 cJSON_GetObjectItemCaseSensitive(base_config->root, FIELD),
			                 err, "expected a model that is not quantised");
		text_add(out, base_config->text, base_config->size);
		return text_ok(out, err);
	}
	if (!print_block(p, modules, count, fp8_cache, &block, err)) {
		text_free(&block);
		return false;
	}
	text_add(out, base_config->text, place.start);
	if (!place.present)
		text_printf(out, "%s\n  \"%s\": ", place.empty ? "" : ",", FIELD);
	add_indented(out, &block);
	if (place.empty)
		text_puts(out, "\n");
	text_add(out, base_config->text + place.end, base_config->size - place.end);
	text_free(&block);
	return text_ok(out, err);
}
