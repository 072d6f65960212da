/* What every tool does around its work: look whether the work is done, wait for
 * another process that is doing it, publish, and write one line about it.
 *
 *   edge_begin(&e, out, "slice", target, &key, &err)
 *   if (!e.hit) { ...compute, object_* into e.store...; edge_publish(&e, ...) }
 *   ...link or copy e.result's outputs to where they belong...
 *   edge_log(&e, bytes, &err); edge_end(&e);
 *
 * A tool with many keys (blocks of samples) does this once a key, one after the
 * other. */
#ifndef QUERN_ARTIFACT_EDGE_H
#define QUERN_ARTIFACT_EDGE_H

#include <stdint.h>
#include <time.h>

#include "lib/artifact/key.h"
#include "lib/artifact/lock.h"
#include "lib/artifact/store.h"

struct edge {
	struct store store;
	bool hit;             /* the result was there */
	struct result result; /* after a hit, and after edge_publish */
	struct digest digest; /* of the key */
	const char *out, *tool, *target; /* the caller's, as is key */
	const struct key *key;
	struct lock lock; /* held from a miss to edge_publish or edge_end */
	struct timespec begun;
};

/* Opens out/store and looks the key up; on a miss takes the key's lock, waiting
 * for whoever has it, and looks again. Nothing is to be freed after a failure. */
bool edge_begin(struct edge *e, const char *out, const char *tool, const char *target,
                const struct key *key, error *err);

/* Publishes outputs as the key's result and lets go of the lock. */
bool edge_publish(struct edge *e, const struct output *outputs, size_t count,
                  error *err);

/* Appends a line to out/log/edges.jsonl (log.h): seconds are those since edge_begin,
 * bytes how many the edge wrote, as it counts them. */
bool edge_log(const struct edge *e, uint64_t bytes, error *err);

/* Lets go of the lock if it is held; frees. */
void edge_end(struct edge *e);

#endif
