/* Removing what is not needed; see collect.h. */
#include "lib/artifact/collect.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/artifact/disk.h"
#include "lib/artifact/lock.h"

static const size_t MAX_TEXT = (size_t)1 << 30;

/* ---- marking ---- */

static void mark_digest(struct census *c, const struct digest *digest)
{
	struct stored_object *object = census_object(c, digest);
	struct stored_result *result = census_result(c, digest);
	if (object)
		object->used = true;
	if (result)
		result->used = true;
}

bool mark_named(struct census *c, const char *path, error *err)
{
	char *content;
	size_t size;
	if (!file_exists(path))
		return true;
	if (!read_file(path, MAX_TEXT, &content, &size, err))
		return false;
	for (size_t at = 0; at < size;) {
		size_t length = 0;
		struct digest digest;
		while (at + length < size && isxdigit((unsigned char)content[at + length]))
			length++;
		if (digest_parse(content + at, length, &digest))
			mark_digest(c, &digest);
		at += length + 1;
	}
	free(content);
	return true;
}

void mark_related(struct census *c)
{
	for (size_t i = 0; i < c->result_count; i++) {
		struct stored_result *r = &c->results[i];
		for (size_t k = 0; k < r->result.count; k++) {
			struct stored_object *o = census_object(c, &r->result.outputs[k].digest);
			r->used = r->used || (o && o->used);
		}
	}
	for (size_t i = 0; i < c->result_count; i++) {
		struct stored_result *r = &c->results[i];
		for (size_t k = 0; r->used && k < r->result.count; k++) {
			struct stored_object *o = census_object(c, &r->result.outputs[k].digest);
			if (o)
				o->used = true;
		}
	}
}

/* ---- removing ---- */

static bool unlink_there(const char *path, error *err)
{
	int result = disk_unlink(path);
	return result == 0 || result == -ENOENT || fail_disk(err, result, path, "remove");
}

/* result.txt goes first: without it there is no result. */
static bool remove_result(const struct store *s, const struct digest *key, error *err)
{
	static const char *const names[] = { "result.txt", "key.txt" };
	char folder[PATH_BYTES], path[PATH_BYTES];
	if (!store_result_path(s, key, folder, err))
		return false;
	for (int i = 0; i < 2; i++)
		if (!join_path(path, sizeof path, folder, names[i], err) ||
		    !unlink_there(path, err))
			return false;
	int result = disk_remove_folder(folder);
	/* Something of a process that publishes it again. */
	return result == 0 || result == -ENOENT || result == -ENOTEMPTY ||
	       fail_disk(err, result, folder, "remove");
}

static bool remove_results(struct census *c, const struct store *s, time_t before,
                           struct collected *done, error *err)
{
	for (size_t i = 0; i < c->result_count; i++) {
		struct stored_result *r = &c->results[i];
		if (r->used || r->stored >= before)
			continue;
		if (!remove_result(s, &r->key, err))
			return false;
		done->results++;
	}
	return true;
}

static int compare_ages(const void *a, const void *b)
{
	const struct stored_object *x = *(struct stored_object *const *)a;
	const struct stored_object *y = *(struct stored_object *const *)b;
	return x->stored < y->stored ? -1 : x->stored > y->stored;
}

static bool remove_objects(struct census *c, const struct store *s,
                           const struct collect_limits *limits, struct collected *done,
                           error *err)
{
	uint64_t left = c->bytes;
	bool ok = true;
	struct stored_object **by_age = calloc(c->object_count + 1, sizeof *by_age);
	if (!by_age)
		return fail_memory(err, "the list of a store", c->object_count);
	for (size_t i = 0; i < c->object_count; i++)
		by_age[i] = &c->objects[i];
	qsort(by_age, c->object_count, sizeof *by_age, compare_ages);
	for (size_t i = 0; ok && i < c->object_count; i++) {
		const struct stored_object *o = by_age[i];
		char path[PATH_BYTES];
		bool old = o->stored < limits->before;
		bool surplus = left > limits->most_bytes && o->stored < limits->fresh;
		if (o->used || !(old || surplus))
			continue;
		ok = store_object_path(s, &o->digest, path, err) && unlink_there(path, err);
		left -= o->bytes;
		done->objects += ok;
		done->bytes += ok ? o->bytes : 0;
	}
	free(by_age);
	return ok;
}

/* Calls visit for every entry but "." and ".."; an absent folder has none. */
static bool for_each(const char *folder, bool (*visit)(const char *, const char *, void *,
                                                       error *),
                     void *argument, error *err)
{
	struct dirent *entry;
	bool ok = true;
	DIR *dir = opendir(folder);
	if (!dir)
		return errno == ENOENT || errno == ENOTDIR ||
		       fail_errno(err, errno, "%s: cannot open", folder);
	while (ok && (entry = readdir(dir))) {
		char path[PATH_BYTES];
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			ok = join_path(path, sizeof path, folder, entry->d_name, err) &&
			     visit(path, entry->d_name, argument, err);
	}
	closedir(dir);
	return ok;
}

struct sweep {
	time_t before;
	struct collected *done;
};

static bool remove_damaged(const char *path, const char *name, void *argument, error *err)
{
	struct sweep *sweep = argument;
	struct stat st;
	(void)name;
	if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode) || st.st_ctime >= sweep->before)
		return true;
	sweep->done->bytes += (uint64_t)st.st_size;
	sweep->done->objects++;
	return unlink_there(path, err);
}

bool collect_store(struct census *c, const struct store *s,
                   const struct collect_limits *limits, struct collected *done, error *err)
{
	char damaged[PATH_BYTES];
	struct sweep sweep = { .before = limits->before, .done = done };
	return remove_results(c, s, limits->before, done, err) &&
	       remove_objects(c, s, limits, done, err) &&
	       join_path(damaged, sizeof damaged, s->folder, "damaged", err) &&
	       for_each(damaged, remove_damaged, &sweep, err);
}

/* ---- leftovers ---- */

static bool has_suffix(const char *name, const char *suffix)
{
	size_t length = strlen(name), tail = strlen(suffix);
	return length > tail && strcmp(name + length - tail, suffix) == 0;
}

static bool sweep_entry(const char *path, const char *name, void *argument, error *err)
{
	struct sweep *sweep = argument;
	struct stat st;
	if (lstat(path, &st) != 0)
		return true;
	if (name[0] == '.' && has_suffix(name, ".tmp")) {
		if (temp_is_ours(path) || st.st_mtime < sweep->before)
			sweep->done->temporaries += temp_reclaim(path);
		return true;
	}
	if (has_suffix(name, ".lock") && S_ISREG(st.st_mode)) {
		sweep->done->locks += lock_sweep(path);
		return true;
	}
	return !S_ISDIR(st.st_mode) || for_each(path, sweep_entry, sweep, err);
}

bool collect_leftovers(const char *folder, time_t fresh, struct collected *done, error *err)
{
	struct sweep sweep = { .before = fresh, .done = done };
	return for_each(folder, sweep_entry, &sweep, err);
}
