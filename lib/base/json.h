/* JSON files, checked before they are believed.
 *
 * cJSON holds the tree; around it this adds what cJSON leaves out: strict
 * syntax and UTF-8, no duplicate keys, a bounded depth, and errors that name
 * file, line and column. Numbers are doubles here: anything that needs 64-bit
 * integers (tensor offsets) uses json_scan.h on the text itself. */
#ifndef QUERN_BASE_JSON_H
#define QUERN_BASE_JSON_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/error.h"
#include "lib/base/text.h"

enum { JSON_NUMBER_TEXT = 32 };

/* A parsed file. Owns everything; items point into it. */
typedef struct json_doc {
	char *name; /* the path, or what the caller called the text */
	char *text; /* the source, kept for naming places in it */
	size_t size;
	cJSON *root;
} json_doc;

bool json_load(json_doc *doc, const char *path, size_t max_bytes, error *err);

/* Parses a copy of text[size]; `name` is what errors call it. */
bool json_parse(json_doc *doc, const char *name, const char *text, size_t size,
                error *err);
void json_free(json_doc *doc);

/* Where `item` (of doc's tree) stands in the source, 1-based: where its key
 * begins, or the value itself when it has none. An item that the source lacks
 * (added to the tree since) has the place of what it was added to. */
void json_place(const json_doc *doc, const cJSON *item, int *line, int *column);

/* The dotted path of `item` from the root, as "schemes.foo.percent" or
 * "shards[3].name", into out[size]. */
void json_path(const json_doc *doc, const cJSON *item, char *out, size_t size);

/* fail() with "name:line:column: path: " before the message; code
 * EXIT_BAD_INPUT. */
bool json_fail(const json_doc *doc, const cJSON *item, error *err,
               const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Typed fields of an object. A field of another type, out of range, or (for
 * the forms without a default) absent is an EXIT_BAD_INPUT that says so. Text
 * returned points into the doc. Integers stay within +-(2^53 - 1), where doubles
 * are exact, whatever the bounds; 1e3 and 2.0 are integers. */
const cJSON *json_object(const json_doc *doc, const cJSON *object,
                         const char *field, error *err);
const cJSON *json_array(const json_doc *doc, const cJSON *object,
                        const char *field, error *err);
bool json_text(const json_doc *doc, const cJSON *object, const char *field,
               const char **out, error *err);
bool json_integer(const json_doc *doc, const cJSON *object, const char *field,
                  int64_t low, int64_t high, int64_t *out, error *err);
bool json_number(const json_doc *doc, const cJSON *object, const char *field,
                 double low, double high, double *out, error *err);
bool json_boolean(const json_doc *doc, const cJSON *object, const char *field,
                  bool *out, error *err);

/* The same for optional fields: *out keeps the value it had when the field is
 * absent or null. */
bool json_text_or(const json_doc *doc, const cJSON *object, const char *field,
                  const char **out, error *err);
bool json_integer_or(const json_doc *doc, const cJSON *object, const char *field,
                     int64_t low, int64_t high, int64_t *out, error *err);
bool json_number_or(const json_doc *doc, const cJSON *object, const char *field,
                    double low, double high, double *out, error *err);
bool json_boolean_or(const json_doc *doc, const cJSON *object, const char *field,
                     bool *out, error *err);

/* Fails on the first field of object that is not in known[] (NULL-terminated),
 * naming it, its place, and the nearest known name if one is close. */
bool json_only_fields(const json_doc *doc, const cJSON *object,
                      const char *const *known, error *err);

/* The tree as text, two-space indent, keys in insertion order, newline at the
 * end, numbers as json_format_number has them: equal trees give equal bytes on
 * every machine. Appends to *out. NaN, Inf and text that is not UTF-8 have no
 * JSON: such a tree is EXIT_INTERNAL, or EXIT_BAD_INPUT for the text. */
bool json_print(const cJSON *root, text *out, error *err);

/* A finite number with as few digits as read back the same value, in any locale:
 * "16", "0.1", "1e-06", "-0". Whole numbers up to 2^53 have no exponent. */
void json_format_number(double value, char out[JSON_NUMBER_TEXT]);

/* Appends string[length] with quotes and escapes; false when it is no UTF-8. */
bool json_quote(text *out, const char *string, size_t length);

#endif
