/* What every edge did, a line of JSON each, in <tree>/log/edges.jsonl; and the
 * reading of it, for "how long does this take" and "why did this run".
 *
 * A line is {"at", "process", "tool", "target", "key", "hit", "seconds", "bytes"}:
 * seconds since 1970, the process, what ninja was to make, the key's digest and
 * whether the store had its result (both absent where there is none), and the bytes
 * that the edge wrote (of scan: that it had to read). Lines of other forms are for other
 * readers (lib/quant/timings.h). */
#ifndef QUERN_ARTIFACT_LOG_H
#define QUERN_ARTIFACT_LOG_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "lib/artifact/digest.h"
#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/base/text.h"

/* What became of a key: the store was not asked, it lacked the result, it had it. */
enum store_answer { ANSWER_NONE, ANSWER_MISS, ANSWER_HIT };

struct log_entry {
	const char *tool, *target;
	struct digest key; /* .hex empty: none */
	enum store_answer answer;
	double seconds;
	uint64_t bytes;
	int64_t at, process; /* filled by log_append */
	size_t line;         /* filled by log_read */
};

/* Adds a line in one write: lines of edges that end together do not mix. */
bool log_append(const char *tree, const struct log_entry *entry, error *err);

/* For lines of another form: the fields that all begin with, {"at", "process", "tool",
 * "target", into *line, to which the caller adds the rest, "}" and a newline; and adding
 * the line. */
bool log_begin_line(text *line, const char *tool, const char *target, error *err);
bool log_append_line(const char *tree, const text *line, error *err);

double seconds_since(const struct timespec *begun); /* of CLOCK_MONOTONIC */

/* The lines by target, those of one target oldest first. What is no line of the above form (a write that a full
 * disk cut short) is left out; no file is an empty log. */
struct edge_log {
	struct log_entry *entries;
	size_t count;
	arena memory;
};

bool log_read(struct edge_log *log, const char *tree, error *err);
void log_free(struct edge_log *log);

/* Entries [first, end) are of one run: one process on one target; and of one target. */
size_t log_run_end(const struct edge_log *log, size_t first);
size_t log_target_end(const struct edge_log *log, size_t first);

#endif
