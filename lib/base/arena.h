/* Arena: many small allocations with one owner and one end.
 *
 * Things read from files (names, lists, tables) live exactly as long as the
 * object that read them; an arena inside that object makes freeing one call and
 * leaking impossible. Large buffers that come and go use malloc directly. */
#ifndef QUERN_BASE_ARENA_H
#define QUERN_BASE_ARENA_H

#include <stddef.h>

#include "lib/base/error.h"

struct arena_chunk;

/* All zero is a valid, empty arena. */
typedef struct arena {
	struct arena_chunk *newest;
} arena;

/* `count * size` zeroed bytes aligned to 64, or NULL with *err filled. */
void *arena_alloc(arena *a, size_t count, size_t size, error *err);

/* A copy of text[length] with a NUL after it, or NULL with *err filled. */
char *arena_text(arena *a, const char *text, size_t length, error *err);

/* printf into the arena. */
char *arena_printf(arena *a, error *err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

void arena_free(arena *a);

#endif
