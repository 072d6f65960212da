/* What a catalog makes, artifact by artifact; the lock that records it, and the check
 * of a tree against the lock.
 *
 * `configure` writes <tree>/artifacts.list, from the catalog alone: for every artifact
 * the tools that make it, their parameters, the stamps of the inputs, the artifacts it
 * is made from and the files it is. Paths are relative to the tree, so that a lock is
 * the same wherever the tree lies. One line a fact, fields parted by tabs:
 *
 *   artifact NAME published|work    begins one
 *   tool NAME                       whose sources decide
 *   parameter NAME VALUE
 *   stamp PATH                      of inputs, "digest  name" lines (tools/scan.c)
 *   from NAME                       another artifact
 *   output PATH                     a file
 *   list FOLDER PATH                a checkpoint, and its list of files within
 *   sibling FOLDER                  a checkpoint in another profile or with another cache,
 *                                   made when asked for and not locked
 *   part PATH                       a file on the way, different with every number of
 *                                   workers, not locked
 */
#ifndef QUERN_ARTIFACT_RELEASE_H
#define QUERN_ARTIFACT_RELEASE_H

#include <stddef.h>

#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/base/text.h"

enum { RELEASE_FIELDS = 3 };

struct release_line {
	const char *fields[RELEASE_FIELDS]; /* the first is the kind; absent ones "" */
};

struct artifact {
	const char *name;
	bool published; /* else on the way, and not needed where the published ones are */
	const struct release_line *lines; /* [line_count], what follows its first */
	size_t line_count;
};

struct release {
	struct artifact *artifacts;
	size_t count;
	char *content;
	arena memory;
};

bool release_read(struct release *r, const char *tree, error *err);
void release_free(struct release *r);

/* The lock: a JSON text. Fails when a file of an artifact is not there. */
bool release_lock(const struct release *r, const char *tree, text *out, error *err);

/* Compares catalog, inputs, tool sources and the tree's files with a lock; adds a line
 * to *report for every artifact that is
 *   stale    other sources, parameters or inputs than those locked
 *   missing  not in the lock, or in no file (artifacts on the way may be absent)
 *   foreign  a file is another than the locked one, or the lock has an artifact that
 *            the catalog does not make
 *   damaged  a checkpoint's file is not what its own list says, or cannot be read
 * and counts them. Reads every byte, writes nothing. */
bool release_check(const struct release *r, const char *tree, const char *lock,
                   text *report, int *faults, error *err);

/* ---- checkpoints in a tree ---- */

struct published_folder {
	const char *path; /* of the checkpoint */
	const char *list; /* of its list of files */
};

struct folder_list {
	struct published_folder *folders;
	int count;
	arena memory;
};

/* <tree>/models/MODEL/quantized/SCHEME with a list of files, in order of path. */
bool list_published(struct folder_list *list, const char *tree, error *err);
void folder_list_free(struct folder_list *list);

/* Does an artifact publish this folder? */
bool release_has_folder(const struct release *r, const char *tree, const char *folder);

#endif
