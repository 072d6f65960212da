/* What the image tests share: the golden images and where they lie, and images
 * made on the spot. Everything here fails the test when it cannot do its work. */
#ifndef QUERN_TESTS_SUPPORT_IMAGE_FILES_H
#define QUERN_TESTS_SUPPORT_IMAGE_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/file.h"
#include "lib/data/image.h"
#include "tests/support/png_file.h"

enum { MAX_GOLDEN_IMAGES = 64, DIGEST_TEXT_BYTES = 65 };

/* One entry of an index.json (golden/README.md says what the fields are). */
struct golden_image {
	char source[PATH_BYTES];  /* the JPEG or PNG the reference started from */
	char decoded[PATH_BYTES]; /* PIL's decode of it, "" where none was kept */
	char resized[PATH_BYTES];
	int height, width, grid_h, grid_w; /* of the resized image */
	int64_t max_pixels;
	char pixel_values_sha256[DIGEST_TEXT_BYTES];
};

struct golden_images {
	size_t count;
	struct golden_image images[MAX_GOLDEN_IMAGES];
};

/* The project's own set, and the one that lies in QUERN_SHARED (false, with a
 * SKIP line for `test`, where it is absent). */
void load_demo_goldens(struct golden_images *out);
bool load_coco_goldens(struct golden_images *out, const char *test);

/* SHA-256 in hexadecimal. */
void digest_text(const void *data, size_t size, char out[DIGEST_TEXT_BYTES]);

/* width x height pixels of a fixed pseudo-random noise. */
struct image noise_image(int width, int height);

void write_png(const char *path, const struct png_content *content);

#endif
