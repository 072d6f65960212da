/* Locks between processes: so that two that want the same result compute it
 * once, and edges on one host each take a GPU of their own.
 *
 * A lock is a flock on a file. The kernel lets go of it when its holder dies,
 * however it dies. The file is removed on release, and anybody may remove it at
 * any time: a taker makes sure that what it locked is still what the name means.
 * Where a file system has no flock the lock is taken by everyone: locks only
 * save work, correctness rests on atomic publishing. */
#ifndef QUERN_ARTIFACT_LOCK_H
#define QUERN_ARTIFACT_LOCK_H

#include "lib/base/error.h"
#include "lib/base/file.h"

struct lock {
	int fd; /* -1 when not held */
	char path[PATH_BYTES];
};

/* Waits until the lock is free. Threads exclude each other too. Hold one lock at
 * a time, or take them in one order everywhere. */
bool lock_take(struct lock *lock, const char *path, error *err);

/* One of `count` slots, <folder>/<name>.0 ... : takes any free one, waiting until
 * there is one. The folder should be one that all edges of this host share, and
 * only they. *slot is the number. */
bool slot_take(struct lock *lock, const char *folder, const char *name, int count,
               int *slot, error *err);

/* Harmless when not held. */
void lock_release(struct lock *lock);

/* Removes a lock file that nobody holds; false when somebody does. */
bool lock_sweep(const char *path);

#endif
