/* Atomic files and folders; see publish.h. */
#include "lib/artifact/publish.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/artifact/disk.h"
#include "lib/artifact/tree.h"

/* How often other publishers of the same target may get in the way. */
enum { MOST_TRIES = 100 };

/* A rename would take a device, or a link to one such as /dev/stdout, away for everybody. */
static bool check_replaceable(const char *target, error *err)
{
	struct stat st;
	if (stat(target, &st) != 0 || S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
		return true;
	return fail(err, EXIT_ENVIRONMENT,
	            "%.200s: cannot publish: expected a file, a folder or nothing there, found %s",
	            target, S_ISFIFO(st.st_mode) ? "a pipe" :
	                    S_ISSOCK(st.st_mode) ? "a socket" : "a device");
}

/* Copies the target's path without slashes at its end, if something may be put there. */
static bool keep_target(char out[PATH_BYTES], const char *target, error *err)
{
	size_t length = strlen(target);
	while (length > 1 && target[length - 1] == '/')
		length--;
	if (length == 0 || length >= PATH_BYTES)
		return fail(err, EXIT_ENVIRONMENT, "%.200s: cannot publish: the path is %s",
		            target, length ? "too long" : "empty");
	memcpy(out, target, length);
	out[length] = '\0';
	return check_replaceable(out, err);
}

bool atomic_begin(struct atomic_file *f, const char *target, error *err)
{
	f->temp.fd = -1;
	return keep_target(f->target, target, err) &&
	       temp_file(&f->temp, f->target, 0666, err);
}

bool atomic_write(struct atomic_file *f, const void *data, size_t size, error *err)
{
	int result = disk_write(f->temp.fd, data, size);
	if (result == 0)
		return true;
	atomic_abandon(f);
	return fail_disk(err, result, f->target, "write");
}

bool atomic_commit(struct atomic_file *f, error *err)
{
	int result = disk_sync(f->temp.fd);
	if (result == 0)
		result = disk_rename(f->temp.path, f->target);
	if (result == 0)
		result = disk_sync_parent(f->target);
	temp_discard(&f->temp);
	return result == 0 || fail_disk(err, result, f->target, "publish the file");
}

void atomic_abandon(struct atomic_file *f)
{
	temp_discard(&f->temp);
}

bool write_file(const char *path, const void *data, size_t size, error *err)
{
	struct atomic_file f;
	return atomic_begin(&f, path, err) && atomic_write(&f, data, size, err) &&
	       atomic_commit(&f, err);
}

bool write_cache(const char *path, const void *data, size_t size, error *err)
{
	struct atomic_file f;
	if (!atomic_begin(&f, path, err) || !atomic_write(&f, data, size, err))
		return false;
	int result = disk_rename(f.temp.path, f.target);
	temp_discard(&f.temp);
	return result == 0 || fail_disk(err, result, f.target, "replace the file");
}

/* Does the open file hold exactly data[size]? Any trouble counts as no. */
static bool holds(int fd, const char *data, size_t size)
{
	char buffer[1 << 16];
	struct stat st;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != size)
		return false;
	for (size_t done = 0; done < size;) {
		ssize_t n = read(fd, buffer, sizeof buffer);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || (size_t)n > size - done ||
		    memcmp(buffer, data + done, (size_t)n) != 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

/* Does the file hold exactly these bytes already? */
static bool is_current(const char *path, const void *data, size_t size)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	bool equal = fd >= 0 && holds(fd, data, size);
	if (fd >= 0)
		close(fd);
	return equal;
}

bool write_file_if_changed(const char *path, const void *data, size_t size,
                           bool *changed, error *err)
{
	bool equal = is_current(path, data, size);
	if (changed)
		*changed = !equal;
	return equal || write_file(path, data, size, err);
}

bool write_cache_if_changed(const char *path, const void *data, size_t size,
                            bool *changed, error *err)
{
	*changed = !is_current(path, data, size);
	return !*changed || write_cache(path, data, size, err);
}

static bool begin_file(struct atomic_file *f, const struct new_file *file, error *err)
{
	if (!atomic_begin(f, file->path, err) || !atomic_write(f, file->data, file->size, err))
		return false;
	disk_start_sync(f->temp.fd);
	return true;
}

/* The files that were begun: all synced, then all renamed, then their folders synced. */
static bool commit_files(struct atomic_file *files, size_t count, error *err)
{
	const char *failed = NULL, *before = "";
	int result = 0;
	for (size_t i = 0; result == 0 && i < count; i++)
		if (files[i].temp.fd >= 0 && (result = disk_sync(files[i].temp.fd)) != 0)
			failed = files[i].target;
	for (size_t i = 0; result == 0 && i < count; i++)
		if (files[i].temp.fd >= 0 &&
		    (result = disk_rename(files[i].temp.path, files[i].target)) != 0)
			failed = files[i].target;
	for (size_t i = 0; result == 0 && i < count; i++) {
		size_t folder = last_name(files[i].target);
		if (files[i].temp.fd < 0 || (folder == last_name(before) &&
		                             memcmp(before, files[i].target, folder) == 0))
			continue;
		before = files[i].target;
		if ((result = disk_sync_parent(before)) != 0)
			failed = before;
	}
	return result == 0 || fail_disk(err, result, failed, "publish the file");
}

bool write_files_if_changed(const struct new_file *files, size_t count, error *err)
{
	struct atomic_file *begun = calloc(count, sizeof *begun);
	if (!begun)
		return fail_memory(err, "new files", count * sizeof *begun);
	bool ok = true;
	for (size_t i = 0; i < count; i++)
		begun[i].temp.fd = -1;
	for (size_t i = 0; ok && i < count; i++)
		ok = is_current(files[i].path, files[i].data, files[i].size) ||
		     begin_file(&begun[i], &files[i], err);
	ok = ok && commit_files(begun, count, err);
	for (size_t i = 0; i < count; i++)
		temp_discard(&begun[i].temp);
	free(begun);
	return ok;
}

bool draft_begin(struct draft *d, const char *target, error *err)
{
	d->temp.fd = -1;
	return keep_target(d->target, target, err) &&
	       temp_folder(&d->temp, d->target, err);
}

/* Where `name` goes in the draft; its folder is made. */
static bool draft_path(struct draft *d, const char *name, char out[PATH_BYTES],
                       error *err)
{
	if (!join_path(out, PATH_BYTES, d->temp.path, name, err))
		return false;
	size_t slash = last_name(out) - 1;
	out[slash] = '\0';
	int result = disk_make_folders(out);
	out[slash] = '/';
	return result == 0 || fail_disk(err, result, out, "make its folder");
}

static bool write_new(const char *path, const void *data, size_t size, error *err)
{
	int fd = disk_create(path, 0666);
	int result = fd < 0 ? fd : disk_write(fd, data, size);
	if (fd >= 0 && close(fd) != 0 && result == 0 && errno != EINTR)
		result = -errno;
	return result == 0 || fail_disk(err, result, path, "write");
}

bool draft_write(struct draft *d, const char *name, const void *data, size_t size,
                 error *err)
{
	char path[PATH_BYTES];
	if (draft_path(d, name, path, err) && write_new(path, data, size, err))
		return true;
	draft_abandon(d);
	return false;
}

bool draft_link(struct draft *d, const char *object, const char *name, unsigned modes,
                error *err)
{
	char path[PATH_BYTES];
	if (draft_path(d, name, path, err) && place_object(object, path, modes, NULL, err))
		return true;
	draft_abandon(d);
	return false;
}

static bool cannot_swap(int result)
{
	return result == -EINVAL || result == -ENOSYS || result == -EOPNOTSUPP;
}

static bool is_occupied(int result)
{
	return result == -ENOTEMPTY || result == -EEXIST || result == -ENOTDIR;
}

/* For file systems without RENAME_EXCHANGE: the old folder goes into a temporary
 * one, the new takes its place; again if another publisher's took it first. */
static int move_aside_and_in(struct draft *d)
{
	int result = disk_rename(d->temp.path, d->target);
	for (int tries = 0; is_occupied(result) && tries < MOST_TRIES; tries++) {
		struct temp box;
		char old[PATH_BYTES];
		error unused;
		if (!temp_folder(&box, d->target, &unused))
			return result;
		result = join_path(old, sizeof old, box.path, "old", &unused)
		         ? disk_rename(d->target, old) : -ENAMETOOLONG;
		bool moved = result == 0;
		if (moved || result == -ENOENT)
			result = disk_rename(d->temp.path, d->target);
		/* Better a leftover than losing the old one too. */
		if (moved && result != 0 && !is_occupied(result) &&
		    disk_rename(old, d->target) != 0)
			temp_close(&box);
		temp_discard(&box);
	}
	return result;
}

/* Again if, between the two calls, somebody took away what the first one met. */
static int swap_in(struct draft *d)
{
	int result = -ENOENT;
	for (int tries = 0; result == -ENOENT && tries < MOST_TRIES; tries++) {
		result = disk_rename_new(d->temp.path, d->target);
		if (result == -EEXIST)
			result = disk_exchange(d->temp.path, d->target);
	}
	return cannot_swap(result) ? move_aside_and_in(d) : result;
}

bool draft_publish(struct draft *d, error *err)
{
	int result = tree_sync(d->temp.fd);
	if (result == 0)
		result = swap_in(d);
	if (result != 0) {
		draft_abandon(d);
		return fail_disk(err, result, d->target, "publish the folder");
	}
	temp_close(&d->temp);
	result = disk_sync_parent(d->target);
	temp_remove_old(d->temp.path);
	return result == 0 || fail_disk(err, result, d->target, "sync the folder around");
}

void draft_abandon(struct draft *d)
{
	temp_discard(&d->temp);
}

bool remove_folder(const char *path, error *err)
{
	struct temp box;
	char target[PATH_BYTES], old[PATH_BYTES];
	if (!keep_target(target, path, err) || !temp_folder(&box, target, err))
		return false;
	bool ok = join_path(old, sizeof old, box.path, "old", err);
	int result = ok ? disk_rename(target, old) : 0;
	if (ok && result == 0)
		result = disk_sync_parent(target);
	temp_discard(&box);
	return ok && (result == 0 || fail_disk(err, result, path, "remove the folder"));
}
