/* Decoding quantised pieces; see twin.h. */
#include "lib/quant/twin.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/fp8.h"
#include "lib/artifact/edge.h"
#include "lib/artifact/tool.h"
#include "lib/quant/tensor_object.h"

static const char OUTPUT[] = "bf16.safetensors";

enum { CHUNK = 1 << 20 }; /* elements at once */

struct room {
	float values[CHUNK];
	uint16_t rounded[CHUNK];
};

void decode_twin(const uint8_t *codes, size_t count, float scale, float *values,
                 uint16_t *out)
{
	fp8_decode(codes, count, scale, values);
	for (size_t i = 0; i < count; i++) {
		float nearest = bf16_nearest(values[i]);
		uint32_t bits;
		memcpy(&bits, &nearest, sizeof bits);
		out[i] = (uint16_t)(bits >> 16);
	}
}

static bool write_decoded(struct object_writer *w, const struct tensor *t, float scale,
                          struct room *room, error *err)
{
	const uint8_t *codes = t->data;
	for (size_t at = 0; at < t->bytes; at += CHUNK) {
		size_t some = t->bytes - at < CHUNK ? t->bytes - at : CHUNK;
		decode_twin(codes + at, some, scale, room->values, room->rounded);
		if (!object_write(w, room->rounded, some * sizeof room->rounded[0], err))
			return false;
		forget_pages(codes + at, some);
	}
	return true;
}

/* The scale of the member whose weight this tensor is; 0: none. */
static float scale_of(const struct variant_pair *pair, const struct tensor *t)
{
	for (int m = 0; m < pair->member_count; m++) {
		char hub[NAME_BYTES];
		name_to_hub(pair->members[m], hub);
		size_t length = strlen(hub);
		if (strncmp(t->name, hub, length) == 0 && strcmp(t->name + length, ".weight") == 0)
			return pair->weight_scales[m];
	}
	return 0;
}

static bool decode_file(struct edge *e, const struct variant_pair *pair,
                        const struct safetensors *codes, struct room *room,
                        struct output *out, error *err)
{
	struct tensor decoded[MAX_MEMBERS];
	struct object_writer w;
	if (codes->count != (size_t)pair->member_count)
		return fail(err, EXIT_BAD_INPUT, "%s: expected %d tensors, found %zu", codes->path,
		            pair->member_count, codes->count);
	for (size_t i = 0; i < codes->count; i++) {
		decoded[i] = codes->tensors[i];
		decoded[i].dtype = DTYPE_BF16;
		decoded[i].bytes = 2 * (size_t)decoded[i].elements;
		if (codes->tensors[i].dtype != DTYPE_F8_E4M3 || !scale_of(pair, &decoded[i]))
			return fail(err, EXIT_BAD_INPUT, "%s: %s: expected the FP8 weight of a member "
			            "of %s", codes->path, decoded[i].name, pair->group);
	}
	bool ok = object_begin(&w, &e->store, err) &&
	          object_write_header(&w, decoded, codes->count, err);
	for (size_t i = 0; ok && i < codes->count; i++)
		ok = write_decoded(&w, &codes->tensors[i], scale_of(pair, &decoded[i]), room, err);
	return ok && object_commit(&w, out, err);
}

static bool decode_group(struct edge *e, const struct variant_pair *pair, error *err)
{
	struct output out = { .name = OUTPUT };
	struct safetensors codes;
	char path[PATH_BYTES];
	if (!store_object_path(&e->store, &pair->quantised.digest, path, err) ||
	    !safetensors_open(&codes, path, err))
		return false;
	struct room *room = malloc(sizeof *room);
	bool ok = room ? decode_file(e, pair, &codes, room, &out, err)
	               : fail_memory(err, "a chunk of weights", sizeof *room);
	free(room);
	safetensors_close(&codes);
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

bool make_twin(const char *tree, const char *target, const struct variant_pair *pair,
               struct output *out, uint64_t *written, error *err)
{
	struct key key = { 0 };
	struct digest sources;
	struct edge e;
	if (!tool_sources(&sources, err))
		return false;
	key_begin(&key, "export", &sources);
	key_add(&key, "piece", "decoded to BF16");
	key_input(&key, "codes", &pair->quantised.digest);
	for (int m = 0; m < pair->member_count; m++)
		key_addf(&key, "scale", "%a %s", (double)pair->weight_scales[m], pair->members[m]);
	bool ok = edge_begin(&e, tree, "export", target, &key, err);
	if (ok) {
		bool hit = e.hit;
		ok = (hit || decode_group(&e, pair, err)) && take_output(&e, out, err) &&
		     edge_log(&e, hit ? 0 : out->bytes, err);
		*written += ok && !hit ? out->bytes : 0;
		edge_end(&e);
	}
	key_free(&key);
	return ok;
}
