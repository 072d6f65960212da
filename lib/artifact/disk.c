/* The calls that change the disk; see disk.h. */
#include "lib/artifact/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h> /* rename */
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/file.h"

/* Runs a call that answers -1 on failure until it is not interrupted; gives its
 * answer, or -errno. */
#define CALL(result, expression)                    \
	do {                                            \
		do                                          \
			(result) = (expression);                \
		while ((result) < 0 && errno == EINTR);     \
		if ((result) < 0)                           \
			(result) = -errno;                      \
	} while (0)

int disk_create(const char *path, mode_t mode)
{
	int fd;
	CALL(fd, open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
	return fd;
}

int disk_append(const char *path)
{
	int fd;
	CALL(fd, open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
	return fd;
}

int disk_open_lock(const char *path)
{
	int fd;
	CALL(fd, open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666));
	return fd;
}

int disk_write(int fd, const void *data, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n;
		CALL(n, write(fd, (const char *)data + done, size - done));
		if (n < 0)
			return (int)n;
		if (n == 0)
			return -EIO;
		done += (size_t)n;
	}
	return 0;
}

int disk_write_once(int fd, const void *data, size_t size)
{
	ssize_t n;
	CALL(n, write(fd, data, size));
	if (n < 0)
		return (int)n;
	return (size_t)n == size ? 0 : -ENOSPC;
}

int disk_sync(int fd)
{
	int result;
	CALL(result, fsync(fd));
	return result;
}

int disk_sync_folder(const char *path)
{
	int fd;
	CALL(fd, open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (fd < 0)
		return fd;
	int result = disk_sync(fd);
	close(fd);
	/* File systems that cannot sync a folder say EINVAL, and have no more to
	 * give. */
	return result == -EINVAL ? 0 : result;
}

size_t last_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? (size_t)(slash - path) + 1 : 0;
}

int disk_sync_parent(const char *path)
{
	char folder[PATH_BYTES];
	size_t length = last_name(path);
	if (length == 0)
		return disk_sync_folder(".");
	if (length >= sizeof folder)
		return -ENAMETOOLONG;
	memcpy(folder, path, length); /* the slash at the end does no harm */
	folder[length] = '\0';
	return disk_sync_folder(folder);
}

int disk_set_time(int fd, struct timespec changed)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, changed };
	int result;
	CALL(result, futimens(fd, times));
	return result;
}

int disk_touch(const char *path)
{
	int result;
	CALL(result, utimensat(AT_FDCWD, path, NULL, 0));
	return result;
}

void disk_start_sync(int fd)
{
	sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

int disk_rename(const char *from, const char *to)
{
	int result;
	CALL(result, rename(from, to));
	return result;
}

int disk_rename_new(const char *from, const char *to)
{
	int result;
	CALL(result, renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE));
	return result;
}

int disk_exchange(const char *one, const char *other)
{
	int result;
	CALL(result, renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE));
	return result;
}

int disk_link(const char *from, const char *to)
{
	int result;
	CALL(result, link(from, to));
	return result;
}

int disk_unlink(const char *path)
{
	return disk_unlink_at(AT_FDCWD, path);
}

int disk_unlink_at(int folder, const char *name)
{
	int result;
	CALL(result, unlinkat(folder, name, 0));
	return result;
}

int disk_remove_folder(const char *path)
{
	return disk_remove_folder_at(AT_FDCWD, path);
}

int disk_remove_folder_at(int folder, const char *name)
{
	int result;
	CALL(result, unlinkat(folder, name, AT_REMOVEDIR));
	return result;
}

int disk_make_folder(const char *path)
{
	int result;
	CALL(result, mkdir(path, 0777));
	return result;
}

int disk_make_folders(const char *path)
{
	char partial[PATH_BYTES];
	struct stat st;
	size_t length = strlen(path);
	if (length >= sizeof partial)
		return -ENAMETOOLONG;
	if (stat(path, &st) == 0)
		return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
	memcpy(partial, path, length + 1);
	for (size_t i = 1; i <= length; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		partial[i] = '\0';
		int result = disk_make_folder(partial);
		if (result != 0 && result != -EEXIST)
			return result;
		partial[i] = path[i];
	}
	return 0;
}

int disk_clone(int to, int from)
{
	int result;
	CALL(result, ioctl(to, FICLONE, from));
	return result;
}

int disk_copy_range(int to, int from, uint64_t size)
{
	off_t read_at = 0, write_at = 0;
	while ((uint64_t)read_at < size) {
		ssize_t n;
		CALL(n, copy_file_range(from, &read_at, to, &write_at,
		                        size - (uint64_t)read_at, 0));
		if (n < 0)
			return (int)n;
		if (n == 0)
			return -ENODATA;
	}
	return 0;
}

bool fail_disk(error *err, int code, const char *path, const char *what)
{
	fail_errno(err, -code, "%s: cannot %s", path, what);
	err->code = EXIT_ENVIRONMENT;
	return false;
}
