/* A folder as it was, and what has become of it: for trying thousands of faults from one
 * state without building that state thousands of times. */
#ifndef QUERN_TESTS_FAULTS_SNAPSHOT_H
#define QUERN_TESTS_FAULTS_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct sum {
	uint64_t words[4]; /* of a SHA-256; sums of entries are added up */
};

/* A name below the folder. */
struct entry {
	char *path;
	struct stat st; /* as it was last put there */
	struct sum content;
	size_t first;   /* the first entry that is a hard link of the same file */
	bool seen, dirty;
};

struct snapshot {
	const char *backup; /* folder with a copy of every file, named by entry */
	struct entry *entries; /* sorted by path */
	size_t count;
	struct entry *others; /* found by the last look, not in entries */
	size_t other_count;
};

/* Takes "build.ninja" and everything below `out` but what is compiled. Without a backup
 * it can be compared with, not restored. */
void snapshot_take(struct snapshot *s, const char *out, const char *backup);

/* Looks at the folder now: fills seen, dirty and others. The sum is over names, kinds,
 * modes, bytes, how many names a file has, and whether its date was set back. */
struct sum snapshot_look(struct snapshot *s, const char *out);

/* Over names, kinds, modes and bytes of what builds are for: published files, work, stamps,
 * objects, results; without temporaries. After snapshot_look. */
struct sum snapshot_essence(const struct snapshot *s);

/* Puts everything back, after snapshot_look. */
void snapshot_restore(struct snapshot *s);

/* The first path of models or work, temporaries aside, that is not as in `expected`,
 * another snapshot; NULL when all is. After snapshot_look. */
const char *snapshot_difference(const struct snapshot *s, const struct snapshot *expected);

bool same_sum(const struct sum *a, const struct sum *b);
void give_up(const char *what) __attribute__((noreturn));

#endif
