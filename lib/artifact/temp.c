/* Temporary names and who holds them; see temp.h. */
#include "lib/artifact/temp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "lib/artifact/disk.h"
#include "lib/artifact/tree.h"

enum { MAX_TRIES = 10000, MAX_WAITS = 500, BOOT_CHARACTERS = 8 };

/* Eight characters that name the running kernel: of its boot id, or failing
 * that of the host's name. */
static void name_boot(char out[BOOT_CHARACTERS + 1])
{
	memset(out, 0, BOOT_CHARACTERS + 1);
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out, BOOT_CHARACTERS);
	if (fd >= 0)
		close(fd);
	struct utsname host;
	if (n != BOOT_CHARACTERS && uname(&host) == 0)
		snprintf(out, BOOT_CHARACTERS + 1, "%.8s", host.nodename);
}

/* Does path still mean what fd has open? */
static bool still_names(const char *path, int fd)
{
	struct stat by_path, by_fd;
	return lstat(path, &by_path) == 0 && fstat(fd, &by_fd) == 0 &&
	       by_path.st_dev == by_fd.st_dev && by_path.st_ino == by_fd.st_ino;
}

/* 0, or the errno; EWOULDBLOCK: somebody holds it. */
static int try_lock(int fd)
{
	int result;
	do
		result = flock(fd, LOCK_EX | LOCK_NB);
	while (result != 0 && errno == EINTR);
	return result == 0 ? 0 : errno;
}

/* Removes what fd has open and path names, the caller holding its lock. */
static int remove_held(int fd, const char *path)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return disk_unlink(path);
	int result = tree_empty(fd);
	return result ? result : disk_remove_folder(path);
}

/* Removes what fd has open unless somebody holds it. If path means something else by now
 * (renamed to its place, or removed and made again), there is nothing to remove. */
static bool remove_if_free(int fd, const char *path)
{
	return try_lock(fd) == 0 && (!still_names(path, fd) || remove_held(fd, path) == 0);
}

bool temp_reclaim(const char *path)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT;
	bool gone = remove_if_free(fd, path);
	close(fd);
	return gone;
}

void temp_remove_old(const char *path)
{
	const struct timespec pause = { .tv_nsec = 1000 * 1000 };
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return;
	for (int tries = 0; tries < MAX_WAITS && still_names(path, fd); tries++) {
		if (remove_if_free(fd, path))
			break;
		nanosleep(&pause, NULL);
	}
	close(fd);
}

/* Makes the file or folder. Its descriptor, or -errno; RECLAIMED when another
 * process removed the new folder before it could be opened. */
enum { RECLAIMED = -ESTALE };
static int make(const char *path, bool is_folder, mode_t mode)
{
	if (!is_folder)
		return disk_create(path, mode);
	int result = disk_make_folder(path);
	if (result < 0)
		return result;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? RECLAIMED : -errno;
	return fd;
}

/* Locks what was just made. 0 if a reclaimer came between making and locking, and has
 * removed it or is about to; 1 if it is held; or -errno. If yet another publisher has
 * then used the name, a folder opened by it is what that one swapped out: so it is
 * emptied. */
static int hold(int fd, const char *path, bool is_folder)
{
	if (try_lock(fd) == EWOULDBLOCK || !still_names(path, fd))
		return 0;
	int result = is_folder ? tree_empty(fd) : 0;
	return result ? result : 1;
}

bool temp_is_ours(const char *path)
{
	char mark[BOOT_CHARACTERS + 3], boot[BOOT_CHARACTERS + 1];
	name_boot(boot);
	snprintf(mark, sizeof mark, ".%s.", boot);
	return strstr(path + last_name(path), mark) != NULL;
}

/* The n-th temporary name beside target. */
static bool name_temp(char out[PATH_BYTES], const char *target, const char *boot, int n)
{
	int start = (int)last_name(target);
	int length = snprintf(out, PATH_BYTES, "%.*s.%s.%s.%d.tmp", start, target,
	                      target + start, boot, n);
	return length > 0 && length < PATH_BYTES;
}

/* Removes what was abandoned under the names after the n-th. */
static void reclaim_following(const char *target, const char *boot, int n)
{
	char path[PATH_BYTES];
	struct stat st;
	while (name_temp(path, target, boot, ++n) && lstat(path, &st) == 0)
		temp_reclaim(path);
}

static bool make_temp(struct temp *t, const char *target, bool is_folder,
                      mode_t mode, error *err)
{
	char boot[BOOT_CHARACTERS + 1];
	name_boot(boot);
	t->fd = -1;
	for (int tries = 0, n = 0; tries < MAX_TRIES; tries++) {
		if (!name_temp(t->path, target, boot, n))
			return fail_disk(err, -ENAMETOOLONG, target, "make a temporary beside it");
		int fd = make(t->path, is_folder, mode);
		int held = fd >= 0 ? hold(fd, t->path, is_folder) : fd;
		t->fd = fd;
		if (held > 0) {
			reclaim_following(target, boot, n);
			return true;
		}
		if (held < 0 && held != -EEXIST && held != RECLAIMED) {
			temp_discard(t);
			return fail_disk(err, held, target, "make a temporary beside it");
		}
		temp_close(t);
		n += fd >= 0 || !temp_reclaim(t->path);
	}
	return fail(err, EXIT_ENVIRONMENT, "%s: gave up after %d temporaries that exist",
	            t->path, MAX_TRIES);
}

bool temp_file(struct temp *t, const char *target, mode_t mode, error *err)
{
	return make_temp(t, target, false, mode, err);
}

bool temp_folder(struct temp *t, const char *target, error *err)
{
	return make_temp(t, target, true, 0, err);
}

void temp_close(struct temp *t)
{
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

void temp_discard(struct temp *t)
{
	if (t->fd < 0)
		return;
	if (still_names(t->path, t->fd))
		remove_held(t->fd, t->path);
	temp_close(t);
}
