/* Filling a checkpoint's folder; see checkpoint_draft.h. */
#include "lib/quant/checkpoint_draft.h"

#include <stdlib.h>

enum { MAX_TEXT_BYTES = 256 << 20 };

bool checkpoint_begin(struct checkpoint_draft *d, const char *tree, const char *folder,
                      error *err)
{
	char path[PATH_BYTES];
	*d = (struct checkpoint_draft){ .draft.temp.fd = -1, .files = tree_new() };
	if (join_path(path, sizeof path, tree, "store", err) &&
	    store_open(&d->store, path, err) && draft_begin(&d->draft, folder, err))
		return true;
	checkpoint_end(d);
	return false;
}

void checkpoint_abandon(struct checkpoint_draft *d)
{
	draft_abandon(&d->draft);
}

void checkpoint_end(struct checkpoint_draft *d)
{
	tree_free(&d->files);
}

void record_file(struct json_tree *files, const char *name, const struct digest *digest,
                 uint64_t bytes)
{
	cJSON *entry = tree_object(files, files->root, name);
	tree_text(files, entry, "sha256", digest->hex);
	tree_number(files, entry, "bytes", (double)bytes);
}

static bool add_bytes(struct checkpoint_draft *d, const char *name, const void *data,
                      size_t size, error *err)
{
	struct digest digest;
	if (!digest_bytes(data, size, &digest, err) ||
	    !draft_write(&d->draft, name, data, size, err))
		return false;
	record_file(&d->files, name, &digest, size);
	d->written += size;
	return true;
}

bool add_text(struct checkpoint_draft *d, const char *name, const text *content, error *err)
{
	return add_bytes(d, name, content->data ? content->data : "", content->length, err);
}

bool add_copy(struct checkpoint_draft *d, const char *name, const char *path, error *err)
{
	char *data;
	size_t size;
	if (!read_file(path, MAX_TEXT_BYTES, &data, &size, err))
		return false;
	bool ok = add_bytes(d, name, data, size, err);
	free(data);
	return ok;
}

bool add_shared(struct checkpoint_draft *d, const char *name, const char *path, error *err)
{
	char *data;
	size_t size;
	struct output object = { .name = name };
	if (!read_file(path, MAX_TEXT_BYTES, &data, &size, err))
		return false;
	bool ok = store_add_bytes(&d->store, data, size, &object, err) &&
	          link_object_as(d, name, &object, err);
	free(data);
	return ok;
}

bool link_object_as(struct checkpoint_draft *d, const char *name,
                    const struct output *object, error *err)
{
	char path[PATH_BYTES];
	record_file(&d->files, name, &object->digest, object->bytes);
	return store_object_path(&d->store, &object->digest, path, err) &&
	       draft_link(&d->draft, path, name, LINK_ANY, err);
}
