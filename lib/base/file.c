/* Reading files; see file.h. */
#include "lib/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Opens path and makes sure that it is a regular file. Returns -1 on failure. */
static int open_regular(const char *path, struct stat *st, error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		fail_errno(err, errno, "%s: cannot open", path);
		return -1;
	}
	if (fstat(fd, st) != 0) {
		fail_errno(err, errno, "%s: cannot stat", path);
	} else if (!S_ISREG(st->st_mode)) {
		fail(err, EXIT_BAD_INPUT, "%s: expected a regular file, found %s", path,
		     S_ISDIR(st->st_mode) ? "a folder" : "something else");
	} else {
		return fd;
	}
	close(fd);
	return -1;
}

bool map_file(mapped_file *file, const char *path, error *err)
{
	struct stat st;
	*file = (mapped_file){ 0 };
	int fd = open_regular(path, &st, err);
	if (fd < 0)
		return false;
	file->size = (size_t)st.st_size;
	if (file->size) {
		void *data = mmap(NULL, file->size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (data == MAP_FAILED) {
			int saved = errno;
			close(fd);
			*file = (mapped_file){ 0 };
			return fail_errno(err, saved, "%s: cannot map", path);
		}
		file->data = data;
	}
	close(fd);
	return true;
}

void unmap_file(mapped_file *file)
{
	if (file->data)
		munmap((void *)(uintptr_t)file->data, file->size);
	*file = (mapped_file){ 0 };
}

void forget_pages(const void *data, size_t size)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)data;
	uintptr_t lead = start % page;
	(void)madvise((void *)(start - lead), size + lead, MADV_DONTNEED);
}

static bool read_fully(int fd, const char *path, char *data, size_t size, error *err)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = read(fd, data + done, size - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail_errno(err, errno, "%s: cannot read", path);
		if (n == 0)
			return fail(err, EXIT_BAD_INPUT,
			            "%s: expected %zu bytes, found %zu (the file shrank)",
			            path, size, done);
		done += (size_t)n;
	}
	data[size] = '\0';
	return true;
}

bool read_file(const char *path, size_t max_bytes, char **data, size_t *size,
               error *err)
{
	struct stat st;
	int fd = open_regular(path, &st, err);
	if (fd < 0)
		return false;
	bool ok = false;
	size_t bytes = (size_t)st.st_size;
	char *buffer = NULL;
	if (bytes > max_bytes)
		fail(err, EXIT_BAD_INPUT, "%s: expected at most %zu bytes, found %zu", path,
		     max_bytes, bytes);
	else if (!(buffer = malloc(bytes + 1)))
		fail_memory(err, path, bytes + 1);
	else
		ok = read_fully(fd, path, buffer, bytes, err);
	close(fd);
	if (!ok) {
		free(buffer);
		return false;
	}
	*data = buffer;
	*size = bytes;
	return true;
}

bool join_path(char *out, size_t size, const char *folder, const char *name,
               error *err)
{
	int length = snprintf(out, size, "%s/%s", folder, name);
	if (length < 0 || (size_t)length >= size)
		return fail(err, EXIT_BAD_INPUT, "%.200s/%.200s: path is longer than %zu bytes",
		            folder, name, size - 1);
	return true;
}

bool make_folders(const char *path, error *err)
{
	char partial[PATH_BYTES];
	size_t length = strlen(path);
	if (length >= sizeof partial)
		return fail(err, EXIT_BAD_INPUT, "%.200s...: path is too long", path);
	memcpy(partial, path, length + 1);
	for (size_t i = 1; i <= length; i++) {
		if (partial[i] != '/' && partial[i] != '\0')
			continue;
		char kept = partial[i];
		partial[i] = '\0';
		if (mkdir(partial, 0777) != 0 && errno != EEXIST)
			return fail_errno(err, errno, "%s: cannot make the folder", partial);
		partial[i] = kept;
	}
	return true;
}

bool file_exists(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0;
}
