/* Pixels as objects of the store; see pixels.h. */
#include "lib/data/pixels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_BYTES = 48 }; /* more than two sides of IMAGE_MAX_PIXELS need */

static size_t print_header(char header[HEADER_BYTES], int width, int height)
{
	return (size_t)snprintf(header, HEADER_BYTES, "P6\n%d %d\n255\n", width, height);
}

static size_t count_bytes(int width, int height)
{
	return (size_t)width * (size_t)height * 3;
}

bool pixels_store(const struct store *s, const struct image *image, struct output *out,
                  error *err)
{
	char header[HEADER_BYTES];
	struct object_writer w;
	size_t length = print_header(header, image->width, image->height);
	return object_begin(&w, s, err) && object_write(&w, header, length, err) &&
	       object_write(&w, image->rgb, count_bytes(image->width, image->height), err) &&
	       object_commit(&w, out, err);
}

/* The object's bytes are those of its name, but an object of another kind has a name too. */
static bool take_object(const struct store *s, const struct pixels *p, struct image *out,
                        error *err)
{
	char header[HEADER_BYTES], *data;
	size_t size, length = print_header(header, p->width, p->height);
	size_t expected = length + count_bytes(p->width, p->height);
	if (!store_read(s, &p->object, expected, &data, &size, err))
		return false;
	if (size != expected || memcmp(data, header, length) != 0) {
		free(data);
		return fail(err, EXIT_BAD_INPUT, "%s: object %s: expected %d x %d pixels, found "
		            "something else", s->folder, p->object.hex, p->width, p->height);
	}
	memmove(data, data + length, size - length);
	*out = (struct image){ .width = p->width, .height = p->height, .rgb = (uint8_t *)data };
	return true;
}

static bool make_again(const struct store *s, const struct pixels *p, const char *path,
                       struct image *out, error *err)
{
	struct image_file file;
	struct output stored;
	if (!image_file_open(&file, path, err))
		return false;
	bool ok = image_make_pixels(&file, p->width, p->height, out, err);
	image_file_close(&file);
	if (!ok)
		return false;
	ok = pixels_store(s, out, &stored, err) &&
	     (digest_equal(&stored.digest, &p->object) ||
	      fail(err, EXIT_BAD_INPUT, "%s: expected the image that was decoded before, found "
	           "another one; run ninja again", path));
	if (!ok)
		image_free(out);
	return ok;
}

bool pixels_take(const struct store *s, const struct pixels *p, const char *path,
                 struct image *out, bool *remade, error *err)
{
	enum object_state state;
	error unused;
	*out = (struct image){ 0 };
	*remade = false;
	if (take_object(s, p, out, err))
		return true;
	/* A damaged one was moved away when it was read. */
	if (!store_check(s, &p->object, true, &state, NULL, &unused) || state == OBJECT_WHOLE)
		return false;
	*remade = make_again(s, p, path, out, err);
	return *remade;
}
