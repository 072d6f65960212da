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

enum { COPY_BYTES = 1 << 20 };

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

bool place_object(const char *object, const char *target, unsigned modes,
                  enum link_mode *used, error *err)
{
	int result = -EINVAL;
	for (unsigned mode = LINK_REFLINK; mode <= LINK_BYTES; mode <<= 1) {
		if (!(modes & mode))
			continue;
		result = mode == LINK_HARD ? disk_link(object, target)
		                           : copy_object(object, target, (enum link_mode)mode);
		if (result == 0 && used)
			*used = (enum link_mode)mode;
		if (result == 0 || !means_unsupported(result))
			break;
	}
	if (result == 0)
		return true;
	fail_errno(err, -result, "%s: cannot link or copy %s to it", target, object);
	err->code = EXIT_ENVIRONMENT;
	return false;
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

bool link_object(const char *object, const char *target, unsigned modes,
                 enum link_mode *used, error *err)
{
	/* Also because a rename between two names of one file does nothing. */
	if ((modes & LINK_HARD) && same_file(object, target)) {
		if (used)
			*used = LINK_HARD;
		return true;
	}
	struct temp box;
	char inside[PATH_BYTES];
	enum link_mode mode;
	if (!temp_folder(&box, target, err))
		return false;
	bool ok = join_path(inside, sizeof inside, box.path, "link", err) &&
	          place_object(object, inside, modes, &mode, err);
	if (ok) {
		int result = mode == LINK_HARD ? 0 : sync_copy(inside);
		if (result == 0)
			result = disk_rename(inside, target);
		if (result == 0)
			result = disk_sync_parent(target);
		ok = result == 0 || fail_disk(err, result, target, "publish the file");
	}
	temp_discard(&box);
	if (ok && used)
		*used = mode;
	return ok;
}
