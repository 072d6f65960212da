/* Reading the fields of the catalog's entries. Private to the files catalog*.c. */
#ifndef QUERN_QUANT_CATALOG_FIELDS_H
#define QUERN_QUANT_CATALOG_FIELDS_H

#include "lib/quant/catalog.h"

/* A section of the catalog that must be an object of objects; NULL on failure.
 * *count is the number of its entries. */
const cJSON *open_section(struct catalog *c, const char *name, int *count,
                          error *err);

/* One of a NULL-terminated list of words. */
bool read_word(struct catalog *c, const cJSON *entry, const char *field,
               const char *const *words, const char **out, error *err);

/* A name becomes a folder, a target and a part of file names. `place` is what the
 * error points at. */
bool check_name(struct catalog *c, const cJSON *place, const char *name, error *err);

/* Where an error about a field points that may be absent. */
const cJSON *place_of(const cJSON *entry, const char *field);

/* Texts end up in build.ninja, where a line ends a value. */
bool check_one_line(struct catalog *c, const cJSON *item, error *err);

/* An optional list of globs. */
bool read_globs(struct catalog *c, const cJSON *e, const char *field,
                struct globs *out, error *err);

/* Finds the entry that field of e names in an array of structs whose first member
 * is the name. */
const void *read_reference(struct catalog *c, const cJSON *e, const char *field,
                           const void *entries, int count, size_t size, error *err);

/* Families and schemes, catalog_schemes.c. */
bool read_schemes(struct catalog *c, error *err);

#endif
