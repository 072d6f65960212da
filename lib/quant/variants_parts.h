/* What the files variants*.c share: the making of a set of pieces. */
#ifndef QUERN_QUANT_VARIANTS_PARTS_H
#define QUERN_QUANT_VARIANTS_PARTS_H

#include <pthread.h>

#include "lib/artifact/edge.h"
#include "lib/quant/variants.h"

/* A file of the model, as it was when work on it began. */
struct shard {
	char path[PATH_BYTES];
	struct digest digest;
};

/* What threads share: the memo is one connection. */
struct shared_memo {
	struct memo *memo;
	pthread_mutex_t lock;
};

/* Each thread works with a copy that has a chunk of its own; the rest is only read by
 * then. */
struct maker {
	const struct variant_job *job;
	struct variant_set *set;
	struct checkpoint checkpoint;
	struct linear_shape *linears;
	int linear_count;
	struct group_list all, quantised; /* every group; those that get codes */
	const struct tensor **grouped; /* weights of groups, and norms that have files of their
	                                  own, for telling the rest */
	int grouped_count;
	struct shared_memo *memo;
	struct shard *shards; /* taken before the checkpoint was opened */
	int shard_count;
	struct digest sources;
	float *chunk;   /* [CHUNK] */
	uint8_t *codes; /* [CHUNK] */
	arena memory;
};

/* ---- variants.c ---- */

/* A file of these tensors as they are. */
bool write_plain(struct edge *e, const struct tensor *const *tensors, size_t count,
                 struct output *out, error *err);

/* Adds the file that a tensor lies in to a key. */
bool add_shard(const struct maker *m, struct key *key, const struct tensor *t, error *err);

/* Before anything made from the model's files is published. */
bool shards_unchanged(struct maker *m, error *err);

/* ---- variants_rest.c: what belongs to no group ---- */

/* Of a format with channel scales, a file of the norms before groups as they are and one
 * of the same norms folded; make_rest leaves them out then. */
bool make_norms(struct maker *m, error *err);
bool make_rest(struct maker *m, error *err);

#endif
