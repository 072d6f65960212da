/* Publishing: a file or a folder appears under its name whole, or not at all.
 *
 * Everything is made under a temporary name beside its place (temp.h), synced,
 * and renamed; the folder is synced last. A kill or a power cut at any
 * instruction leaves what was there before, or all of what is new. Leftovers of
 * killed processes are removed by the next publisher of the same name. */
#ifndef QUERN_ARTIFACT_PUBLISH_H
#define QUERN_ARTIFACT_PUBLISH_H

#include <stddef.h>
#include <sys/types.h>

#include "lib/artifact/link.h"
#include "lib/artifact/temp.h"
#include "lib/base/error.h"
#include "lib/base/file.h"

/* A file in the making, for content that comes in pieces. After a failed call
 * and after atomic_commit, whatever its answer, nothing is left to free. */
struct atomic_file {
	struct temp temp;
	char target[PATH_BYTES];
};

bool atomic_begin(struct atomic_file *f, const char *target, error *err);
bool atomic_write(struct atomic_file *f, const void *data, size_t size, error *err);
bool atomic_commit(struct atomic_file *f, error *err);
void atomic_abandon(struct atomic_file *f);

/* A whole file at once. */
bool write_file(const char *path, const void *data, size_t size, error *err);

/* The same without waiting for the disk, for what is only a help: after a power cut the
 * file may be empty or torn, so it must carry its own digest. */
bool write_cache(const char *path, const void *data, size_t size, error *err);

/* Leaves a file that holds exactly these bytes untouched, times included, so
 * that ninja's restat sees that nothing moved. `changed` may be NULL. */
bool write_file_if_changed(const char *path, const void *data, size_t size,
                           bool *changed, error *err);

/* As write_cache, of a file whose content is compared at every build. */
bool write_cache_if_changed(const char *path, const void *data, size_t size,
                            bool *changed, error *err);

/* Several files, each as by write_file_if_changed, and renamed in this order: the disk is
 * waited for about once, not once a file. */
struct new_file {
	const char *path;
	const void *data;
	size_t size;
};

bool write_files_if_changed(const struct new_file *files, size_t count, error *err);

/* A folder in the making. Its files are put there by the two calls below, or by
 * anything else that writes under draft.temp.path. As with atomic_file, nothing
 * is left after a failure. */
struct draft {
	struct temp temp;
	char target[PATH_BYTES];
};

bool draft_begin(struct draft *d, const char *target, error *err);

/* `name` may be "sub/name": the sub-folder is made. */
bool draft_write(struct draft *d, const char *name, const void *data, size_t size,
                 error *err);
bool draft_link(struct draft *d, const char *object, const char *name, unsigned modes,
                error *err);

/* Syncs the tree, swaps it with what stands at the target (or moves it there
 * when nothing does) and removes the old one. Where the file system cannot swap,
 * the old one is moved away first: then a kill may leave nothing at the target,
 * never a half. */
bool draft_publish(struct draft *d, error *err);
void draft_abandon(struct draft *d);

/* Removes a published folder: it is renamed away first, so that nobody meets a half
 * of it under its name. */
bool remove_folder(const char *path, error *err);

#endif
