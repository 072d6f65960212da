/* Files to pixels: checks a JPEG or PNG, then has stb_image decode it.
 *
 * stb_image is one header (Debian: libstb-dev); this is the only place that
 * compiles it, as a system header, so our warning flags hold for our lines. PNG
 * pixels are PIL's; JPEG pixels differ from libjpeg's (PIL's) by 0.05 levels on
 * average at most and 3 in one value on the demo scenes and COCO, by more only
 * where libjpeg does not interpolate chroma (images up to 4 pixels wide). 16-bit
 * grey PNG is the exception to PNG: its upper 8 bits here, clipped at 255 in PIL. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/data/image.h"
#include "lib/data/image_check.h"

#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS IMAGE_MAX_SIDE
/* Zeroed, because what a damaged file leaves undecoded must at least be the same
 * on every run. */
#define STBI_MALLOC(bytes) calloc(1, bytes)
#define STBI_REALLOC(old, bytes) realloc(old, bytes)
#define STBI_FREE(memory) free(memory)

#include <stb/stb_image.h>

/* Format and structure, before stb_image sees the file. */
static bool check_format(const char *path, const mapped_file *file,
                         struct image_size *size, error *err)
{
	if (!file->size)
		return fail(err, EXIT_BAD_INPUT, "%s: expected an image, found an empty file",
		            path);
	if (file->size > INT_MAX)
		return fail(err, EXIT_BAD_INPUT,
		            "%s: expected an image of at most %d bytes, found %zu", path,
		            INT_MAX, file->size);
	if (is_jpeg(file->data, file->size))
		return check_jpeg(path, file->data, file->size, size, err);
	if (is_png(file->data, file->size))
		return check_png(path, file->data, file->size, size, err);
	char start[3 * 8 + 1] = "";
	for (size_t i = 0; i < 8 && i < file->size; i++)
		snprintf(start + 3 * i, 4, " %02x", file->data[i]);
	return fail(err, EXIT_BAD_INPUT,
	            "%s: expected a JPEG or PNG image, found a file that begins with%s",
	            path, start);
}

static bool check_size(const char *path, const struct image_size *size, error *err)
{
	if (size->width >= 1 && size->width <= IMAGE_MAX_SIDE && size->height >= 1 &&
	    size->height <= IMAGE_MAX_SIDE &&
	    (int64_t)size->width * size->height <= IMAGE_MAX_PIXELS)
		return true;
	return fail(err, EXIT_BAD_INPUT,
	            "%s: expected an image of 1 to %d pixels a side and %d in all, found "
	            "%u x %u",
	            path, IMAGE_MAX_SIDE, IMAGE_MAX_PIXELS, size->width, size->height);
}

bool image_file_open(struct image_file *file, const char *path, error *err)
{
	struct image_size size;
	*file = (struct image_file){ .path = path };
	if (!map_file(&file->content, path, err))
		return false;
	if (!check_format(path, &file->content, &size, err) || !check_size(path, &size, err)) {
		image_file_close(file);
		return false;
	}
	file->width = (int)size.width;
	file->height = (int)size.height;
	return true;
}

void image_file_close(struct image_file *file)
{
	unmap_file(&file->content);
	*file = (struct image_file){ 0 };
}

/* stb_image that runs out of memory while it looks what kind of file it has says that it
 * is of none. */
static bool refuse_undecodable(const char *path, int code, error *err)
{
	const char *reason = stbi_failure_reason();
	if (code == ENOMEM || (reason && strcmp(reason, "outofmem") == 0))
		return fail(err, EXIT_ENVIRONMENT, "%s: out of memory decoding the image",
		            path);
	return fail(err, EXIT_BAD_INPUT, "%s: cannot decode the image: %s", path,
	            reason ? reason : "damaged");
}

bool image_decode(const struct image_file *file, struct image *out, error *err)
{
	int channels_in_file;
	*out = (struct image){ 0 };
	errno = 0;
	out->rgb = stbi_load_from_memory(file->content.data, (int)file->content.size,
	                                 &out->width, &out->height, &channels_in_file, 3);
	if (out->rgb)
		return true;
	*out = (struct image){ 0 };
	return refuse_undecodable(file->path, errno, err);
}

bool image_load(struct image *image, const char *path, error *err)
{
	struct image_file file;
	*image = (struct image){ 0 };
	if (!image_file_open(&file, path, err))
		return false;
	bool ok = image_decode(&file, image, err);
	image_file_close(&file);
	return ok;
}

void image_free(struct image *image)
{
	free(image->rgb);
	*image = (struct image){ 0 };
}
