/* A list of slabs, used from front to back by every run; see workspace.h. */
#include "lib/model/workspace.h"

#include <stdint.h>
#include <stdlib.h>

#include "lib/base/pages.h"

enum { ALIGNMENT = 64, SMALLEST_SLAB = 2 << 20 };

struct slab {
	struct slab *next;
	size_t size; /* bytes, this header included */
};

struct workspace {
	struct slab *first, *current; /* pieces are taken from `current` */
	size_t used;  /* bytes of `current` */
	size_t total; /* bytes of all slabs */
	size_t tape_bytes;
	size_t refused; /* bytes that could not be had; 0: none */
};

static size_t round_up(size_t bytes)
{
	return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

struct workspace *workspace_new(error *err)
{
	struct workspace *w = calloc(1, sizeof *w);
	if (!w) {
		fail_memory(err, "a workspace", sizeof *w);
		return NULL;
	}
	w->tape_bytes = TAPE_BYTES;
	return w;
}

void workspace_free(struct workspace *w)
{
	while (w && w->first) {
		struct slab *next = w->first->next;
		free(w->first);
		w->first = next;
	}
	free(w);
}

static void enter_slab(struct workspace *w, struct slab *slab)
{
	w->current = slab;
	w->used = round_up(sizeof *slab);
}

void workspace_begin(struct workspace *w)
{
	w->refused = 0;
	if (w->first)
		enter_slab(w, w->first);
}

/* A slab after the last, as large as all before it together, so that few are ever
 * needed; pages that no run reaches cost nothing. */
static bool add_slab(struct workspace *w, size_t bytes)
{
	size_t least = w->total > SMALLEST_SLAB ? w->total : SMALLEST_SLAB;
	size_t needed = round_up(sizeof(struct slab)) + bytes;
	size_t size = needed > least ? needed : least;
	struct slab *slab = pages_alloc(size);
	if (!slab && size > needed)
		slab = pages_alloc(size = needed);
	if (!slab)
		return false;
	*slab = (struct slab){ .size = size };
	if (w->current)
		w->current->next = slab;
	else
		w->first = slab;
	w->total += size;
	enter_slab(w, slab);
	return true;
}

void *workspace_take(struct workspace *w, size_t count, size_t size)
{
	if (w->refused || (size && count > SIZE_MAX / 4 / size)) {
		w->refused = w->refused ? w->refused : SIZE_MAX;
		return NULL;
	}
	size_t bytes = round_up(count * size);
	while (w->current && w->current->size - w->used < bytes && w->current->next)
		enter_slab(w, w->current->next);
	if ((!w->current || w->current->size - w->used < bytes) && !add_slab(w, bytes)) {
		w->refused = bytes;
		return NULL;
	}
	char *piece = (char *)w->current + w->used;
	w->used += bytes;
	return piece;
}

float *workspace_floats(struct workspace *w, size_t rows, size_t width)
{
	if (width && rows > SIZE_MAX / 4 / sizeof(float) / width)
		return workspace_take(w, SIZE_MAX, sizeof(float));
	return workspace_take(w, rows * width, sizeof(float));
}

bool workspace_ok(const struct workspace *w, error *err)
{
	return !w->refused || fail_memory(err, "the activations of a sample", w->refused);
}

void workspace_set_tape(struct workspace *w, size_t bytes)
{
	w->tape_bytes = bytes;
}

size_t workspace_tape(const struct workspace *w)
{
	return w->tape_bytes;
}
