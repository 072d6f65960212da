/* Digests of what a checkpoint holds of each group, from its tensors: for checkpoints
 * whose groups have no files of their own. */
#ifndef QUERN_QUANT_GROUP_DIGESTS_H
#define QUERN_QUANT_GROUP_DIGESTS_H

#include "lib/artifact/digest.h"
#include "lib/base/arena.h"
#include "lib/base/error.h"

struct group_digest {
	const char *module; /* the group's name without ".quant_recipe" */
	struct digest digest; /* of dtypes and bytes of its weights */
};

/* Every group of the model in module order; a tied head has none. Names live in
 * `memory`. */
bool digest_groups(const char *folder, arena *memory, struct group_digest **out, int *count,
                   error *err);

#endif
