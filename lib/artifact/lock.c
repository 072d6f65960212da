/* flock files; see lock.h. */
#include "lib/artifact/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/artifact/disk.h"

enum { POLL_NANOSECONDS = 20 * 1000 * 1000 };

/* 0, or -errno; -EWOULDBLOCK only with `how` LOCK_NB. */
static int lock_descriptor(int fd, int how)
{
	int result;
	do
		result = flock(fd, LOCK_EX | how);
	while (result != 0 && errno == EINTR);
	if (result == 0 || errno == ENOLCK || errno == ENOSYS || errno == EOPNOTSUPP)
		return 0;
	return -errno;
}

/* Is the name gone, or does it mean another file than fd by now? */
static bool was_removed(int fd, const char *path)
{
	struct stat by_path, by_fd;
	if (stat(path, &by_path) != 0)
		return errno == ENOENT;
	return fstat(fd, &by_fd) == 0 && (by_path.st_dev != by_fd.st_dev ||
	                                  by_path.st_ino != by_fd.st_ino);
}

/* Sets lock->fd when the lock was taken; leaves it -1 when somebody has it and
 * `how` is LOCK_NB. */
static bool take(struct lock *lock, int how, error *err)
{
	for (lock->fd = -1; lock->fd < 0;) {
		int fd = disk_open_lock(lock->path);
		if (fd < 0)
			return fail_disk(err, fd, lock->path, "open the lock file");
		int result = lock_descriptor(fd, how);
		if (result == 0 && !was_removed(fd, lock->path)) {
			lock->fd = fd;
			return true;
		}
		close(fd);
		if (result == -EWOULDBLOCK)
			return true;
		if (result != 0)
			return fail_disk(err, result, lock->path, "lock");
	}
	return true;
}

bool lock_take(struct lock *lock, const char *path, error *err)
{
	lock->fd = -1;
	size_t length = strlen(path);
	if (length >= sizeof lock->path)
		return fail_disk(err, -ENAMETOOLONG, path, "lock");
	memcpy(lock->path, path, length + 1);
	return take(lock, 0, err);
}

bool slot_take(struct lock *lock, const char *folder, const char *name, int count,
               int *slot, error *err)
{
	const struct timespec pause = { .tv_nsec = POLL_NANOSECONDS };
	lock->fd = -1;
	if (count < 1)
		return fail(err, EXIT_INTERNAL, "%s/%s: expected at least one slot, found %d",
		            folder, name, count);
	for (;; nanosleep(&pause, NULL)) {
		for (int i = 0; i < count; i++) {
			int length = snprintf(lock->path, sizeof lock->path, "%s/%s.%d", folder,
			                      name, i);
			if (length < 0 || (size_t)length >= sizeof lock->path)
				return fail_disk(err, -ENAMETOOLONG, folder, "lock");
			if (!take(lock, LOCK_NB, err))
				return false;
			if (lock->fd >= 0) {
				*slot = i;
				return true;
			}
		}
	}
}

void lock_release(struct lock *lock)
{
	if (lock->fd < 0)
		return;
	disk_unlink(lock->path); /* while it is still held: see lock.h */
	close(lock->fd);
	lock->fd = -1;
}

bool lock_sweep(const char *path)
{
	int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return false;
	bool gone = flock(fd, LOCK_EX | LOCK_NB) == 0 && !was_removed(fd, path) &&
	            disk_unlink(path) == 0;
	close(fd);
	return gone;
}
