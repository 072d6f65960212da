/* The store: results by key, bytes by digest.
 *
 *   objects/ab/abcdef...   a file named by the SHA-256 of its bytes; read-only,
 *                          never changed once it has that name
 *   results/ab/abcdef.../  named by a key: key.txt, what the key was made of, and
 *                          result.txt, the outputs' names, digests and sizes
 *   locks/                 lock files, one a key being computed (lock.h)
 *   damaged/               objects whose bytes are not what their name says
 *   tmp/                   objects in the making
 *
 * An object's time of change ends in nanoseconds that its digest gives. Anybody who
 * writes to it, be it through a hard link, moves that time; so a look at the time tells
 * whether it has to be read again before it is believed.
 *
 * Objects are synced and renamed into place before a result names them;
 * result.txt is renamed into place last and carries its own digest. So a result
 * exists whole or not at all, and whatever is missing or damaged is a miss, which
 * the next run fills again. All of it relies on rename alone and needs no lock. */
#ifndef QUERN_ARTIFACT_STORE_H
#define QUERN_ARTIFACT_STORE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "lib/artifact/digest.h"
#include "lib/artifact/key.h"
#include "lib/artifact/result.h"
#include "lib/artifact/temp.h"
#include "lib/base/error.h"
#include "lib/base/file.h"

struct store {
	char folder[PATH_BYTES];
	bool hasty; /* nothing that is stored is waited for to be on the disk, and a power cut
	               may tear it: for results that are quicker made again than synced, and
	               whose every byte is checked by whoever reads them */
};

/* Makes the folders that are not there yet. */
bool store_open(struct store *s, const char *folder, error *err);

/* *found only if the whole result is there: result.txt in order, and every object
 * with its size. Objects that were written to since they were stored are read, and
 * moved to damaged/ when they are not what their name says: a miss. */
bool store_find(const struct store *s, const struct digest *key, struct result *out,
                bool *found, error *err);

enum object_state { OBJECT_ABSENT, OBJECT_WHOLE, OBJECT_DAMAGED };

/* How an object stands. It is read when it was written to since it was stored, or
 * when `reread`; a damaged one is moved to damaged/, so that whatever names it is a
 * miss and the next run makes it again. *st, which may be NULL, is that of a file that
 * was found. */
bool store_check(const struct store *s, const struct digest *digest, bool reread,
                 enum object_state *state, struct stat *st, error *err);

/* Where an object is, or would be. */
bool store_object_path(const struct store *s, const struct digest *digest,
                       char out[PATH_BYTES], error *err);

/* Where a key's folder is, or would be. */
bool store_result_path(const struct store *s, const struct digest *key,
                       char out[PATH_BYTES], error *err);

/* An object in the making: hashed while it is written. After a failed call, and
 * after object_commit whatever its answer, nothing is left to free. */
struct object_writer {
	const struct store *store;
	struct temp temp;
	struct digester digester;
	uint64_t bytes;
};

bool object_begin(struct object_writer *w, const struct store *s, error *err);
bool object_write(struct object_writer *w, const void *data, size_t size, error *err);

/* Fills out->digest and out->bytes. An object that exists already is kept. */
bool object_commit(struct object_writer *w, struct output *out, error *err);
void object_abandon(struct object_writer *w);

/* A copy of a file; fills out->digest and out->bytes. */
bool store_add_file(const struct store *s, const char *path, struct output *out,
                    error *err);

/* Memory as one object; fills out->digest and out->bytes. */
bool store_add_bytes(const struct store *s, const void *data, size_t size,
                     struct output *out, error *err);

/* Makes outputs[count] the result of the key. Fails if an object is not there;
 * publishing the same again changes nothing. */
bool store_publish(const struct store *s, const struct key *key,
                   const struct output *outputs, size_t count, error *err);

/* An object's bytes, their digest checked, NUL-terminated; for objects of at most
 * max_bytes. The caller frees *data. An object whose bytes are wrong is moved to
 * damaged/, so that the next run makes it again. */
bool store_read(const struct store *s, const struct digest *digest, size_t max_bytes,
                char **data, size_t *size, error *err);

#endif
