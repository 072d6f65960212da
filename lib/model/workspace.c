/* A list of slabs, used from the front of the newest; see workspace.h. */
#include "lib/model/workspace.h"

#include <stdint.h>
#include <stdlib.h>

enum { ALIGNMENT = 64, SMALLEST_SLAB = 1 << 20 };

struct slab {
	struct slab *older;
	size_t size; /* bytes after the header */
};

struct workspace {
	struct slab *newest;
	size_t used;  /* bytes of the newest slab */
	size_t total; /* bytes of all slabs */
	size_t tape_bytes;
	size_t refused; /* bytes that could not be had; 0: none */
};

static size_t header_bytes(void)
{
	return (sizeof(struct slab) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
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

static void free_slabs(struct workspace *w)
{
	while (w->newest) {
		struct slab *older = w->newest->older;
		free(w->newest);
		w->newest = older;
	}
	w->total = w->used = 0;
}

void workspace_free(struct workspace *w)
{
	if (!w)
		return;
	free_slabs(w);
	free(w);
}

/* `bytes` is a multiple of ALIGNMENT. */
static bool add_slab(struct workspace *w, size_t bytes)
{
	struct slab *slab = aligned_alloc(ALIGNMENT, header_bytes() + bytes);
	if (!slab)
		return false;
	slab->older = w->newest;
	slab->size = bytes;
	w->newest = slab;
	w->total += bytes;
	w->used = 0;
	return true;
}

void workspace_begin(struct workspace *w)
{
	w->used = 0;
	w->refused = 0;
	if (!w->newest || !w->newest->older)
		return;
	size_t total = w->total;
	free_slabs(w);
	/* If this fails, the takes to come will find slabs or say so. */
	(void)add_slab(w, total);
}

void *workspace_take(struct workspace *w, size_t count, size_t size)
{
	if (w->refused || (size && count > SIZE_MAX / 4 / size)) {
		w->refused = w->refused ? w->refused : SIZE_MAX;
		return NULL;
	}
	size_t bytes = (count * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	size_t left = w->newest ? w->newest->size - w->used : 0;
	if (bytes > left && !add_slab(w, bytes > SMALLEST_SLAB ? bytes : SMALLEST_SLAB)) {
		w->refused = bytes;
		return NULL;
	}
	char *piece = (char *)w->newest + header_bytes() + w->used;
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
