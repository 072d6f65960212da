/* A growing text, for building key texts, JSON, headers and messages. */
#ifndef QUERN_BASE_TEXT_H
#define QUERN_BASE_TEXT_H

#include <stddef.h>

#include "lib/base/error.h"

/* All zero is a valid, empty text. Running out of memory is remembered in
 * `failed` and asked about once, at the end, with text_ok. */
typedef struct text {
	char *data; /* NUL-terminated once anything was added; owned */
	size_t length, capacity;
	bool failed;
} text;

void text_add(text *t, const char *bytes, size_t length);
void text_puts(text *t, const char *string);
void text_printf(text *t, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
bool text_ok(const text *t, error *err);
void text_free(text *t);

#endif
