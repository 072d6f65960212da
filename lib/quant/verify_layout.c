/* Verification of how weights lie in the folder; see verify_parts.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/checkpoint/fused.h"
#include "lib/quant/assemble.h"
#include "lib/quant/verify_parts.h"

static const char *file_name(const struct safetensors *file)
{
	const char *slash = strrchr(file->path, '/');
	return slash ? slash + 1 : file->path;
}

/* "model-00002-of-00003.safetensors" */
static bool is_shard(const char *name, int *number, int *count)
{
	char again[64];
	if (sscanf(name, "model-%5d-of-%5d.safetensors", number, count) != 2)
		return false;
	snprintf(again, sizeof again, "model-%05d-of-%05d.safetensors", *number, *count);
	return strcmp(again, name) == 0;
}

/* Names end in their number, so equal numbers would be one file. */
static bool verify_shard(const struct verifier *v, const struct safetensors *file,
                         error *err)
{
	int number, count;
	if (!is_shard(file_name(file), &number, &count) || number < 1 || number > count ||
	    (size_t)count != v->published.file_count)
		return fail(err, EXIT_BAD_INPUT, "%s: expected one of %zu numbered shards",
		            file->path, v->published.file_count);
	if (file->map.size > SHARD_BYTES && file->count > 1)
		return fail(err, EXIT_BAD_INPUT, "%s: expected at most %llu bytes, found %zu",
		            file->path, (unsigned long long)SHARD_BYTES, file->map.size);
	return true;
}

/* Of a whole weight or input; those of rows and blocks are with the codes. */
static bool is_scale(const struct tensor *t)
{
	return t->elements == 1 && strstr(name_leaf(t->name), "_scale");
}

static bool verify_piece(const struct safetensors *file, error *err)
{
	bool scales = strcmp(file_name(file), "scales.safetensors") == 0;
	for (size_t i = 0; i < file->count; i++)
		if (is_scale(&file->tensors[i]) != scales)
			return fail(err, EXIT_BAD_INPUT, "%s: %s: expected scales in "
			            "scales.safetensors and nothing else there", file->path,
			            file->tensors[i].name);
	return true;
}

bool verify_layout(struct verifier *v, error *err)
{
	int number, count;
	bool packed = false;
	for (size_t i = 0; i < v->published.file_count; i++)
		packed |= is_shard(file_name(&v->published.files[i]), &number, &count);
	for (size_t i = 0; i < v->published.file_count; i++)
		if (!(packed ? verify_shard(v, &v->published.files[i], err)
		             : verify_piece(&v->published.files[i], err)))
			return false;
	v->done->layout = layout_name(packed ? LAYOUT_PACKED : LAYOUT_LINKED);
	return true;
}
