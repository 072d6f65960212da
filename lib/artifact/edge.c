/* The frame around a tool's work; see edge.h. */
#include "lib/artifact/edge.h"

#include <stdio.h>

#include "lib/artifact/log.h"

static bool take_lock(struct edge *e, error *err)
{
	char name[sizeof "locks/.lock" + DIGEST_HEX], path[PATH_BYTES];
	snprintf(name, sizeof name, "locks/%s.lock", e->digest.hex);
	return join_path(path, sizeof path, e->store.folder, name, err) &&
	       lock_take(&e->lock, path, err);
}

bool edge_begin(struct edge *e, const char *out, const char *tool, const char *target,
                const struct key *key, error *err)
{
	char folder[PATH_BYTES];
	*e = (struct edge){
		.out = out, .tool = tool, .target = target, .key = key, .lock.fd = -1
	};
	clock_gettime(CLOCK_MONOTONIC, &e->begun);
	if (!join_path(folder, sizeof folder, out, "store", err) ||
	    !store_open(&e->store, folder, err) || !key_digest(key, &e->digest, err) ||
	    !store_find(&e->store, &e->digest, &e->result, &e->hit, err))
		return false;
	if (e->hit)
		return true;
	bool ok = take_lock(e, err) &&
	          store_find(&e->store, &e->digest, &e->result, &e->hit, err);
	if (!ok || e->hit)
		lock_release(&e->lock);
	return ok;
}

bool edge_publish(struct edge *e, const struct output *outputs, size_t count,
                  error *err)
{
	bool found = false;
	result_free(&e->result);
	if (!store_publish(&e->store, e->key, outputs, count, err) ||
	    !store_find(&e->store, &e->digest, &e->result, &found, err))
		return false;
	lock_release(&e->lock);
	return found || fail(err, EXIT_ENVIRONMENT,
	                     "%s: the result %s vanished as soon as it was published",
	                     e->store.folder, e->digest.hex);
}

bool edge_log(const struct edge *e, uint64_t bytes, error *err)
{
	const struct log_entry entry = { .tool = e->tool, .target = e->target,
		.key = e->digest, .answer = e->hit ? ANSWER_HIT : ANSWER_MISS,
		.seconds = seconds_since(&e->begun), .bytes = bytes };
	return log_append(e->out, &entry, err);
}

void edge_end(struct edge *e)
{
	lock_release(&e->lock);
	result_free(&e->result);
}
