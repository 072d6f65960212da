/* Opening exported checkpoints; see served_model.h. The model itself only knows
 * float weights, so every quantised one is decoded and put in the place of its codes;
 * the tap of taps.h then runs these linears with inputs rounded as a server's. */
#include "lib/quant/served_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/checkpoint/consumers.h"
#include "lib/model/caches.h"
#include "lib/model/expand.h"
#include "lib/model/linears.h"
#include "lib/quant/packed.h"

static const size_t RESIDENT_BYTES = (size_t)8 << 30;

enum { MAX_CONFIG_BYTES = 16 << 20 };

/* Decodes the weight of a linear; *decoded stands in for the base's tensor. */
static bool take_codes(struct served_model *s, const struct packed_linear *p,
                       const char *linear, struct quantised_linear *q,
                       struct tensor *decoded, error *err)
{
	const struct packed_tensor weight = { .suffix = "weight", .dtype = DTYPE_F32, .rank = 2,
		.shape = { p->weight.out, p->weight.in } };
	char name[NAME_BYTES + 32];
	describe_packed(decoded, &weight, linear, name);
	float *values = arena_alloc(&s->memory, (size_t)decoded->elements, sizeof *values, err);
	decoded->name = arena_printf(&s->memory, err, "%s", name);
	if (!values || !decoded->name)
		return false;
	p->format->unpack(&p->weight, 0, p->weight.out, values);
	decoded->data = values;
	decoded->file = p->tensors[0]->file;
	q->format = p->format;
	q->values = values;
	q->input = p->input;
	s->quantised_linears++;
	return true;
}

static int compare_names(const void *a, const void *b)
{
	const struct tensor *const *left = a, *const *right = b;
	return strcmp((*left)->name, (*right)->name);
}

/* Puts a decoded weight where the table has the first of its packed tensors. */
static void replace_tensor(struct checkpoint *c, const struct tensor *old,
                           const struct tensor *new)
{
	for (size_t i = 0; i < c->count; i++)
		if (c->by_name[i] == old)
			c->by_name[i] = new;
}

static bool decode_linear(struct served_model *s, const struct linear_shape *linear,
                          const struct format *format, enum profile profile, int number,
                          error *err)
{
	const struct tensor_source from = tensors_of_checkpoint(&s->checkpoint);
	struct packed_linear p;
	if (!packed_find(&p, format, profile, linear, &from, err) ||
	    !take_codes(s, &p, linear->name, &s->quantised.linears[number],
	                &s->decoded[number], err))
		return false;
	s->replaced[number] = p.tensors[0];
	return true;
}

/* What the configs say of a linear: as most readers of the profile do. */
static bool stated_format(const struct consumer_rules *rules, enum profile profile,
                          const char *linear, const struct format **out, error *err)
{
	const struct linear_form *form;
	*out = NULL;
	if (!consumer_statement(rules, profile, linear, &form, err))
		return false;
	if (form && !(*out = format_of_form(profile, form)))
		return fail(err, EXIT_BAD_INPUT, "%s: in numbers that quern does not know (%s)",
		            linear, profile == PROFILE_UNIVERSAL ? form->format : form->algorithm);
	return true;
}

static bool decode_linears(struct served_model *s, const struct consumer_rules *rules,
                           enum profile profile, error *err)
{
	struct linear_shape *linears;
	int count;
	if (!list_linears(&s->config, &s->memory, &linears, &count, err))
		return false;
	size_t room = (size_t)count;
	s->quantised.linears = arena_alloc(&s->memory, room, sizeof *s->quantised.linears, err);
	s->decoded = arena_alloc(&s->memory, room, sizeof *s->decoded, err);
	s->replaced = arena_alloc(&s->memory, room, sizeof *s->replaced, err);
	if (!s->quantised.linears || !s->decoded || !s->replaced)
		return false;
	for (int i = 0; rules && i < count; i++) {
		const struct format *format;
		if (!stated_format(rules, profile, linears[i].name, &format, err) ||
		    (format && !decode_linear(s, &linears[i], format, profile, i, err)))
			return false;
	}
	for (int i = 0; i < count; i++)
		if (s->replaced[i])
			replace_tensor(&s->checkpoint, s->replaced[i], &s->decoded[i]);
	qsort(s->checkpoint.by_name, s->checkpoint.count, sizeof *s->checkpoint.by_name,
	      compare_names);
	return true;
}

/* A base checkpoint, and the BF16 twin, have no quantization_config. */
static bool decode_checkpoint(struct served_model *s, const char *folder, error *err)
{
	char path[PATH_BYTES];
	json_doc config;
	if (!join_path(path, sizeof path, folder, "config.json", err) ||
	    !json_load(&config, path, MAX_CONFIG_BYTES, err))
		return false;
	const cJSON *block = cJSON_GetObjectItemCaseSensitive(config.root,
	                                                      "quantization_config");
	struct consumer_rules *rules = NULL;
	const cJSON *method = cJSON_GetObjectItemCaseSensitive(block, "quant_method");
	bool modelopt = cJSON_IsString(method) && strcmp(method->valuestring, "modelopt") == 0;
	bool ok = (!block || consumer_open(&rules, &config, NULL, err)) &&
	          decode_linears(s, rules, modelopt ? PROFILE_MODELOPT : PROFILE_UNIVERSAL, err);
	consumer_close(rules);
	json_free(&config);
	return ok;
}

/* ---- the cache ---- */

static bool read_scale(const struct served_model *s, const char *name, float *scale,
                       error *err)
{
	const struct tensor *t = checkpoint_find(&s->checkpoint, name);
	if (!t || t->elements != 1 || !can_expand(t->dtype))
		return fail(err, EXIT_BAD_INPUT, "%s: expected one %s, found %s", s->checkpoint.folder,
		            name, t ? "another tensor" : "none");
	expand_values(scale, t->dtype, t->data, 1);
	return (isfinite(*scale) && *scale > 0) ||
	       fail(err, EXIT_BAD_INPUT, "%s: %s: expected a finite scale above 0, found %g",
	            t->file, name, (double)*scale);
}

/* The profile whose names the scales of the cache have; PROFILE_COUNT: it has none. */
static enum profile find_cache_names(const struct served_model *s)
{
	char name[NAME_BYTES];
	for (enum profile p = 0; p < PROFILE_COUNT; p++) {
		profile_cache_scale_name(p, 0, false, name);
		if (profile_is_quantised(p) && checkpoint_find(&s->checkpoint, name))
			return p;
	}
	return PROFILE_COUNT;
}

static bool read_cache_scales(struct served_model *s, error *err)
{
	enum profile names = find_cache_names(s);
	int parts = count_caches(&s->config);
	if (names == PROFILE_COUNT)
		return true;
	float *scales = arena_alloc(&s->memory, (size_t)parts, sizeof *scales, err);
	for (int i = 0; scales && i < parts; i++) {
		char name[NAME_BYTES];
		profile_cache_scale_name(names, i / 2, i % 2, name);
		if (!read_scale(s, name, &scales[i], err))
			return false;
	}
	s->quantised.cache_scales = scales;
	return scales != NULL;
}

bool served_model_open(struct served_model *s, const char *folder, error *err)
{
	*s = (struct served_model){ 0 };
	if (model_config_load(&s->config, folder, err) &&
	    checkpoint_open(&s->checkpoint, folder, err) &&
	    decode_checkpoint(s, folder, err) && read_cache_scales(s, err) &&
	    model_open(&s->model, &s->checkpoint, &s->config, RESIDENT_BYTES, err)) {
		s->quantised.model = &s->model;
		return true;
	}
	served_model_close(s);
	return false;
}

void served_model_close(struct served_model *s)
{
	model_close(&s->model);
	checkpoint_close(&s->checkpoint);
	arena_free(&s->memory);
	*s = (struct served_model){ 0 };
}
