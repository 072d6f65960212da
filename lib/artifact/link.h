/* From an object of the store to a file under another name, without copying the
 * bytes where the file system allows. */
#ifndef QUERN_ARTIFACT_LINK_H
#define QUERN_ARTIFACT_LINK_H

#include "lib/base/error.h"

/* In the order they are tried. A reflink comes first because an edit of the
 * target cannot reach the store through it; a hard link shares the inode, which
 * is why objects are read-only. */
enum link_mode {
	LINK_REFLINK = 1, /* FICLONE: btrfs, xfs */
	LINK_HARD = 2,
	LINK_RANGE = 4, /* copy_file_range: a copy made inside the kernel */
	LINK_BYTES = 8, /* read and write: always works */
	LINK_ANY = 15
};

/* Makes target, atomically and durably, a read-only file with the object's
 * bytes, by the first of `modes` (a mask) that works here. A target that is a
 * hard link of the object already is left alone. *used may be NULL. */
bool link_object(const char *object, const char *target, unsigned modes,
                 enum link_mode *used, error *err);

/* The same for a target that does not exist yet, neither atomic nor synced: for
 * folders that are published whole. */
bool place_object(const char *object, const char *target, unsigned modes,
                  enum link_mode *used, error *err);

#endif
