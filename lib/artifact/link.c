/* Linking, cloning, copying; see link.h. */
#include "lib/artifact/link.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/artifact/disk.h"
#include "lib/artifact/temp.h"
#include "lib/base/file.h"

enum { COPY_BYTES = 1 << 20, MAX_LINK_TRIES = 100 };

/* "Not between these two, or not on this file system": the next way may work.
 * Other errors (no space, a failing disk) would only come again. */
static bool means_unsupported(int code)
{
	switch (-code) {
	case EOPNOTSUPP: case EXDEV: case EINVAL: case ENOSYS: case ENOTTY: case EBADF:
	case EMLINK: /* ext4: 65,000 names a file */
	case EPERM:  /* protected_hardlinks; file systems without hard links */
	case ENODATA: /* copy_file_range copies nothing from some file systems */
		return true;
	default:
		return false;
	}
}

static int copy_bytes(int to, int from, uint64_t size)
{
	char *buffer = malloc(COPY_BYTES);
	if (!buffer)
		return -ENOMEM;
	int result = 0;
	for (uint64_t done = 0; done < size && result == 0;) {
		ssize_t n = pread(from, buffer, COPY_BYTES, (off_t)done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			result = n < 0 ? -errno : -ENODATA;
		else
			result = disk_write(to, buffer, (size_t)n);
		done += n > 0 ? (uint64_t)n : 0;
	}
	free(buffer);
	return result;
}

/* The object's bytes in a new file of their own. */
static int copy_object(const char *object, const char *target, enum link_mode mode)
{
	struct stat st;
	int from = open(object, O_RDONLY | O_CLOEXEC);
	if (from < 0)
		return -errno;
	int to = fstat(from, &st) == 0 ? disk_create(target, 0444) : -errno;
	int result = to < 0 ? to : 0;
	if (result == 0) {
		uint64_t size = (uint64_t)st.st_size;
		result = mode == LINK_REFLINK ? disk_clone(to, from)
		         : mode == LINK_RANGE ? disk_copy_range(to, from, size)
		                              : copy_bytes(to, from, size);
		close(to);
		if (result)
			disk_unlink(target);
	}
	close(from);
	return result;
}

/* Another process that stores the same object may replace it by its own just now: the
 * kernel then finds the file that it looked up without a name. */
static int hard_link(const char *object, const char *target)
{
	int result = disk_link(object, target);
	for (int tries = 0; result == -ENOENT && tries < MAX_LINK_TRIES && file_exists(object);
	     tries++)
		result = disk_link(object, target);
	return result;
}

/* Tries the ways of the mask; *used is the last one tried. */
static int place(const char *object, const char *target, unsigned modes,
                 enum link_mode *used)
{
	int result = -EINVAL;
	for (unsigned mode = LINK_REFLINK; mode <= LINK_BYTES; mode <<= 1) {
		if (!(modes & mode))
			continue;
		*used = (enum link_mode)mode;
		result = mode == LINK_HARD ? hard_link(object, target)
		                           : copy_object(object, target, *used);
		if (result == 0 || !means_unsupported(result))
			break;
	}
	return result;
}

static bool fail_link(error *err, int code, const char *object, const char *target)
{
	fail_errno(err, -code, "%s: cannot link or copy %s to it", target, object);
	err->code = EXIT_ENVIRONMENT;
	return false;
}

bool place_object(const char *object, const char *target, unsigned modes,
                  enum link_mode *used, error *err)
{
	enum link_mode mode;
	int result = place(object, target, modes, &mode);
	if (result == 0 && used)
		*used = mode;
	return result == 0 || fail_link(err, result, object, target);
}

static bool same_file(const char *a, const char *b)
{
	struct stat x, y;
	return lstat(a, &x) == 0 && lstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* Syncs a copy; a hard link's bytes were synced when the object was made. */
static int sync_copy(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int result = fd < 0 ? -errno : disk_sync(fd);
	if (fd >= 0)
		close(fd);
	return result;
}

/* Makes box/link and renames it to the target. */
static int link_through(const struct temp *box, const char *object, const char *target,
                        unsigned modes, enum link_mode *used)
{
	char inside[PATH_BYTES];
	error unused;
	/* A rename between two names of one file would do nothing. */
	if ((modes & LINK_HARD) && same_file(object, target)) {
		*used = LINK_HARD;
		return 0;
	}
	if (!join_path(inside, sizeof inside, box->path, "link", &unused))
		return -ENAMETOOLONG;
	int result = place(object, inside, modes, used);
	if (result == 0 && *used != LINK_HARD)
		result = sync_copy(inside);
	if (result == 0)
		result = disk_rename(inside, target);
	return result ? result : disk_sync_parent(target);
}

bool link_object(const char *object, const char *target, unsigned modes,
                 enum link_mode *used, error *err)
{
	struct temp box;
	enum link_mode mode;
	if (!temp_folder(&box, target, err))
		return false;
	int result = link_through(&box, object, target, modes, &mode);
	temp_discard(&box);
	if (result == 0 && used)
		*used = mode;
	return result == 0 || fail_link(err, result, object, target);
}
