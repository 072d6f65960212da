/* Everything that a store holds, as lists: for looking at it, checking it, and
 * throwing away what nothing needs. */
#ifndef QUERN_ARTIFACT_CENSUS_H
#define QUERN_ARTIFACT_CENSUS_H

#include <time.h>

#include "lib/artifact/store.h"

struct stored_object {
	struct digest digest;
	uint64_t bytes;
	time_t stored;
	bool used; /* by a result or a file that is kept; set by collect */
};

struct stored_result {
	struct digest key;
	const char *tool; /* "?" when its key.txt does not say */
	struct result result; /* empty when its result.txt is damaged */
	bool whole;           /* result.txt and key.txt are what they should be */
	time_t stored;
	bool used;
};

/* Both sorted by digest. */
struct census {
	struct stored_object *objects;
	struct stored_result *results;
	size_t object_count, result_count;
	uint64_t bytes; /* of objects */
};

bool census_take(struct census *c, const struct store *s, error *err);
void census_free(struct census *c);

struct stored_object *census_object(struct census *c, const struct digest *digest);
struct stored_result *census_result(struct census *c, const struct digest *key);

/* The result's bytes: those of its objects. */
uint64_t result_bytes(const struct stored_result *r);

#endif
