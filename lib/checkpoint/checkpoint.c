/* A model folder: which files hold its tensors, and whether the index that says
 * so tells the truth. */
#include <stdlib.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/checkpoint/safetensors.h"

enum { MAX_INDEX_BYTES = 100000000 };

/* One line of the index's weight_map. */
struct entry {
	const char *tensor, *file;
	const cJSON *item; /* for naming its place */
};

struct index {
	json_doc doc;
	struct entry *entries; /* by file, then by tensor */
	size_t count;
};

static int compare_entries(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	int order = strcmp(x->file, y->file);
	return order ? order : strcmp(x->tensor, y->tensor);
}

static int compare_tensor_names(const void *a, const void *b)
{
	const struct tensor *const *x = a, *const *y = b;
	return strcmp((*x)->name, (*y)->name);
}

/* ---- The index ---- */

/* A shard's name is a plain name in the model's own folder. */
static bool check_shard_name(const struct index *index, const cJSON *item, error *err)
{
	const char *name = item->valuestring;
	if (!cJSON_IsString(item))
		return json_fail(&index->doc, item, err, "expected the name of a shard");
	if (!*name || strcmp(name, ".") == 0 || strchr(name, '/') || strstr(name, ".."))
		return json_fail(&index->doc, item, err,
		                 "expected a file name inside the folder, found \"%.200s\"", name);
	return true;
}

static bool index_load(struct index *index, const char *path, error *err)
{
	if (!json_load(&index->doc, path, MAX_INDEX_BYTES, err))
		return false;
	const cJSON *map = json_object(&index->doc, index->doc.root, "weight_map", err);
	if (!map)
		return false;
	size_t count = (size_t)cJSON_GetArraySize(map);
	if (count == 0)
		return json_fail(&index->doc, map, err, "names no tensor");
	index->entries = calloc(count, sizeof *index->entries);
	if (!index->entries)
		return fail_memory(err, path, count * sizeof *index->entries);
	const cJSON *item;
	cJSON_ArrayForEach(item, map) {
		if (!check_shard_name(index, item, err))
			return false;
		index->entries[index->count++] =
			(struct entry){ item->string, item->valuestring, item };
	}
	qsort(index->entries, count, sizeof *index->entries, compare_entries);
	return true;
}

static void index_free(struct index *index)
{
	free(index->entries);
	json_free(&index->doc);
}

/* ---- Shards ---- */

/* All tensors of a file, sorted by name, into names[]. */
static void sort_tensors(const struct safetensors *file, const struct tensor **names)
{
	for (size_t i = 0; i < file->count; i++)
		names[i] = &file->tensors[i];
	if (file->count)
		qsort(names, file->count, sizeof *names, compare_tensor_names);
}

/* entries[entry_count] are what the index places in the file. Both lists are
 * sorted by name; the first difference is the error. */
static bool compare_shard(const struct index *index, const struct entry *entries,
                          size_t entry_count, const struct safetensors *file,
                          const struct tensor **names, error *err)
{
	for (size_t i = 0; i < entry_count || i < file->count; i++) {
		int order = i == entry_count   ? 1
		            : i == file->count ? -1
		                               : strcmp(entries[i].tensor, names[i]->name);
		if (order < 0)
			return json_fail(&index->doc, entries[i].item, err,
			                 "the tensor is not in the shard \"%s\"", entries[i].file);
		if (order > 0)
			return fail(err, EXIT_BAD_INPUT,
			            "%s: tensor %s: the index %s does not place it here", file->path,
			            names[i]->name, index->doc.name);
	}
	return true;
}

static bool open_shard(struct checkpoint *ckpt, const struct index *index,
                       const struct entry *entries, size_t count, error *err)
{
	char path[PATH_BYTES];
	struct safetensors *file = &ckpt->files[ckpt->file_count];
	if (!join_path(path, sizeof path, ckpt->folder, entries->file, err))
		return false;
	if (!file_exists(path))
		return json_fail(&index->doc, entries->item, err, "the shard %s is absent", path);
	if (!safetensors_open(file, path, err))
		return false;
	ckpt->file_count++;
	const struct tensor **names = calloc(file->count + 1, sizeof *names);
	if (!names)
		return fail_memory(err, path, (file->count + 1) * sizeof *names);
	sort_tensors(file, names);
	bool ok = compare_shard(index, entries, count, file, names, err);
	free(names);
	return ok;
}

/* How many entries from entries[0] on name the same file. */
static size_t run_length(const struct entry *entries, size_t count)
{
	size_t n = 1;
	while (n < count && strcmp(entries[n].file, entries->file) == 0)
		n++;
	return n;
}

static bool open_shards(struct checkpoint *ckpt, const struct index *index, error *err)
{
	size_t shards = 0, run;
	for (size_t i = 0; i < index->count; i += run, shards++)
		run = run_length(&index->entries[i], index->count - i);
	ckpt->files = arena_alloc(&ckpt->memory, shards, sizeof *ckpt->files, err);
	if (!ckpt->files)
		return false;
	for (size_t i = 0; i < index->count; i += run) {
		run = run_length(&index->entries[i], index->count - i);
		if (!open_shard(ckpt, index, &index->entries[i], run, err))
			return false;
	}
	return true;
}

static bool open_indexed(struct checkpoint *ckpt, const char *path, error *err)
{
	struct index index = { 0 };
	bool ok = index_load(&index, path, err) && open_shards(ckpt, &index, err);
	index_free(&index);
	return ok;
}

/* ---- The folder ---- */

static bool open_single(struct checkpoint *ckpt, const char *path, error *err)
{
	ckpt->files = arena_alloc(&ckpt->memory, 1, sizeof *ckpt->files, err);
	if (!ckpt->files || !safetensors_open(&ckpt->files[0], path, err))
		return false;
	ckpt->file_count = 1;
	return true;
}

static bool open_files(struct checkpoint *ckpt, error *err)
{
	char index[PATH_BYTES], single[PATH_BYTES];
	if (!join_path(index, sizeof index, ckpt->folder, "model.safetensors.index.json",
	               err) ||
	    !join_path(single, sizeof single, ckpt->folder, "model.safetensors", err))
		return false;
	if (file_exists(index))
		return open_indexed(ckpt, index, err);
	if (file_exists(single))
		return open_single(ckpt, single, err);
	return fail(err, EXIT_BAD_INPUT,
	            "%s: expected model.safetensors.index.json or model.safetensors, found "
	            "neither",
	            ckpt->folder);
}

/* The index's keys differ and agree with the shards, so no name comes twice. */
static bool collect_names(struct checkpoint *ckpt, error *err)
{
	for (size_t i = 0; i < ckpt->file_count; i++)
		ckpt->count += ckpt->files[i].count;
	ckpt->by_name = arena_alloc(&ckpt->memory, ckpt->count, sizeof *ckpt->by_name, err);
	if (!ckpt->by_name)
		return false;
	size_t n = 0;
	for (size_t i = 0; i < ckpt->file_count; i++) {
		sort_tensors(&ckpt->files[i], ckpt->by_name + n);
		n += ckpt->files[i].count;
	}
	if (n)
		qsort(ckpt->by_name, n, sizeof *ckpt->by_name, compare_tensor_names);
	return true;
}

bool checkpoint_open(struct checkpoint *ckpt, const char *folder, error *err)
{
	*ckpt = (struct checkpoint){ 0 };
	ckpt->folder = arena_text(&ckpt->memory, folder, strlen(folder), err);
	if (ckpt->folder && open_files(ckpt, err) && collect_names(ckpt, err))
		return true;
	checkpoint_close(ckpt);
	return false;
}

void checkpoint_close(struct checkpoint *ckpt)
{
	for (size_t i = 0; i < ckpt->file_count; i++)
		safetensors_close(&ckpt->files[i]);
	arena_free(&ckpt->memory);
	*ckpt = (struct checkpoint){ 0 };
}

const struct tensor *checkpoint_find(const struct checkpoint *ckpt, const char *name)
{
	struct tensor wanted = { .name = name };
	const struct tensor *key = &wanted, **found = NULL;
	if (ckpt->count)
		found = bsearch(&key, ckpt->by_name, ckpt->count, sizeof *ckpt->by_name,
		                compare_tensor_names);
	return found ? *found : NULL;
}
