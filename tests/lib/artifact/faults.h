/* The calls that change the disk, with faults on demand.
 *
 * To be included by one file of a test program: these definitions stand in front
 * of the C library's, so that the k-th such call of the program can be its last
 * (SIGKILL), or fail, or write short. Everything else passes through. */
#ifndef QUERN_TESTS_ARTIFACT_FAULTS_H
#define QUERN_TESTS_ARTIFACT_FAULTS_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum fault_kind { FAULT_NONE, FAULT_KILL, FAULT_ERROR, FAULT_SHORT_WRITE };

static struct {
	enum fault_kind kind;
	int at;    /* which call, from 1 */
	int code;  /* the errno of FAULT_ERROR */
	int count; /* calls so far */
	bool no_exchange; /* renameat2 knows no flags, as on NFS */
	/* What another process does at just this moment. */
	void (*before_renameat2)(const char *to, unsigned flags);
	void (*after_mkdir)(const char *path);
} faults;

static void set_fault(enum fault_kind kind, int at, int code)
{
	faults.kind = kind;
	faults.at = at;
	faults.code = code;
	faults.count = 0;
}

/* How many such calls work(argument) makes, undisturbed. */
static int count_calls(int (*work)(void *), void *argument)
{
	set_fault(FAULT_SHORT_WRITE, -1, 0);
	work(argument);
	int calls = faults.count;
	set_fault(FAULT_NONE, 0, 0);
	return calls;
}

/* Counts a call; true if it is the one to fail. */
static bool is_faulty(void)
{
	if (faults.kind == FAULT_NONE || ++faults.count != faults.at)
		return false;
	if (faults.kind == FAULT_KILL)
		raise(SIGKILL);
	errno = faults.code;
	return faults.kind == FAULT_ERROR;
}

ssize_t write(int fd, const void *data, size_t size)
{
	if (is_faulty())
		return -1;
	if (faults.kind == FAULT_SHORT_WRITE && faults.count == faults.at && size > 1)
		size /= 2;
	return syscall(SYS_write, fd, data, size);
}

int open(const char *path, int flags, ...)
{
	va_list args;
	va_start(args, flags);
	int mode = flags & O_CREAT ? va_arg(args, int) : 0;
	va_end(args);
	if ((flags & O_CREAT) && is_faulty())
		return -1;
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int fsync(int fd)
{
	return is_faulty() ? -1 : (int)syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to)
{
	return is_faulty() ? -1
	                   : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to,
              unsigned flags)
{
	if (faults.no_exchange && flags) {
		errno = EINVAL;
		return -1;
	}
	if (is_faulty())
		return -1;
	if (faults.before_renameat2)
		faults.before_renameat2(to, flags);
	return (int)syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
}

int link(const char *from, const char *to)
{
	return is_faulty() ? -1
	                   : (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlinkat(int folder, const char *name, int flags)
{
	return is_faulty() ? -1 : (int)syscall(SYS_unlinkat, folder, name, flags);
}

int mkdir(const char *path, mode_t mode)
{
	int result = is_faulty() ? -1 : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
	if (result == 0 && faults.after_mkdir)
		faults.after_mkdir(path);
	return result;
}

#endif
