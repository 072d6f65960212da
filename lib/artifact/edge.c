/* The frame around a tool's work; see edge.h. */
#include "lib/artifact/edge.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/artifact/disk.h"

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

static void add_json_string(text *t, const char *string)
{
	text_puts(t, "\"");
	for (; *string; string++) {
		unsigned char c = (unsigned char)*string;
		if (c == '"' || c == '\\')
			text_printf(t, "\\%c", c);
		else if (c < ' ')
			text_printf(t, "\\u%04x", c);
		else
			text_add(t, string, 1);
	}
	text_puts(t, "\"");
}

static double seconds_since(const struct timespec *begun)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - begun->tv_sec) +
	       (double)(now.tv_nsec - begun->tv_nsec) * 1e-9;
}

/* One write under O_APPEND: lines of edges that end together do not mix. */
static bool append_line(const char *out, const text *line, error *err)
{
	char folder[PATH_BYTES], path[PATH_BYTES];
	if (!join_path(folder, sizeof folder, out, "log", err) ||
	    !join_path(path, sizeof path, folder, "edges.jsonl", err))
		return false;
	int result = disk_make_folders(folder);
	int fd = result == 0 ? disk_append(path) : result;
	result = fd < 0 ? fd : disk_write_once(fd, line->data, line->length);
	if (fd >= 0)
		close(fd);
	return result == 0 || fail_disk(err, result, path, "append a line");
}

bool edge_log(const struct edge *e, uint64_t bytes, error *err)
{
	text line = { 0 };
	text_puts(&line, "{\"tool\":");
	add_json_string(&line, e->tool);
	text_puts(&line, ",\"target\":");
	add_json_string(&line, e->target);
	text_printf(&line, ",\"key\":\"%s\",\"hit\":%s,\"seconds\":%.6f,\"bytes\":%" PRIu64
	            "}\n", e->digest.hex, e->hit ? "true" : "false",
	            seconds_since(&e->begun), bytes);
	bool ok = text_ok(&line, err) && append_line(e->out, &line, err);
	text_free(&line);
	return ok;
}

void edge_end(struct edge *e)
{
	lock_release(&e->lock);
	result_free(&e->result);
}
