/* Writing a PNG: no filters, no compression. */
#ifndef QUERN_TESTS_SUPPORT_PNG_FILE_H
#define QUERN_TESTS_SUPPORT_PNG_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/error.h"

/* rows[height][row_bytes] as the format packs them (PNG specification, section 7); NULL:
 * a file without image data. palette may be NULL. */
struct png_content {
	uint32_t width, height;
	uint8_t depth, color_type;
	const uint8_t *palette;
	size_t palette_bytes;
	const uint8_t *rows;
	size_t row_bytes;
};

bool png_write(const char *path, const struct png_content *content, error *err);

#endif
