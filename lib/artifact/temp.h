/* Temporary files and folders that a later process can tell from abandoned ones.
 *
 * Beside `name` it is called `.<name>.<boot>.<n>.tmp`, so that a rename
 * publishes it. Its maker holds a flock on what the name
 * means for as long as it lives; only the holder of that lock renames or removes
 * the name. So: exists and not locked = left by a killed process, and the next
 * maker of the same name removes it. <boot> is the running kernel, the reach of
 * a flock on a network file system: what another host is writing is never
 * touched. Where flock does not work at all, O_EXCL still keeps makers apart and
 * leftovers merely stay. */
#ifndef QUERN_ARTIFACT_TEMP_H
#define QUERN_ARTIFACT_TEMP_H

#include <sys/types.h>

#include "lib/base/error.h"
#include "lib/base/file.h"

struct temp {
	int fd; /* the open file or folder, locked; -1 for none */
	char path[PATH_BYTES];
};

/* Makes a temporary beside `target`, which need not exist. A file is open for
 * reading and writing whatever `mode` says. */
bool temp_file(struct temp *t, const char *target, mode_t mode, error *err);
bool temp_folder(struct temp *t, const char *target, error *err);

/* The name has been renamed away: closes, which lets go of the lock. */
void temp_close(struct temp *t);

/* Removes the file, or the folder with all that is in it, and closes. Harmless
 * when the name was renamed away, and on a temp that is closed. */
void temp_discard(struct temp *t);

/* Is this the name of a temporary of the running kernel's time? Then its lock tells
 * whether its maker lives. */
bool temp_is_ours(const char *path);

/* Removes path if no living process holds it. False if it is held, or cannot be
 * removed; true also when it was gone already. */
bool temp_reclaim(const char *path);

/* Removes the old folder that a swap has put at a temporary's name. Nobody holds it,
 * but for the moment in which another publisher has just swapped it in: that is waited
 * for, up to half a second. */
void temp_remove_old(const char *path);

#endif
