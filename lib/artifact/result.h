/* What a key gave: a list of named outputs, and its form on disk.
 *
 *   quern result 1
 *   output <digest> <bytes> <name>
 *   ...
 *   sha256 <digest of all bytes above>
 */
#ifndef QUERN_ARTIFACT_RESULT_H
#define QUERN_ARTIFACT_RESULT_H

#include <stddef.h>
#include <stdint.h>

#include "lib/artifact/digest.h"
#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/base/text.h"

/* One file of a result. The name is the tool's own choice ("scores.json"). */
struct output {
	const char *name;
	struct digest digest;
	uint64_t bytes;
};

/* All zero is a valid, empty result. */
struct result {
	struct output *outputs;
	size_t count;
	arena memory; /* owns the outputs and their names */
};

void result_free(struct result *r);

/* NULL when absent. */
const struct output *result_output(const struct result *r, const char *name);

/* Appends the form above. Control characters in a name, or no name, are a bug
 * of the tool's. */
bool result_print(const struct output *outputs, size_t count, text *out, error *err);

/* *whole is false, and *r empty, for any bytes that result_print did not write.
 * Fails only for lack of memory. */
bool result_parse(const char *data, size_t size, struct result *r, bool *whole,
                  error *err);

#endif
