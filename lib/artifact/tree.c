/* Walks over folder trees; see tree.h. */
#include "lib/artifact/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/artifact/disk.h"

static int open_folder_at(int folder, const char *name)
{
	int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Calls visit(folder, name, is_folder) for every entry, up to the first failure. */
static int for_each_entry(int folder, int (*visit)(int, const char *, bool))
{
	int own = open_folder_at(folder, ".");
	if (own < 0)
		return own;
	DIR *list = fdopendir(own);
	if (!list) {
		int saved = errno;
		close(own);
		return -saved;
	}
	int result = 0;
	while (result == 0) {
		errno = 0;
		struct dirent *entry = readdir(list);
		if (!entry) {
			result = -errno;
			break;
		}
		struct stat st;
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (fstatat(folder, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			result = visit(folder, entry->d_name, S_ISDIR(st.st_mode));
		else if (errno != ENOENT)
			result = -errno;
	}
	closedir(list);
	return result;
}

static int remove_entry(int folder, const char *name, bool is_folder)
{
	int result;
	if (is_folder) {
		int fd = open_folder_at(folder, name);
		if (fd < 0)
			return fd;
		result = tree_empty(fd);
		close(fd);
		if (result == 0)
			result = disk_remove_folder_at(folder, name);
	} else {
		result = disk_unlink_at(folder, name);
	}
	return result == -ENOENT ? 0 : result;
}

int tree_empty(int folder)
{
	return for_each_entry(folder, remove_entry);
}

/* A regular file with one name, opened; -1 for anything that needs no sync. */
static int open_unshared(int folder, const char *name)
{
	struct stat st;
	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_nlink > 1)
		return -ENODATA;
	int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int start_entry(int folder, const char *name, bool is_folder)
{
	int fd = is_folder ? open_folder_at(folder, name) : open_unshared(folder, name);
	if (fd < 0)
		return fd == -ENODATA ? 0 : fd;
	int result = 0;
	if (is_folder)
		result = for_each_entry(fd, start_entry);
	else
		disk_start_sync(fd);
	close(fd);
	return result;
}

static int finish_entry(int folder, const char *name, bool is_folder)
{
	int fd = is_folder ? open_folder_at(folder, name) : open_unshared(folder, name);
	if (fd < 0)
		return fd == -ENODATA ? 0 : fd;
	int result = is_folder ? for_each_entry(fd, finish_entry) : 0;
	if (result == 0)
		result = disk_sync(fd);
	close(fd);
	return result;
}

int tree_sync(int folder)
{
	int result = for_each_entry(folder, start_entry);
	if (result == 0)
		result = for_each_entry(folder, finish_entry);
	return result ? result : disk_sync(folder);
}
