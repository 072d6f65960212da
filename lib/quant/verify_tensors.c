/* Verification of every tensor; see verify_parts.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/model/expand.h"
#include "lib/quant/fold.h"
#include "lib/quant/packed.h"
#include "lib/quant/verify_parts.h"

/* ---- rows of weights ---- */

bool rows_at_once(const struct verifier *v, int linear, int *rows, error *err)
{
	*rows = VERIFY_CHUNK / v->linears[linear].in / 2 * 2;
	return *rows > 0 || fail(err, EXIT_BAD_INPUT, "%s: expected at most %d columns, found %d",
	                         v->linears[linear].name, VERIFY_CHUNK / 2,
	                         v->linears[linear].in);
}

static const char *row_bytes(const struct tensor *t, int in, int first)
{
	return (const char *)t->data + (size_t)first * (size_t)in * dtype_bytes(t->dtype);
}

void expand_rows(const struct verifier *v, int linear, const struct tensor *t, int first,
                 int rows)
{
	int in = v->linears[linear].in;
	expand_values(v->chunk, t->dtype, row_bytes(t, in, first), (size_t)rows * (size_t)in);
	if (v->scales[linear])
		scale_columns(v->chunk, rows, in, v->scales[linear]);
}

void forget_rows(const struct tensor *t, int out, int first, int rows)
{
	size_t row = t->bytes / (size_t)out;
	forget_pages((const char *)t->data + row * (size_t)first, row * (size_t)rows);
}

const struct tensor *base_weight(const struct verifier *v, int linear, error *err)
{
	char hub[NAME_BYTES], name[NAME_BYTES + 8];
	const struct linear_shape *shape = &v->linears[linear];
	name_to_hub(shape->name, hub);
	snprintf(name, sizeof name, "%s.weight", hub);
	const struct tensor *t = checkpoint_find(&v->base, name);
	if (!t)
		fail(err, EXIT_BAD_INPUT, "%s: expected tensor %s, found none", v->base.folder,
		     name);
	else if (t->elements != (int64_t)shape->out * shape->in || !can_expand(t->dtype))
		fail(err, EXIT_BAD_INPUT, "%s: %s: expected [%d, %d] in BF16, F16 or F32, found "
		     "%lld %s", t->file, t->name, shape->out, shape->in, (long long)t->elements,
		     dtype_name(t->dtype));
	else
		return t;
	return NULL;
}

bool read_scale(const struct verifier *v, const char *name, float *scale, error *err)
{
	const struct tensor *t = checkpoint_find(&v->published, name);
	enum dtype dtype = profile_scale_dtype(v->profile);
	if (!t)
		return fail(err, EXIT_BAD_INPUT, "%s: expected tensor %s, found none", v->folder,
		            name);
	if (t->dtype != dtype || t->rank != profile_scale_rank(v->profile) || t->elements != 1)
		return fail(err, EXIT_BAD_INPUT,
		            "%s: %s: expected one %s of rank %d, found %s of rank %d", t->file,
		            name, dtype_name(dtype), profile_scale_rank(v->profile),
		            dtype_name(t->dtype), t->rank);
	expand_values(scale, t->dtype, t->data, 1);
	return (isfinite(*scale) && *scale > 0) ||
	       fail(err, EXIT_BAD_INPUT, "%s: %s: expected a finite scale above 0, found %g",
	            t->file, name, (double)*scale);
}

/* ---- quantised linears ---- */

static void mark_seen(struct verifier *v, const struct tensor *t)
{
	size_t low = 0, high = v->published.count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (strcmp(v->published.by_name[middle]->name, t->name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	v->seen[low] = true;
}

/* The weight in the chunk from row `first` on that came back too far from itself. */
static bool fail_far(const struct verifier *v, const struct packed_linear *p, int first,
                     size_t far, float steps, error *err)
{
	int in = p->weight.in, row = (int)(far / (size_t)in), column = (int)(far % (size_t)in);
	float *values = malloc((size_t)in * sizeof *values);
	if (!values)
		return fail_memory(err, "a row of weights", (size_t)in * sizeof *values);
	p->format->unpack(&p->weight, first + row, 1, values);
	fail(err, EXIT_BAD_INPUT, "%s: %s[%d, %d]: expected what comes back within %g step of "
	     "%g, found %g", p->tensors[0]->file, p->tensors[0]->name, first + row, column,
	     (double)steps, (double)v->chunk[far], (double)values[column]);
	free(values);
	return false;
}

static bool verify_weight(const struct verifier *v, int linear,
                          const struct packed_linear *p, const struct tensor *base,
                          int at_once, error *err)
{
	float steps = v->numbers.numerics == NUMERICS_MODELOPT ? 1.0f : 0.5f;
	int out = p->weight.out, in = p->weight.in;
	for (int row = 0; row < out; row += at_once) {
		int rows = out - row < at_once ? out - row : at_once;
		size_t count = (size_t)rows * (size_t)in;
		expand_rows(v, linear, base, row, rows);
		size_t far = p->format->find_far(&p->weight, row, rows, v->chunk, steps);
		if (far < count)
			return fail_far(v, p, row, far, steps, err);
		forget_rows(p->tensors[0], out, row, rows);
		forget_rows(base, out, row, rows);
	}
	return true;
}

static bool verify_packed(struct verifier *v, int linear, error *err)
{
	const struct tensor_source from = tensors_of_checkpoint(&v->published);
	const struct tensor *base = base_weight(v, linear, err);
	struct packed_linear p;
	int at_once;
	if (!base || !rows_at_once(v, linear, &at_once, err) ||
	    !packed_find(&p, v->formats[linear], v->profile, &v->linears[linear], &from, err))
		return false;
	for (int i = 0; i < p.tensor_count; i++)
		mark_seen(v, p.tensors[i]);
	v->wholes[linear] = p.weight.whole;
	return verify_weight(v, linear, &p, base, at_once, err);
}

static bool verify_quantised(struct verifier *v, error *err)
{
	for (int i = 0; i < v->linear_count; i++) {
		const struct tensor *t = NULL;
		bool coded = profile_is_quantised(v->profile);
		if (v->formats[i] &&
		    !(coded ? verify_packed(v, i, err) : verify_twin(v, i, &t, err)))
			return false;
		if (t)
			mark_seen(v, t);
	}
	return true;
}

/* ---- all others ---- */

/* The linear whose weight this tensor is, or -1. */
static int linear_of_tensor(const struct verifier *v, const char *tensor)
{
	char module[NAME_BYTES];
	size_t suffix = strlen(".weight");
	name_from_any(tensor, module);
	size_t length = strlen(module);
	if (length <= suffix || strcmp(module + length - suffix, ".weight") != 0)
		return -1;
	module[length - suffix] = '\0';
	for (int i = 0; i < v->linear_count; i++)
		if (strcmp(v->linears[i].name, module) == 0)
			return i;
	return -1;
}

static bool same_shape(const struct tensor *a, const struct tensor *b)
{
	return a->rank == b->rank &&
	       memcmp(a->shape, b->shape, (size_t)a->rank * sizeof a->shape[0]) == 0;
}

/* Through both mappings at once, without keeping them. */
static bool same_bytes(const struct tensor *a, const struct tensor *b)
{
	enum { AT_ONCE = 1 << 20 };
	const char *x = a->data, *y = b->data;
	bool same = a->bytes == b->bytes;
	for (size_t at = 0; same && at < a->bytes; at += AT_ONCE) {
		size_t some = a->bytes - at < AT_ONCE ? a->bytes - at : AT_ONCE;
		same = memcmp(x + at, y + at, some) == 0;
		forget_pages(x + at, some);
		forget_pages(y + at, some);
	}
	return same;
}

static bool verify_copy(struct verifier *v, const struct tensor *base, error *err)
{
	int group, linear = linear_of_tensor(v, base->name);
	if (linear >= 0 && v->formats[linear])
		return true;
	const struct tensor *t = checkpoint_find(&v->published, base->name);
	if (!t)
		return fail(err, EXIT_BAD_INPUT, "%s: expected the base's tensor %s, found none",
		            v->folder, base->name);
	if (!same_shape(t, base))
		return fail(err, EXIT_BAD_INPUT, "%s: %s: expected the base's shape", t->file,
		            t->name);
	mark_seen(v, t);
	if (is_folded_norm(v, base->name, &group))
		return verify_norm(v, base, t, group, err);
	if (t->dtype != base->dtype || !same_bytes(t, base))
		return fail(err, EXIT_BAD_INPUT, "%s: %s: expected the base's bytes in %s, found "
		            "others in %s", t->file, t->name, dtype_name(base->dtype),
		            dtype_name(t->dtype));
	return true;
}

/* Their values are verify_cache's to judge. */
static void mark_cache_scales(struct verifier *v)
{
	for (size_t i = 0; profile_is_quantised(v->profile) && i < v->published.count; i++) {
		bool scale = is_cache_scale(v, v->published.by_name[i]->name);
		v->seen[i] |= scale;
		v->done->cache_scales += scale;
	}
}

bool verify_tensors(struct verifier *v, error *err)
{
	for (size_t i = 0; i < v->base.count; i++)
		if (!verify_copy(v, v->base.by_name[i], err))
			return false;
	if (!verify_quantised(v, err))
		return false;
	mark_cache_scales(v);
	for (size_t i = 0; i < v->published.count; i++)
		if (!v->seen[i])
			return fail(err, EXIT_BAD_INPUT,
			            "%s: %s: a scale of what is not quantised, or a stranger",
			            v->published.by_name[i]->file, v->published.by_name[i]->name);
	v->done->tensors = (int)v->published.count;
	return true;
}
