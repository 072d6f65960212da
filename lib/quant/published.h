/* Are published checkpoints still as they were published? Asked at every build, of
 * thousands of files, and answered in a millisecond.
 *
 * A checkpoint is whole when every file of its list is there, has its size, and was not
 * written to after the list was, and when its card is whole and names the list. Most of its
 * files are further names of pieces of the store, which are looked at once for all; the
 * others are its own. A checkpoint need not
 * be compared with its list again as long as its look stays: the dates of its folders
 * (which move when a name in them comes, goes or means another file), inodes, sizes and
 * dates of its own files and of the list, and which pieces are whole. */
#ifndef QUERN_QUANT_PUBLISHED_H
#define QUERN_QUANT_PUBLISHED_H

#include <sys/stat.h>

#include "lib/artifact/digest.h"
#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/text.h"

/* A piece of the store that was found whole. */
struct whole_piece {
	dev_t device;
	ino_t inode;
	struct digest digest;
};

/* A checkpoint that was whole. */
struct published_look {
	const char *folder;
	struct digest digest;
	const char *own; /* names of its folders and own files, each followed by a tab */
};

/* All zero is valid for closing. */
struct published {
	struct whole_piece *pieces;
	size_t piece_count, piece_room;
	struct digest pieces_digest; /* empty until the pieces are sorted */
	struct published_look *before, *now; /* as kept by the build before; of this one */
	size_t before_count, now_count, now_room;
	size_t same; /* of now, how many are as before */
	arena memory;
	char path[PATH_BYTES]; /* of the file that keeps the looks */
	char damage[PATH_BYTES];
};

/* `path` keeps the looks between builds; without it, or with a damaged one, every
 * checkpoint is compared with its list. */
bool published_open(struct published *p, const char *path, error *err);
bool published_add_piece(struct published *p, const struct stat *st,
                         const struct digest *digest, error *err);

/* After all pieces. *damage is the first file that is not as published, NULL for none
 * or where nothing is published; it lives until the next call.
 * `now` is the file system's clock when the build began: no list may be newer. */
bool published_check(struct published *p, const char *folder, const char *file_name,
                     const struct stat *now, const char **damage, error *err);

/* Keeps the looks, if they moved. */
bool published_keep(struct published *p, error *err);
void published_close(struct published *p);

#endif
