/* Every system call of this room that changes the disk, and nothing else.
 *
 * One place has two uses: EINTR and short writes are handled once, and a fault
 * injector has one seam. Each function makes one kind of call; the rest of the
 * room calls none of them directly (test_disk.c checks that). Reading stays
 * with the plain calls.
 *
 * They return 0 (or a descriptor) when it worked and -errno when it did not, so
 * that a caller can tell EEXIST or EXDEV from real trouble before it reports. */
#ifndef QUERN_ARTIFACT_DISK_H
#define QUERN_ARTIFACT_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "lib/base/error.h"

/* A new file, open for reading and writing (whatever `mode` says); never one
 * that was there. */
int disk_create(const char *path, mode_t mode);

/* Open for appending; created when absent. */
int disk_append(const char *path);

/* Opened, or created empty, only to be locked. */
int disk_open_lock(const char *path);

/* All of data[size], however many writes that takes. */
int disk_write(int fd, const void *data, size_t size);

/* One write call: what lands is contiguous under O_APPEND, or an error. */
int disk_write_once(int fd, const void *data, size_t size);

int disk_sync(int fd);
int disk_sync_folder(const char *path);
int disk_sync_parent(const char *path); /* the folder that holds path's name */

/* Sets the time of the last change; reading needs no permission to write. */
int disk_set_time(int fd, struct timespec changed);

/* The same by name, to now. */
int disk_touch(const char *path);

/* Asks for the file's bytes to be on their way, so that syncing many files
 * waits once; a hint, without an answer. */
void disk_start_sync(int fd);

int disk_rename(const char *from, const char *to);
int disk_rename_new(const char *from, const char *to); /* -EEXIST if `to` is there */
int disk_exchange(const char *one, const char *other);
int disk_link(const char *from, const char *to);
int disk_unlink(const char *path);
int disk_unlink_at(int folder, const char *name);
int disk_remove_folder(const char *path);
int disk_remove_folder_at(int folder, const char *name);
int disk_make_folder(const char *path); /* -EEXIST if anything is there */

/* The folder with all that are missing above it; 0 also if it was there. */
int disk_make_folders(const char *path);

/* `to` becomes a copy of `from` that shares its blocks. */
int disk_clone(int to, int from);

/* Copies bytes [0, size) inside the kernel. -ENODATA if `from` ends early. */
int disk_copy_range(int to, int from, uint64_t size);

/* Where the last name in path starts: "a/b" -> 2, "b" -> 0. */
size_t last_name(const char *path);

/* "path: cannot <what>: <strerror>", always EXIT_ENVIRONMENT: a name that is
 * missing where we write is no fault of the input. `code` is what a function
 * above returned. */
bool fail_disk(error *err, int code, const char *path, const char *what);

#endif
