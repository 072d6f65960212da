/* Files by pattern, for lists of sources. Unlike glob(3), which frees twice when it runs
 * out of memory. */
#ifndef QUERN_BASE_LIST_H
#define QUERN_BASE_LIST_H

#include "lib/base/arena.h"
#include "lib/base/error.h"

/* Paths of one pattern, in byte order; more patterns follow behind. All zero is empty. */
struct path_list {
	const char **paths;
	int count, room;
	arena memory;
};

/* Adds what matches. Wild cards match within a name and no dot at its beginning. No match
 * is no failure. */
bool list_paths(struct path_list *list, const char *pattern, error *err);
void free_paths(struct path_list *list);

#endif
