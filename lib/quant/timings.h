/* What a run of calibrate or score cost, for whoever compares machines: a line of its own
 * in the log of edges (lib/artifact/log.h).
 *
 * {"at", "process", "tool", "target", "device", "load", "quantise", "first",
 * "first_samples", "rest", "rest_samples", "host_bytes", "device_bytes"}: seconds, counts
 * and bytes. What the process did before, between and after (start, keys, publishing) is
 * in none of them, but for publishing between two blocks, which is part of "rest". */
#ifndef QUERN_QUANT_TIMINGS_H
#define QUERN_QUANT_TIMINGS_H

#include <stdint.h>

#include "lib/base/error.h"

/* All zero is a run that measured nothing. */
struct timings {
	double load;     /* opening the model; on a device, uploading it */
	double quantise; /* its weights */

	/* The first block warms caches up and fills the pipeline; the steady rate is that
	 * of the rest. */
	double first, rest;
	int64_t first_samples, rest_samples;
	double first_end; /* on the monotonic clock */

	uint64_t device_bytes; /* in use on the device, by anyone; 0: none was used */
};

/* Notes that a block of samples, begun at a time of the monotonic clock, is done. */
void timings_block(struct timings *t, double begun, int samples);

/* Appends the line, with the most memory that this process has held. */
bool timings_append(const struct timings *t, const char *tree, const char *tool,
                    const char *target, const char *device, error *err);

#endif
