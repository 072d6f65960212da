/* Throwing away what nothing needs.
 *
 * What is needed is told by files that name digests: the outputs of the catalog's
 * edges (the keys of blocks, the pieces of a quantisation) and the lists of files of
 * published checkpoints. Whatever looks like a digest in them keeps the result and
 * the object of that name; a result that is kept keeps its objects, and a result that
 * gave an object which is kept is kept with it. */
#ifndef QUERN_ARTIFACT_COLLECT_H
#define QUERN_ARTIFACT_COLLECT_H

#include "lib/artifact/census.h"

/* Marks what the file's text names; an absent file names nothing. */
bool mark_named(struct census *c, const char *path, error *err);

/* Carries marks from results to objects and back. */
void mark_related(struct census *c);

struct collect_limits {
	time_t before;       /* what was stored later stays, whatever it is */
	uint64_t most_bytes; /* unused objects go, oldest first, down to this, also when
	                        they are younger than `before` but not than `fresh` */
	time_t fresh;        /* stored since: perhaps the work of a build that is running */
};

struct collected {
	uint64_t objects, results, bytes, temporaries, locks;
};

/* Removes unused results and objects, and damaged ones set aside, within the limits. */
bool collect_store(struct census *c, const struct store *s,
                   const struct collect_limits *limits, struct collected *done, error *err);

/* Removes what killed processes left below a folder: temporaries (temp.h) that nobody
 * holds, those of another kernel's time when older than `fresh`, and lock files of the
 * store that nobody holds. */
bool collect_leftovers(const char *folder, time_t fresh, struct collected *done, error *err);

#endif
