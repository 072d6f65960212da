/* Progress of long work: on a terminal one line that is rewritten, in a log one
 * line every few seconds; nothing for work that is over at once. */
#ifndef QUERN_BASE_PROGRESS_H
#define QUERN_BASE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct progress {
	FILE *stream;
	const char *what; /* "score", shown in front */
	const char *unit; /* "samples" */
	int64_t total, done;
	double started, shown; /* seconds of a monotonic clock */
	bool terminal;
};

void progress_begin(struct progress *p, FILE *stream, const char *what, const char *unit,
                    int64_t total);

/* `done` of the total are done; prints if it is time to. Not for several threads
 * at once: callers hold their own lock. */
void progress_set(struct progress *p, int64_t done);

/* Clears the terminal's line; in a log, says how long it took if it took long. */
void progress_end(struct progress *p);

/* Seconds of a clock that never goes back. */
double monotonic_seconds(void);

#endif
