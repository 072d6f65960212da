/* Decoding quantised pieces; see twin.h. */
#include "lib/quant/twin.h"

#include <stdlib.h>
#include <string.h>

#include "lib/artifact/edge.h"
#include "lib/artifact/tool.h"
#include "lib/quant/packed.h"
#include "lib/quant/tensor_object.h"

static const char OUTPUT[] = "bf16.safetensors";

enum { CHUNK = 1 << 20 }; /* elements at once */

struct room {
	float values[CHUNK];
	uint16_t rounded[CHUNK];
};

void round_twin(const float *values, size_t count, uint16_t *out)
{
	for (size_t i = 0; i < count; i++) {
		float nearest = bf16_nearest(values[i]);
		uint32_t bits;
		memcpy(&bits, &nearest, sizeof bits);
		out[i] = (uint16_t)(bits >> 16);
	}
}

static bool write_decoded(struct object_writer *w, const struct packed_linear *p,
                          struct room *room, error *err)
{
	int out = p->weight.out, in = p->weight.in;
	if (in > CHUNK)
		return fail(err, EXIT_BAD_INPUT, "%s: expected at most %d columns, found %d",
		            p->tensors[0]->name, CHUNK, in);
	for (int row = 0; row < out; row += CHUNK / in) {
		int rows = out - row < CHUNK / in ? out - row : CHUNK / in;
		size_t count = (size_t)rows * (size_t)in;
		size_t codes = p->tensors[0]->bytes / (size_t)out;
		p->format->unpack(&p->weight, row, rows, room->values);
		round_twin(room->values, count, room->rounded);
		if (!object_write(w, room->rounded, count * sizeof room->rounded[0], err))
			return false;
		forget_pages((const char *)p->tensors[0]->data + codes * (size_t)row,
		             codes * (size_t)rows);
	}
	return true;
}

static const struct linear_shape *shape_of(const struct twin_job *job, const char *member)
{
	for (int i = 0; i < job->linear_count; i++)
		if (strcmp(job->linears[i].name, member) == 0)
			return &job->linears[i];
	return NULL;
}

/* The members as they are packed, and as they will be. */
static bool find_members(const struct twin_job *job, const struct safetensors *file,
                         struct packed_linear *packed, struct tensor *decoded,
                         char (*names)[NAME_BYTES + 32], error *err)
{
	const struct tensor_source from = tensors_of_file(file);
	const struct variant_pair *pair = job->pair;
	for (int m = 0; m < pair->member_count; m++) {
		const struct linear_shape *linear = shape_of(job, pair->members[m]);
		if (!linear)
			return fail(err, EXIT_BAD_INPUT, "%s: %s is no linear of the model", file->path,
			            pair->members[m]);
		const struct packed_tensor weight = { .suffix = "weight", .dtype = DTYPE_BF16,
			.rank = 2, .shape = { linear->out, linear->in } };
		describe_packed(&decoded[m], &weight, linear->name, names[m]);
		if (!packed_find_weight(&packed[m], job->set->format, job->set->profile, linear,
		                        pair->weight_scales[m], &from, err))
			return false;
	}
	return true;
}

static bool decode_file(struct edge *e, const struct twin_job *job,
                        const struct safetensors *file, struct room *room,
                        struct output *out, error *err)
{
	struct packed_linear packed[MAX_MEMBERS];
	struct tensor decoded[MAX_MEMBERS];
	char names[MAX_MEMBERS][NAME_BYTES + 32];
	struct object_writer w;
	int count = job->pair->member_count;
	bool ok = find_members(job, file, packed, decoded, names, err) &&
	          object_begin(&w, &e->store, err) &&
	          object_write_header(&w, decoded, (size_t)count, err);
	for (int m = 0; ok && m < count; m++)
		ok = write_decoded(&w, &packed[m], room, err);
	return ok && object_commit(&w, out, err);
}

static bool decode_group(struct edge *e, const struct twin_job *job, error *err)
{
	struct output out = { .name = OUTPUT };
	struct safetensors file;
	char path[PATH_BYTES];
	if (!store_object_path(&e->store, &job->pair->quantised.digest, path, err) ||
	    !safetensors_open(&file, path, err))
		return false;
	struct room *room = malloc(sizeof *room);
	bool ok = room ? decode_file(e, job, &file, room, &out, err)
	               : fail_memory(err, "a chunk of weights", sizeof *room);
	free(room);
	safetensors_close(&file);
	return ok && edge_publish(e, &out, 1, err);
}

static bool take_output(const struct edge *e, struct output *out, error *err)
{
	const struct output *stored = result_output(&e->result, OUTPUT);
	if (!stored)
		return fail(err, EXIT_ENVIRONMENT, "%s: result %s lacks its output",
		            e->store.folder, e->digest.hex);
	*out = *stored;
	out->name = OUTPUT;
	return true;
}

bool make_twin(const struct twin_job *job, struct output *out, uint64_t *written,
               error *err)
{
	const struct variant_pair *pair = job->pair;
	struct key key = { 0 };
	struct digest sources;
	struct edge e;
	if (!tool_sources(&sources, err))
		return false;
	key_begin(&key, "export", &sources);
	key_add(&key, "piece", "decoded to BF16");
	key_add(&key, "element", job->set->format->element);
	key_add(&key, "granularity", job->set->format->granularity);
	key_input(&key, "codes", &pair->quantised.digest);
	for (int m = 0; m < pair->member_count; m++)
		key_addf(&key, "scale", "%a %s", (double)pair->weight_scales[m], pair->members[m]);
	bool ok = edge_begin(&e, job->tree, "export", job->target, &key, err);
	if (ok) {
		bool hit = e.hit;
		ok = (hit || decode_group(&e, job, err)) && take_output(&e, out, err) &&
		     edge_log(&e, hit ? 0 : out->bytes, err);
		*written += ok && !hit ? out->bytes : 0;
		edge_end(&e);
	}
	key_free(&key);
	return ok;
}
