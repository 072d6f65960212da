/* Opening exported checkpoints; see served_model.h. The model itself only knows
 * float weights, so every FP8 tensor is decoded and put in its place; the tap of
 * taps.h then runs these linears from their codes and scales. */
#include "lib/quant/served_model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/fp8.h"
#include "lib/checkpoint/profile.h"
#include "lib/model/caches.h"
#include "lib/model/expand.h"
#include "lib/model/linears.h"

static const size_t RESIDENT_BYTES = (size_t)8 << 30;

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

static bool read_linear_scale(const struct served_model *s, const char *hub,
                              const char *suffix, float *scale, error *err)
{
	char name[NAME_BYTES + 16];
	snprintf(name, sizeof name, "%s.%s", hub, suffix);
	return read_scale(s, name, scale, err);
}

/* Takes the codes and scales of a linear whose weight is FP8. */
static bool take_codes(struct served_model *s, const char *hub, const struct tensor *t,
                       struct quantised_linear *q, struct tensor *decoded, error *err)
{
	float weight, input;
	if (!read_linear_scale(s, hub, "weight_scale", &weight, err) ||
	    !read_linear_scale(s, hub, "input_scale", &input, err))
		return false;
	float *values = arena_alloc(&s->memory, (size_t)t->elements, sizeof *values, err);
	if (!values)
		return false;
	fp8_decode(t->data, (size_t)t->elements, weight, values);
	q->format = format_find("fp8_e4m3", "tensor");
	q->values = values;
	q->input = (struct input_step){ .encode = 1.0f / input, .decode = input };
	*decoded = *t;
	decoded->dtype = DTYPE_F32;
	decoded->data = values;
	decoded->bytes = (size_t)t->elements * sizeof *values;
	s->fp8_linears++;
	return true;
}

/* Puts the decoded tensor where the checkpoint's table has the coded one. */
static void replace_tensor(struct checkpoint *c, const struct tensor *old,
                           const struct tensor *new)
{
	for (size_t i = 0; i < c->count; i++)
		if (c->by_name[i] == old)
			c->by_name[i] = new;
}

static bool decode_linears(struct served_model *s, error *err)
{
	struct linear_shape *linears;
	int count;
	if (!list_linears(&s->config, &s->memory, &linears, &count, err))
		return false;
	s->quantised.linears = arena_alloc(&s->memory, (size_t)count,
	                                   sizeof *s->quantised.linears, err);
	s->decoded = arena_alloc(&s->memory, (size_t)count, sizeof *s->decoded, err);
	if (!s->quantised.linears || !s->decoded)
		return false;
	for (int i = 0; i < count; i++) {
		char hub[NAME_BYTES], name[NAME_BYTES + 8];
		name_to_hub(linears[i].name, hub);
		snprintf(name, sizeof name, "%s.weight", hub);
		const struct tensor *t = checkpoint_find(&s->checkpoint, name);
		if (!t || t->dtype != DTYPE_F8_E4M3)
			continue;
		if (!take_codes(s, hub, t, &s->quantised.linears[i], &s->decoded[i], err))
			return false;
		replace_tensor(&s->checkpoint, t, &s->decoded[i]);
	}
	return true;
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
	    checkpoint_open(&s->checkpoint, folder, err) && decode_linears(s, err) &&
	    read_cache_scales(s, err) &&
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
