/* Cheap edges; see step.h. */
#include "lib/artifact/step.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/artifact/disk.h"
#include "lib/artifact/log.h"
#include "lib/artifact/publish.h"
#include "lib/artifact/store.h"
#include "lib/artifact/tool.h"
#include "lib/base/file.h"

enum { MAX_KEY_BYTES = 64 << 20 };

bool step_begin(struct step *s, const char *tree, const char *tool, const char *target,
                error *err)
{
	struct digest sources;
	*s = (struct step){ .tree = tree, .tool = tool, .target = target };
	clock_gettime(CLOCK_MONOTONIC, &s->begun);
	if (!tree)
		return true;
	if (!tool_sources(&sources, err))
		return false;
	key_begin(&s->key, tool, &sources);
	return true;
}

bool step_input(struct step *s, const char *name, const char *path, error *err)
{
	struct digest digest;
	uint64_t bytes;
	if (!s->tree)
		return true;
	if (!digest_file(path, &digest, &bytes, err))
		return false;
	key_input(&s->key, name, &digest);
	return true;
}

bool step_inputs(struct step *s, const char *name, const char *const *paths, int count,
                 error *err)
{
	for (int i = 0; i < count; i++)
		if (!step_input(s, name, paths[i], err))
			return false;
	return true;
}

bool step_write(struct step *s, const char *path, const text *content, error *err)
{
	bool changed;
	if (!write_file_if_changed(path, content->data ? content->data : "", content->length,
	                           &changed, err))
		return false;
	s->bytes += changed ? content->length : 0;
	return true;
}

static bool name_key(const char *tree, const struct digest *key, char folder[PATH_BYTES],
                     char path[PATH_BYTES], error *err)
{
	char name[DIGEST_HEX + sizeof ".txt"];
	snprintf(name, sizeof name, "%s.txt", key->hex);
	return join_path(folder, PATH_BYTES, tree, "log/keys", err) &&
	       join_path(path, PATH_BYTES, folder, name, err);
}

/* Not synced: a text that a power cut tore has another digest, and is written again
 * by the next edge that has this key. */
static bool keep_text(const char *folder, const char *path, const text *content, error *err)
{
	struct stat st;
	if (stat(path, &st) == 0 && (uint64_t)st.st_size == content->length)
		return true;
	int result = disk_make_folders(folder);
	if (result == 0) {
		disk_unlink(path);
		int fd = disk_create(path, 0666);
		/* Another edge with the same key is writing it. */
		if (fd == -EEXIST)
			return true;
		result = fd < 0 ? fd : disk_write(fd, content->data, content->length);
		if (fd >= 0)
			close(fd);
	}
	return result == 0 || fail_disk(err, result, path, "keep the key");
}

bool step_end(struct step *s, error *err)
{
	char folder[PATH_BYTES], path[PATH_BYTES];
	struct log_entry entry = { .tool = s->tool, .target = s->target, .bytes = s->bytes };
	bool ok = !s->tree ||
	          (key_digest(&s->key, &entry.key, err) &&
	           name_key(s->tree, &entry.key, folder, path, err) &&
	           keep_text(folder, path, &s->key.text, err));
	entry.seconds = seconds_since(&s->begun);
	return ok && (!s->tree || log_append(s->tree, &entry, err));
}

void step_drop(struct step *s)
{
	key_free(&s->key);
}

static bool read_key(const char *path, const struct digest *key, char **out, bool *found,
                     error *err)
{
	size_t size;
	struct digest digest;
	*found = false;
	if (!file_exists(path))
		return true;
	if (!read_file(path, MAX_KEY_BYTES, out, &size, err))
		return err->code == EXIT_BAD_INPUT; /* it went away meanwhile */
	bool ok = digest_bytes(*out, size, &digest, err);
	*found = ok && digest_equal(&digest, key);
	if (!*found)
		free(*out);
	return ok;
}

bool key_recall(const char *tree, const struct digest *key, char **out, bool *found,
                error *err)
{
	char folder[PATH_BYTES], path[PATH_BYTES];
	struct store store;
	*found = false;
	if (!name_key(tree, key, folder, path, err) || !read_key(path, key, out, found, err))
		return false;
	if (*found)
		return true;
	return join_path(store.folder, sizeof store.folder, tree, "store", err) &&
	       store_result_path(&store, key, folder, err) &&
	       join_path(path, sizeof path, folder, "key.txt", err) &&
	       read_key(path, key, out, found, err);
}
