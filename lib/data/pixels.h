/* Images decoded and resized ahead of use, in the store.
 *
 * An object of the store holds the pixels of one image at one size, as a binary PPM that
 * any viewer opens: "P6\n<width> <height>\n255\n", then rgb[height][width][3]. Its
 * checksum is its name. A list of them, the manifest that `decode` leaves, says which
 * object an image is in; calibrate, score and evaluate take the pixels from there. */
#ifndef QUERN_DATA_PIXELS_H
#define QUERN_DATA_PIXELS_H

#include "lib/artifact/store.h"
#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/base/text.h"
#include "lib/data/image.h"

/* One image of the list. */
struct pixels {
	const char *image;    /* path relative to the image root */
	bool unreadable;      /* missing or broken; nothing of what follows is known then */
	struct digest source; /* of the image's file */
	struct digest object;
	int width, height;
};

struct pixel_list {
	struct pixel_bounds bounds;
	struct pixels *images; /* sorted by path, each once */
	int count;
	arena memory;
};

/* ---- objects ---- */

/* Fills out->digest and out->bytes. */
bool pixels_store(const struct store *s, const struct image *image, struct output *out,
                  error *err);

/* The pixels of p. Every byte is checked; what is damaged or gone from the store is made
 * again from the image at `path`, which must give the same bytes, and *remade tells. */
bool pixels_take(const struct store *s, const struct pixels *p, const char *path,
                 struct image *out, bool *remade, error *err);

/* ---- the list ---- */

bool pixel_list_print(const struct pixel_list *list, text *out, error *err);
bool pixel_list_read(struct pixel_list *list, const char *path, error *err);
void pixel_list_free(struct pixel_list *list);

/* NULL when the list has no such image. */
const struct pixels *pixel_list_find(const struct pixel_list *list, const char *image);

#endif
