/* SHA-256, the one digest of quern: what sha256sum and the model hub show. */
#ifndef QUERN_ARTIFACT_DIGEST_H
#define QUERN_ARTIFACT_DIGEST_H

#include <openssl/sha.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/error.h"

enum { DIGEST_HEX = 64 };

/* A digest is a value: copied, compared, printed with %s. */
struct digest {
	char hex[DIGEST_HEX + 1]; /* lower case */
};

bool digest_bytes(const void *data, size_t size, struct digest *out, error *err);

/* A regular file, read once from start to end; *bytes is how many were read. */
bool digest_file(const char *path, struct digest *out, uint64_t *bytes, error *err);

/* The same of a file already open; `path` is what errors call it. */
bool digest_descriptor(int fd, const char *path, struct digest *out, uint64_t *bytes,
                       error *err);

bool digest_equal(const struct digest *a, const struct digest *b);

/* False unless text[length] is exactly 64 lower-case hex digits. */
bool digest_parse(const char *text, size_t length, struct digest *out);

/* Piece by piece; owns nothing. Trouble is remembered and told by digester_end. */
struct digester {
	SHA256_CTX state;
	bool failed;
};

void digester_begin(struct digester *d);
void digester_add(struct digester *d, const void *data, size_t size);
bool digester_end(struct digester *d, struct digest *out, error *err);

#endif
