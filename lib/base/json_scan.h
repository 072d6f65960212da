/* A strict JSON scanner that trusts nothing.
 *
 * cJSON is convenient but lenient: it takes duplicate keys, broken UTF-8 and
 * numbers that fit no double, and reads every integer as a double. This scanner
 * walks a text token by token (RFC 8259, nothing more), allocates only in step
 * with bytes it has really seen, and reads 64-bit integers exactly. json.c runs
 * it before cJSON; safetensors.c reads headers with nothing else.
 *
 * Refused beyond the grammar: duplicate keys of one object (compared after
 * unescaping; found when the object closes, in n log n), invalid UTF-8, lone
 * surrogates, \u0000 (no C string can hold it), nesting deeper than
 * JSON_MAX_DEPTH, numbers longer than JSON_NUMBER_BYTES or beyond a double. */
#ifndef QUERN_BASE_JSON_SCAN_H
#define QUERN_BASE_JSON_SCAN_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/error.h"

enum { JSON_MAX_DEPTH = 64, JSON_NUMBER_BYTES = 63 };

enum json_token {
	JSON_START, /* nothing read yet */
	JSON_OBJECT_OPEN, JSON_OBJECT_CLOSE, JSON_ARRAY_OPEN, JSON_ARRAY_CLOSE,
	JSON_KEY, JSON_STRING, JSON_NUMBER, JSON_TRUE, JSON_FALSE, JSON_NULL,
	JSON_END /* the whole text was one value, and it was read */
};

struct json_scan {
	const char *name; /* what errors call the text */
	const char *text; /* need not be NUL-terminated */
	size_t size;
	enum json_token token; /* found last, at text[start, end) */
	size_t start, end;

	/* Private. */
	size_t at;
	int want;
	int depth;
	char closer[JSON_MAX_DEPTH];       /* of each open container: } or ] */
	size_t first_key[JSON_MAX_DEPTH];  /* of each open object, in keys[] */
	const char **keys;                 /* opening quotes of the open objects' keys */
	size_t key_count, key_capacity;
};

/* `name` and `text` must outlive the scan. Free it whatever happened. */
void json_scan_begin(struct json_scan *s, const char *name, const char *text,
                     size_t size);
void json_scan_free(struct json_scan *s);

/* Reads one token. After JSON_END it stays there. After a failure the scan is
 * over. */
bool json_scan_next(struct json_scan *s, error *err);

/* Reads one token and fails unless it is this one; `what` is what errors say was
 * expected, as "an object". */
bool json_scan_expect(struct json_scan *s, enum json_token token, const char *what,
                      error *err);

/* Having read the first token of a value, reads on to its last. */
bool json_scan_skip(struct json_scan *s, error *err);

/* Reads from the beginning to the end: is the text JSON that we accept? */
bool json_scan_check(const char *name, const char *text, size_t size, error *err);

/* Whether the key or string just read, unescaped, is `plain`. */
bool json_scan_is(const struct json_scan *s, const char *plain);

/* The key or string just read, unescaped and NUL-terminated, into out[size];
 * `what` names it in the error when it does not fit. */
bool json_scan_text(const struct json_scan *s, char *out, size_t size,
                    const char *what, error *err);

/* The number just read, which must be an integer without fraction or exponent
 * in [low, high]; fails also when the token is no number. */
bool json_scan_integer(const struct json_scan *s, int64_t low, int64_t high,
                       int64_t *out, error *err);

/* fail() with "name:line:column: " of the token just read before the message. */
bool json_scan_fail(const struct json_scan *s, error *err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Where text[offset] stands, 1-based; columns count characters, not bytes. */
void json_line_column(const char *text, size_t offset, int *line, int *column);

/* The length of the well-formed UTF-8 sequence that bytes[size] begins with, or
 * 0 when it begins with none. */
size_t utf8_sequence(const char *bytes, size_t size);

#endif
