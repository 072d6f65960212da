/* A growing text; see text.h. */
#include "lib/base/text.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool make_room(text *t, size_t extra)
{
	if (extra > SIZE_MAX / 4 - t->length)
		t->failed = true;
	if (t->failed)
		return false;
	if (t->capacity - t->length > extra)
		return true;
	size_t capacity = t->capacity ? t->capacity : 256;
	while (capacity - t->length <= extra)
		capacity *= 2;
	char *data = realloc(t->data, capacity);
	if (!data) {
		t->failed = true;
		return false;
	}
	t->data = data;
	t->capacity = capacity;
	return true;
}

void text_add(text *t, const char *bytes, size_t length)
{
	if (!make_room(t, length))
		return;
	memcpy(t->data + t->length, bytes, length);
	t->length += length;
	t->data[t->length] = '\0';
}

void text_puts(text *t, const char *string)
{
	text_add(t, string, strlen(string));
}

void text_printf(text *t, const char *format, ...)
{
	va_list args, again;
	va_start(args, format);
	va_copy(again, args);
	int length = vsnprintf(NULL, 0, format, args);
	va_end(args);
	t->failed |= length < 0;
	if (make_room(t, length < 0 ? 0 : (size_t)length)) {
		vsnprintf(t->data + t->length, (size_t)length + 1, format, again);
		t->length += (size_t)length;
	}
	va_end(again);
}

bool text_ok(const text *t, error *err)
{
	return !t->failed || fail_memory(err, "a text", t->capacity * 2);
}

void text_free(text *t)
{
	free(t->data);
	*t = (text){ 0 };
}
