/* Listing a store; see census.h. */
#include "lib/artifact/census.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_TEXT_BYTES = 64 << 20 };

/* ---- folders of digests ---- */

struct walk {
	struct census *census;
	const struct store *store;
	size_t capacity;
};

typedef bool visitor(struct walk *w, const struct digest *digest, error *err);

static bool visit_folder(struct walk *w, const char *folder, visitor *visit, error *err)
{
	DIR *dir = opendir(folder);
	struct dirent *entry;
	bool ok = true;
	if (!dir)
		return errno == ENOENT || errno == ENOTDIR ||
		       fail_errno(err, errno, "%s: cannot open", folder);
	while (ok && (entry = readdir(dir))) {
		struct digest digest;
		if (digest_parse(entry->d_name, strlen(entry->d_name), &digest))
			ok = visit(w, &digest, err);
	}
	closedir(dir);
	return ok;
}

static bool visit_kind(struct walk *w, const char *kind, visitor *visit, error *err)
{
	w->capacity = 0;
	for (int i = 0; i < 256; i++) {
		char name[32], folder[PATH_BYTES];
		snprintf(name, sizeof name, "%s/%02x", kind, i);
		if (!join_path(folder, sizeof folder, w->store->folder, name, err) ||
		    !visit_folder(w, folder, visit, err))
			return false;
	}
	return true;
}

/* Room for one more at the end of an array. */
static bool reserve(struct walk *w, void **array, size_t count, size_t size, error *err)
{
	if (count < w->capacity)
		return true;
	size_t capacity = w->capacity ? 2 * w->capacity : 256;
	void *grown = realloc(*array, capacity * size);
	if (!grown)
		return fail_memory(err, "the list of a store", capacity * size);
	*array = grown;
	w->capacity = capacity;
	return true;
}

static bool add_object(struct walk *w, const struct digest *digest, error *err)
{
	struct census *c = w->census;
	char path[PATH_BYTES];
	struct stat st;
	if (!store_object_path(w->store, digest, path, err))
		return false;
	if (lstat(path, &st) != 0)
		return true; /* gone since */
	if (!reserve(w, (void **)&c->objects, c->object_count, sizeof *c->objects, err))
		return false;
	c->objects[c->object_count++] = (struct stored_object){ .digest = *digest,
		.bytes = (uint64_t)st.st_size, .stored = st.st_mtim.tv_sec };
	c->bytes += (uint64_t)st.st_size;
	return true;
}

/* The tool that the key's text names. */
static const char *take_tool(struct stored_result *r, const char *key_text, error *err)
{
	if (strncmp(key_text, "tool ", 5) != 0)
		return "?";
	return arena_text(&r->result.memory, key_text + 5, strcspn(key_text + 5, "\n"), err);
}

/* Reads folder/name; *data NULL when that cannot be done. */
static bool read_text(const char *folder, const char *name, char **data, size_t *size,
                      error *err)
{
	char path[PATH_BYTES];
	*data = NULL;
	if (!join_path(path, sizeof path, folder, name, err))
		return false;
	if (read_file(path, MAX_TEXT_BYTES, data, size, err))
		return true;
	*data = NULL;
	return err->code == EXIT_BAD_INPUT;
}

static bool read_stored(struct stored_result *r, const char *folder, error *err)
{
	char *lines, *key_text = NULL;
	size_t size, key_size;
	struct digest found;
	if (!read_text(folder, "result.txt", &lines, &size, err))
		return false;
	bool ok = (!lines || result_parse(lines, size, &r->result, &r->whole, err)) &&
	          read_text(folder, "key.txt", &key_text, &key_size, err);
	free(lines);
	if (ok && key_text) {
		ok = digest_bytes(key_text, key_size, &found, err) &&
		     (r->tool = take_tool(r, key_text, err));
		r->whole = r->whole && ok && digest_equal(&found, &r->key);
	} else {
		r->tool = "?";
		r->whole = false;
	}
	free(key_text);
	return ok;
}

static bool add_result(struct walk *w, const struct digest *digest, error *err)
{
	struct census *c = w->census;
	char folder[PATH_BYTES];
	struct stat st;
	struct stored_result r = { .key = *digest };
	if (!store_result_path(w->store, digest, folder, err))
		return false;
	if (stat(folder, &st) != 0)
		return true;
	r.stored = st.st_mtim.tv_sec;
	if (!reserve(w, (void **)&c->results, c->result_count, sizeof *c->results, err) ||
	    !read_stored(&r, folder, err)) {
		result_free(&r.result);
		return false;
	}
	c->results[c->result_count++] = r;
	return true;
}

/* ---- the census ---- */

/* Both structs begin with their digest. */
static int compare_digests(const void *a, const void *b)
{
	return strcmp(((const struct digest *)a)->hex, ((const struct digest *)b)->hex);
}

bool census_take(struct census *c, const struct store *s, error *err)
{
	struct walk w = { .census = c, .store = s };
	*c = (struct census){ 0 };
	if (!visit_kind(&w, "objects", add_object, err) ||
	    !visit_kind(&w, "results", add_result, err)) {
		census_free(c);
		return false;
	}
	if (c->object_count)
		qsort(c->objects, c->object_count, sizeof *c->objects, compare_digests);
	if (c->result_count)
		qsort(c->results, c->result_count, sizeof *c->results, compare_digests);
	return true;
}

void census_free(struct census *c)
{
	for (size_t i = 0; i < c->result_count; i++)
		result_free(&c->results[i].result);
	free(c->objects);
	free(c->results);
	*c = (struct census){ 0 };
}

struct stored_object *census_object(struct census *c, const struct digest *digest)
{
	return c->object_count ? bsearch(digest, c->objects, c->object_count,
	                                 sizeof *c->objects, compare_digests) : NULL;
}

struct stored_result *census_result(struct census *c, const struct digest *key)
{
	return c->result_count ? bsearch(key, c->results, c->result_count,
	                                 sizeof *c->results, compare_digests) : NULL;
}

uint64_t result_bytes(const struct stored_result *r)
{
	uint64_t bytes = 0;
	for (size_t i = 0; i < r->result.count; i++)
		bytes += r->result.outputs[i].bytes;
	return bytes;
}
