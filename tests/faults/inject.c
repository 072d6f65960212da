/* Faults on demand in any program, by LD_PRELOAD.
 *
 * These definitions stand in front of the C library's for every call that changes the
 * disk, for reading, and for memory. $QUERN_FAULT says what happens at the k-th of them:
 *
 *   kill:K            SIGKILL instead of the call
 *   ENOSPC:K EIO:K EINTR:K    the call fails so
 *   short:K           a write writes half of what it was given
 *   full:K            the K-th and every later call fails with ENOSPC
 *   malloc:K          the K-th request for memory is refused
 *   unreadable:K      the K-th opening, reading or mapping of a file fails with EIO
 *   count:PATH        nothing fails; at the end PATH gets "CALLS REQUESTS READS\n" */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

enum what { NOTHING, KILL, FAIL, SHORT, FULL, MEMORY, READ, COUNT };

static enum what what;
static long at;
static int code;
static const char *count_path;
static atomic_long calls, requests, reads;

static const struct {
	const char *name;
	enum what what;
	int code;
} wishes[] = {
	{ "kill", KILL, 0 }, { "ENOSPC", FAIL, ENOSPC }, { "EIO", FAIL, EIO },
	{ "EINTR", FAIL, EINTR }, { "short", SHORT, 0 }, { "full", FULL, ENOSPC },
	{ "malloc", MEMORY, 0 }, { "unreadable", READ, EIO }, { "count", COUNT, 0 },
};

__attribute__((constructor)) static void read_wish(void)
{
	const char *wish = getenv("QUERN_FAULT"), *colon = wish ? strchr(wish, ':') : NULL;
	if (!colon)
		return;
	at = atol(colon + 1);
	calls = requests = reads = 0;
	for (size_t i = 0; i < sizeof wishes / sizeof wishes[0]; i++)
		if (strncmp(wish, wishes[i].name, (size_t)(colon - wish)) == 0) {
			what = wishes[i].what;
			code = wishes[i].code;
		}
	count_path = colon + 1;
}

__attribute__((destructor)) static void write_count(void)
{
	char line[64];
	if (what != COUNT)
		return;
	int size = snprintf(line, sizeof line, "%ld %ld %ld\n", calls, requests, reads);
	int fd = (int)syscall(SYS_openat, AT_FDCWD, count_path, O_WRONLY | O_CREAT | O_TRUNC,
	                      0666);
	if (fd < 0 || syscall(SYS_write, fd, line, size) != size)
		_exit(99);
}

/* Counts a call; true if it is to fail. */
static int is_faulty(void)
{
	long now = ++calls;
	if (what == KILL && now == at)
		syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
	if ((what == FAIL && now == at) || (what == FULL && now >= at)) {
		errno = code;
		return 1;
	}
	return 0;
}

/* Counts a reading call; true if it is to fail. */
static int is_unreadable(void)
{
	long now = ++reads;
	if (what != READ || now != at)
		return 0;
	errno = code;
	return 1;
}

/* How much of a write is done. */
static size_t granted(size_t size)
{
	return what == SHORT && calls == at && size > 1 ? size / 2 : size;
}

/* Terminals and pipes are no disk. */
static int is_file(int fd)
{
	struct stat st;
	return fd > 2 && fstat(fd, &st) == 0 && !S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode);
}

ssize_t write(int fd, const void *data, size_t size)
{
	if (is_file(fd)) {
		if (is_faulty())
			return -1;
		size = granted(size);
	}
	return syscall(SYS_write, fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
	return is_faulty() ? -1 : syscall(SYS_pwrite64, fd, data, granted(size), offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset)
{
	return pwrite(fd, data, size, offset);
}

ssize_t read(int fd, void *data, size_t size)
{
	return is_file(fd) && is_unreadable() ? -1 : syscall(SYS_read, fd, data, size);
}

ssize_t pread(int fd, void *data, size_t size, off_t offset)
{
	return is_unreadable() ? -1 : syscall(SYS_pread64, fd, data, size, offset);
}

ssize_t pread64(int fd, void *data, size_t size, off_t offset)
{
	return pread(fd, data, size, offset);
}

/* Memory without a file is memory, and not counted. */
void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	if (fd >= 0 && is_unreadable())
		return MAP_FAILED;
	return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}

static int open_at(int folder, const char *path, int flags, int mode)
{
	if (flags & O_CREAT ? is_faulty() : is_unreadable())
		return -1;
	return (int)syscall(SYS_openat, folder, path, flags, mode);
}

#define MODE(flags, mode)                                          \
	do {                                                           \
		va_list args;                                              \
		va_start(args, flags);                                     \
		mode = (flags) & (O_CREAT | O_TMPFILE) ? va_arg(args, int) : 0; \
		va_end(args);                                              \
	} while (0)

int open(const char *path, int flags, ...)
{
	int mode;
	MODE(flags, mode);
	return open_at(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	int mode;
	MODE(flags, mode);
	return open_at(AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...)
{
	int mode;
	MODE(flags, mode);
	return open_at(folder, path, flags, mode);
}

int fsync(int fd)
{
	return is_faulty() ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
	return is_faulty() ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int ftruncate(int fd, off_t size)
{
	return is_faulty() ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

int ftruncate64(int fd, off_t size)
{
	return ftruncate(fd, size);
}

int rename(const char *from, const char *to)
{
	return is_faulty() ? -1
	                   : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to,
              unsigned flags)
{
	return is_faulty() ? -1 : (int)syscall(SYS_renameat2, from_folder, from, to_folder, to,
	                                       flags);
}

int link(const char *from, const char *to)
{
	return is_faulty() ? -1
	                   : (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlink(const char *name)
{
	return is_faulty() ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, name, 0);
}

int unlinkat(int folder, const char *name, int flags)
{
	return is_faulty() ? -1 : (int)syscall(SYS_unlinkat, folder, name, flags);
}

int mkdir(const char *path, mode_t mode)
{
	return is_faulty() ? -1 : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

int futimens(int fd, const struct timespec times[2])
{
	return is_faulty() ? -1 : (int)syscall(SYS_utimensat, fd, NULL, times, 0);
}

int utimensat(int folder, const char *path, const struct timespec times[2], int flags)
{
	return is_faulty() ? -1 : (int)syscall(SYS_utimensat, folder, path, times, flags);
}

ssize_t copy_file_range(int from, off_t *from_at, int to, off_t *to_at, size_t size,
                        unsigned flags)
{
	if (is_faulty())
		return -1;
	return syscall(SYS_copy_file_range, from, from_at, to, to_at, granted(size), flags);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	va_start(args, request);
	long argument = va_arg(args, long);
	va_end(args);
	if (request == FICLONE && is_faulty())
		return -1;
	return (int)syscall(SYS_ioctl, fd, request, argument);
}

/* ---- memory ---- */

static int is_refused(void)
{
	long now = ++requests;
	if (what != MEMORY || now != at)
		return 0;
	errno = ENOMEM;
	return 1;
}

void *malloc(size_t size)
{
	return is_refused() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	return is_refused() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
	return is_refused() ? NULL : __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	return is_refused() ? NULL : __libc_memalign(alignment, size);
}
