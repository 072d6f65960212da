/* The two ways in which weights lie in a checkpoint's folder; see assemble.h. */
#include "lib/quant/assemble_parts.h"

#include <string.h>

#include "lib/quant/tensor_object.h"

static const char *const NAMES[] = {
	[LAYOUT_LINKED] = "linked", [LAYOUT_PACKED] = "packed"
};

const char *layout_name(enum layout l)
{
	return NAMES[l];
}

bool layout_from_name(const char *name, enum layout *out)
{
	for (enum layout l = 0; l < LAYOUT_COUNT; l++) {
		if (strcmp(name, NAMES[l]) != 0)
			continue;
		*out = l;
		return true;
	}
	return false;
}

static void index_tensors(struct builder *b, const struct tensor *tensors, size_t count,
                          const char *file)
{
	for (size_t i = 0; i < count; i++) {
		tree_text(&b->index, b->weight_map, tensors[i].name, file);
		b->total_bytes += (double)tensors[i].bytes;
	}
}

/* ---- linked ---- */

/* Small tensors that differ from scheme to scheme. */
static bool write_small(struct builder *b, const char *name, const struct tensor *tensors,
                        size_t count, error *err)
{
	text file = { 0 };
	if (count == 0)
		return true;
	bool ok = safetensors_header(tensors, count, &file, err);
	for (size_t i = 0; i < count; i++)
		text_add(&file, tensors[i].data, tensors[i].bytes);
	ok = ok && text_ok(&file, err) && add_text(&b->to, name, &file, err);
	text_free(&file);
	index_tensors(b, tensors, count, name);
	return ok;
}

static bool link_weights(struct builder *b, error *err)
{
	for (int i = 0; i < b->piece_count; i++) {
		const struct piece *piece = &b->pieces[i];
		index_tensors(b, piece->file.tensors, piece->file.count, piece->name);
		if (!link_object_as(&b->to, piece->name, &piece->object, err))
			return false;
	}
	return write_small(b, "norms.safetensors", b->norms, b->norm_count, err) &&
	       write_small(b, "scales.safetensors", b->scales, b->scale_count, err);
}

/* ---- packed ---- */

/* All tensors in the order of the pieces, then norms and scales. */
struct tensor_run {
	struct tensor *tensors;
	size_t count;
};

static bool gather_tensors(struct builder *b, struct tensor_run *all, error *err)
{
	size_t most = b->norm_count + b->scale_count;
	for (int i = 0; i < b->piece_count; i++)
		most += b->pieces[i].file.count;
	all->count = 0;
	all->tensors = arena_alloc(&b->memory, most, sizeof *all->tensors, err);
	if (!all->tensors)
		return false;
	for (int i = 0; i < b->piece_count; i++) {
		const struct safetensors *file = &b->pieces[i].file;
		for (size_t k = 0; k < file->count; k++)
			all->tensors[all->count++] = file->tensors[k];
	}
	for (size_t i = 0; i < b->norm_count; i++)
		all->tensors[all->count++] = b->norms[i];
	for (size_t i = 0; i < b->scale_count; i++)
		all->tensors[all->count++] = b->scales[i];
	return true;
}

/* What a tensor adds to a file at most: its bytes, and its line of the header with the
 * name escaped, type, shape and offsets. */
static uint64_t file_bytes(const struct tensor *t)
{
	return (uint64_t)t->bytes + 2 * strlen(t->name) + 128 + 24 * (uint64_t)t->rank;
}

/* How many of the tensors from the first on go into one shard. */
static size_t shard_length(const struct tensor_run *all, size_t first, uint64_t most)
{
	uint64_t bytes = 64; /* length and metadata of the header */
	size_t count = 0;
	while (first + count < all->count) {
		bytes += file_bytes(&all->tensors[first + count]);
		if (count && bytes > most)
			break;
		count++;
	}
	return count;
}

static bool write_shard(struct builder *b, const struct tensor *tensors, size_t count,
                        int number, int shards, error *err)
{
	struct output shard;
	const char *name = arena_printf(&b->memory, err, "model-%05d-of-%05d.safetensors",
	                                number, shards);
	if (!name || !store_tensors(&b->to.store, tensors, count, &shard, err))
		return false;
	b->to.written += shard.bytes;
	index_tensors(b, tensors, count, name);
	return link_object_as(&b->to, name, &shard, err);
}

static bool pack_weights(struct builder *b, error *err)
{
	struct tensor_run all;
	int shards = 0, number = 0;
	size_t length;
	if (!gather_tensors(b, &all, err))
		return false;
	for (size_t at = 0; at < all.count; at += length, shards++)
		length = shard_length(&all, at, b->a->shard_bytes);
	for (size_t at = 0; at < all.count; at += length) {
		length = shard_length(&all, at, b->a->shard_bytes);
		if (!write_shard(b, all.tensors + at, length, ++number, shards, err))
			return false;
	}
	return true;
}

bool lay_out_weights(struct builder *b, error *err)
{
	return b->a->layout == LAYOUT_PACKED ? pack_weights(b, err) : link_weights(b, err);
}
