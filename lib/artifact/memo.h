/* Digests of input files, remembered, so that a build in which nothing changed
 * reads no input.
 *
 * One SQLite file on a local disk (never on a network file system) holds a digest
 * by device, inode, size, mtime and ctime. The rules are ccache's: nothing is
 * remembered or believed whose mtime or ctime is younger than two seconds, or in
 * the future, because a later change could leave the same times behind. A change
 * that keeps size and mtime (cp -p, tar, touch -d) still moves ctime, which
 * nobody can set. (One writer escapes: one that keeps a shared mapping open and
 * goes on writing to pages that are dirty already. Inputs are not made so.)
 *
 * The memo is only a cache. Every row carries a digest of itself, so a flipped
 * bit costs a re-hash and not a wrong answer; a file that SQLite cannot read is
 * moved aside (<path>.damaged) and started over. Store objects are not
 * remembered here: their names are their digests. */
#ifndef QUERN_ARTIFACT_MEMO_H
#define QUERN_ARTIFACT_MEMO_H

#include <stdint.h>

#include "lib/artifact/digest.h"
#include "lib/base/error.h"

enum { MEMO_MIN_AGE_SECONDS = 2 };

struct memo; /* several processes and threads may use one file, threads one memo */

/* Makes the file and its folder when absent. NULL with *err filled on failure. */
struct memo *memo_open(const char *path, error *err);
void memo_close(struct memo *m);

/* From here to the first file that is not known all answers come from one reading of
 * the memo. For a caller that asks for many files one after the other: others cannot
 * write to the memo meanwhile. */
void memo_hold(struct memo *m);

/* The digest of a regular file. The file is looked at again after it was hashed;
 * one that changed meanwhile is hashed again, one that keeps changing is an
 * error. */
bool memo_digest(struct memo *m, const char *path, struct digest *out, error *err);

/* The same for many files: those that have to be read are read by as many threads as
 * there are cores. A file that cannot be read is no failure of the whole. */
struct memo_file {
	const char *path;     /* the caller's */
	struct digest digest; /* if it is readable */
	bool readable;
};
bool memo_digest_many(struct memo *m, struct memo_file *files, int count, error *err);

/* Fails if the file does not have this digest (any more): for after an input was
 * used, before anything made from it is published. */
bool memo_check(struct memo *m, const char *path, const struct digest *expected,
                error *err);

/* What was done since memo_open. */
struct memo_counts {
	uint64_t files_known, files_hashed, bytes_hashed;
};
struct memo_counts memo_counts(struct memo *m);

#endif
