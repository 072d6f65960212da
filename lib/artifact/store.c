/* Objects and results on disk; see store.h. */
#include "lib/artifact/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/artifact/disk.h"
#include "lib/artifact/publish.h"

enum { COPY_BYTES = 1 << 20, MAX_RESULT_BYTES = 64 << 20 };

/* Makes a folder whose name survives a power cut. */
static bool make_folder(const struct store *s, const char *path, error *err)
{
	int result = disk_make_folder(path);
	if (result == -EEXIST)
		return true;
	if (result == 0 && !s->hasty)
		result = disk_sync_parent(path);
	return result == 0 || fail_disk(err, result, path, "make the folder");
}

static bool make_parent(const struct store *s, const char *path, error *err)
{
	char folder[PATH_BYTES];
	snprintf(folder, sizeof folder, "%.*s", (int)last_name(path) - 1, path);
	return make_folder(s, folder, err);
}

static bool make_inside(const struct store *s, const char *name, error *err)
{
	char path[PATH_BYTES];
	return join_path(path, sizeof path, s->folder, name, err) && make_folder(s, path, err);
}

bool store_open(struct store *s, const char *folder, error *err)
{
	size_t length = strlen(folder);
	/* Room for everything below it. */
	if (length + 256 > sizeof s->folder)
		return fail_disk(err, -ENAMETOOLONG, folder, "open the store");
	memcpy(s->folder, folder, length + 1);
	s->hasty = false;
	int result = disk_make_folders(folder);
	return (result == 0 || fail_disk(err, result, folder, "make the store")) &&
	       make_inside(s, "objects", err) && make_inside(s, "results", err) &&
	       make_inside(s, "locks", err) && make_inside(s, "tmp", err);
}

/* <store>/<kind>/ab/abcdef... */
static bool digest_path(const struct store *s, const char *kind,
                        const struct digest *digest, char out[PATH_BYTES], error *err)
{
	int length = snprintf(out, PATH_BYTES, "%s/%s/%.2s/%s", s->folder, kind,
	                      digest->hex, digest->hex);
	if (length < 0 || length >= PATH_BYTES)
		return fail_disk(err, -ENAMETOOLONG, s->folder, "use the store");
	return true;
}

bool store_object_path(const struct store *s, const struct digest *digest,
                       char out[PATH_BYTES], error *err)
{
	return digest_path(s, "objects", digest, out, err);
}

bool store_result_path(const struct store *s, const struct digest *key,
                       char out[PATH_BYTES], error *err)
{
	return digest_path(s, "results", key, out, err);
}

/* ---- objects that were written to ---- */

/* The nanoseconds that an object's time of change has. */
static long mark_of(const struct digest *digest)
{
	unsigned long first;
	return sscanf(digest->hex, "%8lx", &first) == 1 ? (long)(first % 1000000000) : 0;
}

/* Zero is what file systems that count whole seconds keep of a mark. No mark lies in
 * the future. */
static bool is_marked(const struct stat *st, const struct digest *digest)
{
	long nanoseconds = st->st_mtim.tv_nsec;
	return (nanoseconds == mark_of(digest) || nanoseconds == 0) &&
	       st->st_mtim.tv_sec <= st->st_ctim.tv_sec;
}

/* Gives the object its mark: a second before it was written last, by the file system's
 * clock, which also dates what is published after it. A file system that keeps no times
 * loses the mark: the object is then read whenever it is used. */
static void set_mark(int fd, const struct digest *digest)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		return;
	time_t written = st.st_mtim.tv_sec, changed = st.st_ctim.tv_sec;
	disk_set_time(fd, (struct timespec){
		.tv_sec = (written < changed ? written : changed) - 1,
		.tv_nsec = mark_of(digest) });
}

/* Moves a bad object out of the way, so that whatever names it is a miss. */
static bool set_aside(const struct store *s, const struct digest *digest,
                      const char *path, char aside[PATH_BYTES], error *err)
{
	if (!make_inside(s, "damaged", err))
		return false;
	snprintf(aside, PATH_BYTES, "%.*s/damaged/%s", PATH_BYTES - 128, s->folder,
	         digest->hex);
	/* Its other names, in checkpoints, show that it is not as it was. */
	disk_touch(path);
	int result = disk_rename(path, aside);
	return result == 0 || result == -ENOENT ||
	       fail_disk(err, result, path, "move the damaged object away");
}

/* Reads the object; marks it again when it is whole. */
static bool reread_object(const struct store *s, const struct digest *digest,
                          const char *path, const struct stat *st, bool *whole, error *err)
{
	char aside[PATH_BYTES];
	struct digest found;
	uint64_t bytes;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fail_disk(err, -errno, path, "open the object");
	bool ok = digest_descriptor(fd, path, &found, &bytes, err);
	*whole = ok && digest_equal(&found, digest);
	if (*whole && !is_marked(st, digest))
		set_mark(fd, digest);
	close(fd);
	return ok && (*whole || set_aside(s, digest, path, aside, err));
}

bool store_check(const struct store *s, const struct digest *digest, bool reread,
                 enum object_state *state, struct stat *st, error *err)
{
	char path[PATH_BYTES];
	struct stat own;
	bool whole = true;
	st = st ? st : &own;
	*state = OBJECT_ABSENT;
	if (!store_object_path(s, digest, path, err))
		return false;
	if (lstat(path, st) != 0)
		return errno == ENOENT || errno == ENOTDIR ||
		       fail_disk(err, -errno, path, "look at the object");
	if (!S_ISREG(st->st_mode))
		return true;
	if ((reread || !is_marked(st, digest)) &&
	    !reread_object(s, digest, path, st, &whole, err))
		return false;
	*state = whole ? OBJECT_WHOLE : OBJECT_DAMAGED;
	return true;
}

/* Is the object there with this size, and not written to? */
static bool look_for_object(const struct store *s, const struct output *o,
                            bool *present, error *err)
{
	struct stat st;
	enum object_state state;
	if (!store_check(s, &o->digest, false, &state, &st, err))
		return false;
	*present = state == OBJECT_WHOLE && (uint64_t)st.st_size == o->bytes;
	return true;
}

/* ---- objects in the making ---- */

bool object_begin(struct object_writer *w, const struct store *s, error *err)
{
	char place[PATH_BYTES];
	*w = (struct object_writer){ .store = s, .temp.fd = -1 };
	if (!join_path(place, sizeof place, s->folder, "tmp/object", err) ||
	    !temp_file(&w->temp, place, 0444, err))
		return false;
	digester_begin(&w->digester);
	return true;
}

void object_abandon(struct object_writer *w)
{
	temp_discard(&w->temp);
}

bool object_write(struct object_writer *w, const void *data, size_t size, error *err)
{
	int result = disk_write(w->temp.fd, data, size);
	if (result != 0) {
		fail_disk(err, result, w->temp.path, "write");
		object_abandon(w);
		return false;
	}
	digester_add(&w->digester, data, size);
	w->bytes += size;
	return true;
}

/* Renames the temporary to its digest's name unless that object is there. One
 * that is there with another size is damaged, and replaced. */
static bool place_writer(struct object_writer *w, const struct output *o, error *err)
{
	char path[PATH_BYTES];
	bool present;
	if (!look_for_object(w->store, o, &present, err))
		return false;
	if (present)
		return true;
	if (!store_object_path(w->store, &o->digest, path, err) || !make_parent(w->store, path, err))
		return false;
	set_mark(w->temp.fd, &o->digest);
	int result = w->store->hasty ? 0 : disk_sync(w->temp.fd);
	if (result == 0)
		result = disk_rename(w->temp.path, path);
	return result == 0 || fail_disk(err, result, path, "store the object");
}

bool object_commit(struct object_writer *w, struct output *out, error *err)
{
	out->bytes = w->bytes;
	bool ok = digester_end(&w->digester, &out->digest, err) &&
	          place_writer(w, out, err);
	temp_discard(&w->temp);
	return ok;
}

bool store_add_bytes(const struct store *s, const void *data, size_t size,
                     struct output *out, error *err)
{
	struct object_writer w;
	bool present;
	out->bytes = size;
	if (!digest_bytes(data, size, &out->digest, err) ||
	    !look_for_object(s, out, &present, err))
		return false;
	return present || (object_begin(&w, s, err) && object_write(&w, data, size, err) &&
	                   object_commit(&w, out, err));
}

static bool copy_in(struct object_writer *w, int fd, const char *path, error *err)
{
	char *buffer = malloc(COPY_BYTES);
	ssize_t n = -1;
	bool ok = buffer != NULL || fail_memory(err, path, COPY_BYTES);
	while (ok && n != 0) {
		n = read(fd, buffer, COPY_BYTES);
		if (n > 0)
			ok = object_write(w, buffer, (size_t)n, err);
		else if (n < 0 && errno != EINTR)
			ok = fail_errno(err, errno, "%s: cannot read", path);
	}
	free(buffer);
	return ok;
}

bool store_add_file(const struct store *s, const char *path, struct output *out,
                    error *err)
{
	struct object_writer w;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fail_errno(err, errno, "%s: cannot open", path);
	bool ok = object_begin(&w, s, err);
	if (ok) {
		ok = copy_in(&w, fd, path, err);
		if (ok)
			ok = object_commit(&w, out, err);
		else
			object_abandon(&w);
	}
	close(fd);
	return ok;
}

/* All outputs are there, and the folders that hold them are synced. */
static bool check_outputs(const struct store *s, const struct output *outputs,
                          size_t count, error *err)
{
	bool synced[256] = { false }; /* by the first two digits of the digest */
	for (size_t i = 0; i < count; i++) {
		bool present;
		char path[PATH_BYTES];
		unsigned first;
		if (!look_for_object(s, &outputs[i], &present, err) ||
		    !store_object_path(s, &outputs[i].digest, path, err))
			return false;
		if (!present || sscanf(outputs[i].digest.hex, "%2x", &first) != 1)
			return fail(err, EXIT_INTERNAL,
			            "%s: expected this object of output '%s' with %" PRIu64
			            " bytes, found none", path, outputs[i].name,
			            outputs[i].bytes);
		if (synced[first] || s->hasty)
			continue;
		synced[first] = true;
		int result = disk_sync_parent(path);
		if (result != 0)
			return fail_disk(err, result, path, "sync the folder around");
	}
	return true;
}

/* A file of a result. */
static bool write_part(const struct store *s, const char *folder, const char *name,
                       const text *content, error *err)
{
	char path[PATH_BYTES];
	return join_path(path, sizeof path, folder, name, err) &&
	       (s->hasty ? write_cache(path, content->data, content->length, err)
	                 : write_file_if_changed(path, content->data, content->length, NULL,
	                                         err));
}

bool store_publish(const struct store *s, const struct key *key,
                   const struct output *outputs, size_t count, error *err)
{
	struct digest digest;
	char folder[PATH_BYTES];
	text lines = { 0 };
	bool ok = key_digest(key, &digest, err) &&
	          result_print(outputs, count, &lines, err) &&
	          check_outputs(s, outputs, count, err) &&
	          store_result_path(s, &digest, folder, err) &&
	          make_parent(s, folder, err) && make_folder(s, folder, err) &&
	          write_part(s, folder, "key.txt", &key->text, err) &&
	          write_part(s, folder, "result.txt", &lines, err);
	text_free(&lines);
	return ok;
}

/* result.txt, or *lines NULL when there is none or none that can be one. */
static bool read_result(const struct store *s, const struct digest *key, char **lines,
                        size_t *size, error *err)
{
	char folder[PATH_BYTES], path[PATH_BYTES];
	struct stat st;
	*lines = NULL;
	if (!store_result_path(s, key, folder, err) ||
	    !join_path(path, sizeof path, folder, "result.txt", err))
		return false;
	if (stat(path, &st) != 0)
		return errno == ENOENT || errno == ENOTDIR ||
		       fail_disk(err, -errno, path, "look at the result");
	if (!S_ISREG(st.st_mode) || st.st_size > MAX_RESULT_BYTES)
		return true;
	if (read_file(path, MAX_RESULT_BYTES, lines, size, err))
		return true;
	return err->code == EXIT_BAD_INPUT; /* it went away meanwhile */
}

bool store_find(const struct store *s, const struct digest *key, struct result *out,
                bool *found, error *err)
{
	char *lines;
	size_t size;
	*out = (struct result){ 0 };
	*found = false;
	if (!read_result(s, key, &lines, &size, err))
		return false;
	if (!lines)
		return true;
	bool ok = result_parse(lines, size, out, found, err);
	free(lines);
	for (size_t i = 0; ok && *found && i < out->count; i++)
		ok = look_for_object(s, &out->outputs[i], found, err);
	if (!ok || !*found)
		result_free(out);
	return ok;
}


bool store_read(const struct store *s, const struct digest *digest, size_t max_bytes,
                char **data, size_t *size, error *err)
{
	char path[PATH_BYTES], aside[PATH_BYTES];
	struct digest found;
	if (!store_object_path(s, digest, path, err) ||
	    !read_file(path, max_bytes, data, size, err))
		return false;
	bool ok = digest_bytes(*data, *size, &found, err);
	if (ok && !digest_equal(digest, &found))
		ok = set_aside(s, digest, path, aside, err) &&
		     fail(err, EXIT_ENVIRONMENT,
		          "%s: the object's bytes are not what its name says; moved to %s, the "
		          "next run makes it again", path, aside);
	if (!ok) {
		free(*data);
		*data = NULL;
	}
	return ok;
}
