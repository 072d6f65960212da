/* A list of chunks, each handing out 64-byte aligned pieces from its front. */
#include "lib/base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/pages.h"

enum { ALIGNMENT = 64, CHUNK_BYTES = 64 * 1024 };

struct arena_chunk {
	struct arena_chunk *older;
	size_t used, size; /* bytes after the (padded) header */
};

static size_t round_up(size_t n)
{
	return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static bool add_chunk(arena *a, size_t bytes, error *err)
{
	size_t size = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
	size_t whole = round_up(sizeof(struct arena_chunk)) + size;
	struct arena_chunk *chunk = pages_alloc(round_up(whole));
	if (!chunk)
		return fail_memory(err, "an arena", whole);
	*chunk = (struct arena_chunk){ .older = a->newest, .size = size };
	a->newest = chunk;
	return true;
}

void *arena_alloc(arena *a, size_t count, size_t size, error *err)
{
	if (size && count > (SIZE_MAX / 2) / size) {
		fail_memory(err, "an arena", SIZE_MAX);
		return NULL;
	}
	size_t bytes = round_up(count * size);
	if (!a->newest || a->newest->size - a->newest->used < bytes)
		if (!add_chunk(a, bytes, err))
			return NULL;
	char *base = (char *)a->newest + round_up(sizeof(struct arena_chunk));
	char *piece = base + a->newest->used;
	a->newest->used += bytes;
	memset(piece, 0, bytes);
	return piece;
}

char *arena_text(arena *a, const char *text, size_t length, error *err)
{
	char *copy = arena_alloc(a, length + 1, 1, err);
	if (copy)
		memcpy(copy, text, length);
	return copy;
}

char *arena_printf(arena *a, error *err, const char *format, ...)
{
	va_list args, again;
	va_start(args, format);
	va_copy(again, args);
	int length = vsnprintf(NULL, 0, format, args);
	va_end(args);
	char *text = NULL;
	if (length < 0)
		fail(err, EXIT_INTERNAL, "cannot format \"%s\"", format);
	else
		text = arena_alloc(a, (size_t)length + 1, 1, err);
	if (text)
		vsnprintf(text, (size_t)length + 1, format, again);
	va_end(again);
	return text;
}

void arena_free(arena *a)
{
	while (a->newest) {
		struct arena_chunk *older = a->newest->older;
		free(a->newest);
		a->newest = older;
	}
}
