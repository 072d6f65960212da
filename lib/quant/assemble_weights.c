/* Which pieces a checkpoint is made of, and its scales; see assemble_parts.h. */
#include "lib/quant/assemble_parts.h"

#include <stdio.h>
#include <string.h>

#include "lib/model/caches.h"
#include "lib/model/linears.h"
#include "lib/quant/packed.h"
#include "lib/quant/twin.h"

/* ---- scales ---- */

static bool add_scale_bytes(struct builder *b, const struct tensor *t, float scale,
                            error *err)
{
	uint32_t bits;
	memcpy(&bits, &scale, sizeof bits);
	if (t->dtype == DTYPE_BF16) {
		uint16_t upper = (uint16_t)(bits >> 16);
		if (bits & 0xFFFF)
			return fail(err, EXIT_BAD_INPUT,
			            "%s: %s: the %s profile needs scales exact in BF16, found %.9g "
			            "(use numerics quern or another profile)", b->a->about.scheme, t->name,
			            profile_name(b->a->about.profile), (double)scale);
		text_add(&b->scale_bytes, (const char *)&upper, sizeof upper);
	} else {
		text_add(&b->scale_bytes, (const char *)&bits, sizeof bits);
	}
	return true;
}

/* name NULL: memory is out. */
static bool add_scale(struct builder *b, const char *name, enum dtype dtype, int rank,
                      float scale, error *err)
{
	struct tensor *t = &b->scales[b->scale_count++];
	*t = (struct tensor){ .name = name, .dtype = dtype, .rank = rank, .shape = { 1 },
		.elements = 1, .bytes = dtype_bytes(dtype) };
	return name && add_scale_bytes(b, t, scale, err);
}

static bool add_linear_scale(struct builder *b, const char *linear,
                             const struct packed_scalar *scalar, float scale, error *err)
{
	char hub[NAME_BYTES];
	if (!scalar->suffix)
		return true;
	name_to_hub(linear, hub);
	return add_scale(b, arena_printf(&b->memory, err, "%s.%s", hub, scalar->suffix),
	                 scalar->dtype, scalar->rank, scalar->reciprocal ? 1 / scale : scale, err);
}

static int find_shape(const struct builder *b, const char *name)
{
	for (int i = 0; i < b->linear_count; i++)
		if (strcmp(b->linears[i].name, name) == 0)
			return i;
	return -1;
}

/* Notes the decision about every member, and adds the scales of whole weights and inputs
 * where the format has them; all members of a group see the same input. */
static bool add_group_scales(struct builder *b, const struct variant_set *set,
                             const struct variant_pair *pair, error *err)
{
	const struct format *f = set->format;
	enum profile p = b->a->about.profile;
	for (int m = 0; m < pair->member_count; m++) {
		int linear = find_shape(b, pair->members[m]);
		if (linear < 0 || (f->input_scale && b->amax.amax[linear] < 0))
			return fail(err, EXIT_BAD_INPUT, "%s: expected a calibrated amax of %s",
			            b->a->amax, pair->members[m]);
		b->decisions[linear].quantised = true;
		b->decisions[linear].form = &f->form;
		float input = f->input_scale ? f->input_scale(b->a->numerics, b->amax.amax[linear])
		                             : 1;
		if (!add_linear_scale(b, pair->members[m], &f->weight_scalar[p],
		                      pair->weight_scales[m], err) ||
		    !add_linear_scale(b, pair->members[m], &f->input_scalar[p], input, err))
			return false;
	}
	return true;
}

/* One of the keys and one of the values of each layer, where the scheme's cache is
 * quantised. */
static bool add_cache_scales(struct builder *b, error *err)
{
	int parts = count_caches(&b->config);
	enum profile p = b->a->about.profile;
	if (!b->selection.kv_cache.name)
		return true;
	if (!profile_is_quantised(p))
		return fail(err, EXIT_BAD_INPUT, "%s: the %s profile cannot say what the key/value "
		            "cache is kept in; expected another profile or no \"kv_cache\"",
		            b->a->about.scheme, profile_name(p));
	if (b->amax.cache_count != parts)
		return fail(err, EXIT_BAD_INPUT, "%s: " AMAX_CACHE ": expected the %d parts of the "
		            "key/value cache, found %d", b->a->amax, parts, b->amax.cache_count);
	for (int i = 0; i < parts; i++) {
		char name[NAME_BYTES];
		profile_cache_scale_name(p, i / 2, i % 2, name);
		if (!add_scale(b, arena_text(&b->memory, name, strlen(name), err),
		               profile_scale_dtype(p), profile_scale_rank(p),
		               fp8_shipped_cache_scale(b->a->numerics, b->amax.cache[i]), err))
			return false;
	}
	return true;
}

/* Once all are there, since the bytes may have moved with each. */
static bool place_scales(struct builder *b, error *err)
{
	const char *at = b->scale_bytes.data;
	for (size_t i = 0; i < b->scale_count; i++) {
		b->scales[i].data = at;
		at += b->scales[i].bytes;
	}
	return text_ok(&b->scale_bytes, err);
}

/* ---- pieces ---- */

/* The pieces in a format that a manifest names "NAME(effective-bits: 8.0)"; where there
 * is one format, an imported manifest may call it by another name. NULL: there are none. */
static const struct variant_set *set_of_format(const struct builder *b, const char *format)
{
	for (int i = 0; i < b->set_count; i++) {
		size_t length = strlen(b->sets[i].format_name);
		if (b->set_count == 1 || (strncmp(format, b->sets[i].format_name, length) == 0 &&
		                          format[length] == '('))
			return &b->sets[i];
	}
	return NULL;
}

static bool open_piece(struct builder *b, const char *name, const struct output *object,
                       error *err)
{
	struct piece *piece = &b->pieces[b->piece_count];
	char path[PATH_BYTES];
	piece->name = name;
	piece->object = *object;
	if (!name || !store_object_path(&b->to.store, &object->digest, path, err) ||
	    !safetensors_open(&piece->file, path, err))
		return false;
	b->piece_count++;
	return true;
}

/* "<module>.<element>.safetensors" */
static const char *name_piece(struct builder *b, const struct variant_pair *pair,
                              const char *what, int length, error *err)
{
	int stem = (int)(strlen(pair->group) - strlen(".quant_recipe"));
	return arena_printf(&b->memory, err, "%.*s.%.*s.safetensors", stem, pair->group, length,
	                    what);
}

/* The packed weights of a group as they are linked, or what comes back of them. */
static bool open_kept(struct builder *b, const struct variant_set *set,
                      const struct variant_pair *pair, error *err)
{
	const char *element = set->format->element;
	struct output twin;
	if (!pair->quantised.bytes)
		return fail(err, EXIT_BAD_INPUT, "%s: expected codes of %s, found none",
		            set->format_name, pair->group);
	if (profile_is_quantised(b->a->about.profile))
		return open_piece(b, name_piece(b, pair, element, (int)strcspn(element, "_"), err),
		                  &pair->quantised, err) &&
		       add_group_scales(b, set, pair, err);
	const struct twin_job job = { .tree = b->a->tree, .target = b->a->out, .set = set,
		.pair = pair, .linears = b->linears, .linear_count = b->linear_count };
	return make_twin(&job, &twin, &b->to.written, err) &&
	       open_piece(b, name_piece(b, pair, "bf16", 4, err), &twin, err);
}

/* Every set has the same groups. */
static bool choose_piece(struct builder *b, int number, error *err)
{
	const struct variant_pair *plain = &b->sets[0].pairs[number];
	const char *format = selected_format(&b->selection, plain->group);
	if (!format)
		return open_piece(b, name_piece(b, plain, "plain", 5, err), &plain->plain, err);
	const struct variant_set *set = set_of_format(b, format);
	if (!set || number >= set->count || strcmp(set->pairs[number].group, plain->group) != 0)
		return fail(err, EXIT_BAD_INPUT, "%s: %s: expected pieces in %s, found none",
		            b->a->about.scheme, plain->group, format);
	return open_kept(b, set, &set->pairs[number], err);
}

/* ---- norms before groups ---- */

static const struct safetensors *open_norms(struct builder *b, const struct output *object,
                                            error *err)
{
	struct safetensors *file = &b->norm_files[b->norm_file_count];
	char path[PATH_BYTES];
	if (!store_object_path(&b->to.store, &object->digest, path, err) ||
	    !safetensors_open(file, path, err))
		return NULL;
	b->norm_file_count++;
	return file;
}

/* The norms before groups that a format keeps, as the format folded them. */
static bool fold_norms(struct builder *b, const struct variant_set *set, error *err)
{
	const struct safetensors *file = open_norms(b, &set->folded, err);
	if (!file)
		return false;
	const struct tensor_source folded = tensors_of_file(file);
	for (int i = 0; i < set->count; i++) {
		char norm[NAME_BYTES], hub[NAME_BYTES];
		const char *format = selected_format(&b->selection, set->pairs[i].group);
		if (!format || set_of_format(b, format) != set ||
		    !norm_of_linear(set->pairs[i].members[0], norm))
			continue;
		name_to_hub(norm, hub);
		const char *name = arena_printf(&b->memory, err, "%s.weight", hub);
		const struct tensor *t = name ? folded.find(folded.self, name) : NULL;
		if (!t)
			return name && fail(err, EXIT_BAD_INPUT, "%s: expected tensor %s, found none",
			                    file->path, name);
		for (size_t k = 0; k < b->norm_count; k++)
			if (strcmp(b->norms[k].name, name) == 0)
				b->norms[k] = *t;
	}
	return true;
}

/* Of formats with channel scales, all leave the same norms out of their rest. *rest: of
 * the tensors of no group. */
static bool choose_norms(struct builder *b, const struct output **rest, error *err)
{
	const struct safetensors *plain = NULL;
	*rest = &b->sets[0].rest;
	b->norm_files = arena_alloc(&b->memory, (size_t)b->set_count + 1, sizeof *b->norm_files,
	                            err);
	if (!b->norm_files)
		return false;
	for (int i = 0; i < b->set_count; i++) {
		const struct variant_set *set = &b->sets[i];
		if (!set->norms.bytes)
			continue;
		if (!plain) {
			*rest = &set->rest;
			if (!(plain = open_norms(b, &set->norms, err)) ||
			    !(b->norms = arena_alloc(&b->memory, plain->count, sizeof *b->norms, err)))
				return false;
			memcpy(b->norms, plain->tensors, plain->count * sizeof *b->norms);
			b->norm_count = plain->count;
		}
		if (!fold_norms(b, set, err))
			return false;
	}
	return true;
}

/* All groups of the selection must have been found. */
static bool check_selection(const struct builder *b, error *err)
{
	const struct selection *s = &b->selection;
	int found = 0, wanted = cJSON_GetArraySize(s->formats);
	for (int i = 0; i < b->sets[0].count; i++)
		found += selected_format(s, b->sets[0].pairs[i].group) != NULL;
	return found == wanted ||
	       json_fail(&s->doc, s->formats, err, "expected groups of the pieces, found %d of "
	                 "%d among them", found, wanted);
}

bool choose_weights(struct builder *b, error *err)
{
	const struct output *rest;
	size_t count = (size_t)b->linear_count;
	b->decisions = arena_alloc(&b->memory, count, sizeof *b->decisions, err);
	b->scales = arena_alloc(&b->memory, 2 * count + (size_t)count_caches(&b->config),
	                        sizeof *b->scales, err);
	b->pieces = arena_alloc(&b->memory, (size_t)b->sets[0].count + 1, sizeof *b->pieces,
	                        err);
	if (!b->decisions || !b->scales || !b->pieces)
		return false;
	for (int i = 0; i < b->linear_count; i++)
		b->decisions[i] = (struct module_decision){ b->linears[i].name, false,
			&b->sets[0].format->form };
	for (int i = 0; i < b->sets[0].count; i++)
		if (!choose_piece(b, i, err))
			return false;
	return check_selection(b, err) && choose_norms(b, &rest, err) &&
	       open_piece(b, "rest.safetensors", rest, err) &&
	       add_cache_scales(b, err) && place_scales(b, err);
}

void close_pieces(struct builder *b)
{
	for (int i = 0; i < b->piece_count; i++)
		safetensors_close(&b->pieces[i].file);
	for (int i = 0; i < b->norm_file_count; i++)
		safetensors_close(&b->norm_files[i]);
}
