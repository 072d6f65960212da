/* The key of a result: everything that decides its bytes, as plain text.
 *
 * One `name value` line a fact, in the order added: the tool, the digest of its
 * sources, its parameters in canonical form, its inputs as `input NAME DIGEST`.
 * Never a path outside the inputs' names, a date, a host or the compiled binary:
 * keys agree between machines. The text is kept beside the result (key.txt), so
 * that "why was this built again" is a comparison of lines.
 *
 * Different facts give different texts: in values, control characters and
 * backslashes are escaped (\n, \\, \x1b), in names spaces too. */
#ifndef QUERN_ARTIFACT_KEY_H
#define QUERN_ARTIFACT_KEY_H

#include "lib/artifact/digest.h"
#include "lib/base/error.h"
#include "lib/base/text.h"

/* All zero is an empty key. As with text, running out of memory is told once,
 * by key_digest. */
struct key {
	text text;
};

/* The first two lines. */
void key_begin(struct key *key, const char *tool, const struct digest *tool_sources);
void key_add(struct key *key, const char *name, const char *value);
void key_addf(struct key *key, const char *name, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void key_input(struct key *key, const char *name, const struct digest *digest);

/* The SHA-256 of the text: the result's name in the store. */
bool key_digest(const struct key *key, struct digest *out, error *err);
void key_free(struct key *key);

#endif
