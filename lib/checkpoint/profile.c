/* The quantization configs as files; see profile.h. Their wording is in
 * profile_modelopt.c and profile_compressed.c. */
#include "lib/checkpoint/profile.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/json_scan.h"
#include "lib/checkpoint/fused.h"
#include "lib/checkpoint/profile_parts.h"

#define FIELD "quantization_config"

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

const struct number_form FP8_CACHE = {
	.bits = 8, .type = "float", .strategy = "tensor", .time = SCALE_STATIC
};

/* ---- Decisions ---- */

bool starts_with(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* Servers keep both in one matrix. */
static bool differ(const struct module_decision *a, const struct module_decision *b)
{
	return a->quantised != b->quantised ||
	       (a->quantised && !forms_equal_compressed(a->form, b->form));
}

static bool check_decisions(const struct module_decision *modules, int count, error *err)
{
	for (int i = 0; i < count; i++) {
		const char *name = modules[i].name;
		if (modules[i].quantised && (strcmp(name, "visual.patch_embed.proj") == 0 ||
		                             strcmp(name, "lm_head") == 0))
			return fail(err, EXIT_INTERNAL, "%s: no reader loads it quantised", name);
		if (i > 0 && differ(&modules[i], &modules[i - 1]) &&
		    modules_fuse(modules[i - 1].name, name))
			return fail(err, EXIT_INTERNAL,
			            "%s and %s: servers fuse them, but they differ in precision",
			            modules[i - 1].name, name);
	}
	return true;
}

static bool has_form(const struct form_list *list, const struct linear_form *form)
{
	for (int i = 0; i < list->count; i++)
		if (forms_equal_compressed(list->forms[i], form))
			return true;
	return false;
}

static bool gather(struct model_decisions *d, const struct module_decision *modules,
                   int count, bool fp8_cache, error *err)
{
	*d = (struct model_decisions){ .modules = modules, .count = count,
		.fp8_cache = fp8_cache };
	if (!check_decisions(modules, count, err))
		return false;
	for (int i = 0; i < count; i++) {
		if (!modules[i].quantised || has_form(&d->forms, modules[i].form))
			continue;
		if (d->forms.count == MAX_FORMS)
			return fail(err, EXIT_INTERNAL, "%s: more than %d formats in a checkpoint",
			            modules[i].name, MAX_FORMS);
		d->forms.forms[d->forms.count++] = modules[i].form;
	}
	if (d->forms.count == 0 && count)
		d->forms.forms[d->forms.count++] = modules[0].form;
	return true;
}

bool vision_is_whole(const struct model_decisions *d)
{
	for (int i = 0; i < d->count; i++)
		if (d->modules[i].quantised && starts_with(d->modules[i].name, VISION))
			return false;
	return true;
}

/* ---- Files ---- */

bool profile_has_hf_quant_config(enum profile p, const struct module_decision *modules,
                                 int count)
{
	for (int i = 0; p == PROFILE_UNIVERSAL && i < count; i++)
		if (modules[i].quantised && !modules[i].form->bilingual)
			return false;
	return profile_is_quantised(p);
}

bool print_hf_quant_config(const struct module_decision *modules, int count,
                           bool fp8_cache, text *out, error *err)
{
	struct model_decisions d;
	if (!gather(&d, modules, count, fp8_cache, err))
		return false;
	struct json_tree tree = tree_new();
	build_nested(&tree, &d);
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

static bool print_block(enum profile p, const struct model_decisions *d, text *out,
                        error *err)
{
	struct json_tree tree = tree_new();
	if (p == PROFILE_UNIVERSAL)
		build_compressed(&tree, d);
	else
		build_modelopt(&tree, d);
	return tree_finish(&tree, out, err);
}

bool print_config(enum profile p, const json_doc *base_config,
                  const struct module_decision *modules, int count, bool fp8_cache,
                  text *out, error *err)
{
	struct model_decisions d;
	struct place place;
	text block = { 0 };
	if (!gather(&d, modules, count, fp8_cache, err) || !find_place(base_config, &place, err))
		return false;
	if (!profile_is_quantised(p)) {
		if (place.present)
			return json_fail(base_config,
			                 cJSON_GetObjectItemCaseSensitive(base_config->root, FIELD),
			                 err, "expected a model that is not quantised");
		text_add(out, base_config->text, base_config->size);
		return text_ok(out, err);
	}
	if (!print_block(p, &d, &block, err)) {
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
