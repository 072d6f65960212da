/* What stb_image takes on trust, checked before it is let at a file.
 *
 * stb_image looks at no checksum, decodes whatever is left of a file cut short,
 * and some releases in use write past their tables when a Huffman table claims
 * more than 256 codes, or decode with tables the file never defined. An image
 * that is not the one that was stored would silently become another score, so
 * quern walks the file's structure itself and refuses it by name and place. */
#ifndef QUERN_DATA_IMAGE_CHECK_H
#define QUERN_DATA_IMAGE_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/error.h"

/* Whether data[size] begins like a JPEG or a PNG. */
bool is_jpeg(const uint8_t *data, size_t size);
bool is_png(const uint8_t *data, size_t size);

/* What the file says the image measures, in pixels. */
struct image_size {
	uint32_t width, height;
};

/* The segments of a JPEG, start to end: whole, of a kind that stb_image decodes
 * (Huffman-coded, baseline or progressive), with every table a scan uses. */
bool check_jpeg(const char *path, const uint8_t *data, size_t size,
                struct image_size *out, error *err);

/* The chunks of a PNG up to its end: whole, and the CRC of each right. */
bool check_png(const char *path, const uint8_t *data, size_t size,
               struct image_size *out, error *err);

#endif
