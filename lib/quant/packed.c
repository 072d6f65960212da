/* Tensors of quantised linears; see packed.h. */
#include "lib/quant/packed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/model/expand.h"

static const struct tensor *find_at_checkpoint(const void *self, const char *name)
{
	return checkpoint_find(self, name);
}

struct tensor_source tensors_of_checkpoint(const struct checkpoint *c)
{
	return (struct tensor_source){ find_at_checkpoint, c, c->folder };
}

static const struct tensor *find_in_file(const void *self, const char *name)
{
	const struct safetensors *file = self;
	for (size_t i = 0; i < file->count; i++)
		if (strcmp(file->tensors[i].name, name) == 0)
			return &file->tensors[i];
	return NULL;
}

struct tensor_source tensors_of_file(const struct safetensors *file)
{
	return (struct tensor_source){ find_in_file, file, file->path };
}

static void name_tensor(char out[NAME_BYTES + 32], const char *linear, const char *suffix)
{
	char hub[NAME_BYTES];
	name_to_hub(linear, hub);
	snprintf(out, NAME_BYTES + 32, "%s.%s", hub, suffix);
}

void describe_packed(struct tensor *out, const struct packed_tensor *t, const char *linear,
                     char name[NAME_BYTES + 32])
{
	name_tensor(name, linear, t->suffix);
	*out = (struct tensor){ .name = name, .dtype = t->dtype, .rank = t->rank,
		.elements = 1 };
	for (int i = 0; i < t->rank; i++) {
		out->shape[i] = t->shape[i];
		out->elements *= t->shape[i];
	}
	out->bytes = (size_t)out->elements * dtype_bytes(out->dtype);
}

/* Fails unless the tensor is there in this dtype and shape. */
static const struct tensor *find_expected(const struct tensor *expected,
                                          const struct tensor_source *from, error *err)
{
	const struct tensor *t = from->find(from->self, expected->name);
	if (!t)
		fail(err, EXIT_BAD_INPUT, "%s: expected tensor %s, found none", from->name,
		     expected->name);
	else if (t->dtype != expected->dtype || t->rank != expected->rank ||
	         memcmp(t->shape, expected->shape, (size_t)t->rank * sizeof t->shape[0]) != 0)
		fail(err, EXIT_BAD_INPUT, "%s: %s: expected %lld %s of rank %d, found %lld %s of "
		     "rank %d", t->file, t->name, (long long)expected->elements,
		     dtype_name(expected->dtype), expected->rank, (long long)t->elements,
		     dtype_name(t->dtype), t->rank);
	else
		return t;
	return NULL;
}

/* weight_shape: the two sides. */
static bool check_sides(const struct tensor *t, int out, int in, error *err)
{
	int64_t sides[2];
	memcpy(sides, t->data, sizeof sides);
	return (sides[0] == out && sides[1] == in) ||
	       fail(err, EXIT_BAD_INPUT, "%s: %s: expected [%d, %d], found [%lld, %lld]", t->file,
	            t->name, out, in, (long long)sides[0], (long long)sides[1]);
}

bool packed_find_weight(struct packed_linear *out, const struct format *f, enum profile p,
                        const struct linear_shape *linear, float whole,
                        const struct tensor_source *from, error *err)
{
	struct packed_tensor list[MAX_PACKED];
	int count = f->tensors(p, linear->out, linear->in, list);
	*out = (struct packed_linear){ .format = f, .tensor_count = count,
		.weight = { p, linear->out, linear->in, whole, { NULL } } };
	for (int i = 0; i < count; i++) {
		char name[NAME_BYTES + 32];
		struct tensor expected;
		describe_packed(&expected, &list[i], linear->name, name);
		const struct tensor *t = find_expected(&expected, from, err);
		if (!t || (!list[i].fill && !check_sides(t, linear->out, linear->in, err)))
			return false;
		out->tensors[i] = t;
		out->weight.data[i] = t->data;
	}
	return true;
}

/* A scale that stands by itself; 1 where there is none of that kind. */
static bool find_scalar(struct packed_linear *out, const struct packed_scalar *scalar,
                        const struct linear_shape *linear, const struct tensor_source *from,
                        float *scale, error *err)
{
	const struct packed_tensor one = { .suffix = scalar->suffix, .dtype = scalar->dtype,
		.rank = scalar->rank, .shape = { 1 } };
	char name[NAME_BYTES + 32];
	struct tensor expected;
	*scale = 1;
	if (!scalar->suffix)
		return true;
	describe_packed(&expected, &one, linear->name, name);
	const struct tensor *t = find_expected(&expected, from, err);
	if (!t)
		return false;
	out->tensors[out->tensor_count++] = t;
	expand_values(scale, t->dtype, t->data, 1);
	if (!(isfinite(*scale) && *scale > 0))
		return fail(err, EXIT_BAD_INPUT, "%s: %s: expected a finite scale above 0, found %g",
		            t->file, t->name, (double)*scale);
	*scale = scalar->reciprocal ? 1 / *scale : *scale;
	return true;
}

bool packed_find(struct packed_linear *out, const struct format *f, enum profile p,
                 const struct linear_shape *linear, const struct tensor_source *from,
                 error *err)
{
	float input;
	if (!packed_find_weight(out, f, p, linear, 1, from, err) ||
	    !find_scalar(out, &f->weight_scalar[p], linear, from, &out->weight.whole, err) ||
	    !find_scalar(out, &f->input_scalar[p], linear, from, &input, err))
		return false;
	if (f->input_scalar[p].suffix)
		out->input = f->served_step(input);
	return true;
}

bool ship_and_return(const struct format *f, enum numerics n, const float *w, int rows,
                     int in, float whole, float *values, error *err)
{
	struct packed_tensor list[MAX_PACKED];
	struct packed_weight weight = { PROFILE_UNIVERSAL, rows, in, whole, { NULL } };
	void *rooms[MAX_PACKED] = { NULL };
	int count = f->tensors(PROFILE_UNIVERSAL, rows, in, list);
	bool ok = true;
	for (int i = 0; i < count; i++) {
		char name[NAME_BYTES + 32];
		struct tensor t;
		describe_packed(&t, &list[i], "lm_head", name);
		weight.data[i] = rooms[i] = malloc(t.bytes + 1);
		if (!rooms[i])
			ok = fail_memory(err, "a packed weight", t.bytes);
		else if (list[i].fill)
			list[i].fill(&list[i], n, w, rows, in, whole, rooms[i]);
	}
	if (ok)
		f->unpack(&weight, 0, rows, values);
	for (int i = 0; i < count; i++)
		free(rooms[i]);
	return ok;
}
