/* See image_files.h. */
#include "tests/support/image_files.h"

#include "tests/support/shared_data.h"

#include <openssl/sha.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h> /* after ours: it makes a macro of `fail` */

static int integer_of(const cJSON *object, const char *field)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, field);
	assert_true(cJSON_IsNumber(item));
	return item->valueint;
}

/* folder/<the text of the field>, or "" where it is null. */
static void path_of(char out[PATH_BYTES], const char *folder, const cJSON *object,
                    const char *field)
{
	error err;
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, field);
	*out = '\0';
	if (!cJSON_IsNull(item)) {
		assert_true(cJSON_IsString(item));
		assert_true(join_path(out, PATH_BYTES, folder, item->valuestring, &err));
	}
}

static void read_golden(struct golden_image *g, const cJSON *item, const char *folder,
                        const char *sources)
{
	const cJSON *grid = cJSON_GetObjectItemCaseSensitive(item, "grid_thw");
	const char *digest = cJSON_GetStringValue(
		cJSON_GetObjectItemCaseSensitive(item, "pixel_values_sha256"));
	assert_int_equal(cJSON_GetArraySize(grid), 3);
	assert_non_null(digest);
	assert_int_equal(strlen(digest), DIGEST_TEXT_BYTES - 1);
	path_of(g->source, sources, item, "file");
	path_of(g->decoded, folder, item, "decoded");
	path_of(g->resized, folder, item, "resized");
	g->height = integer_of(item, "height");
	g->width = integer_of(item, "width");
	g->max_pixels = integer_of(item, "max_pixels");
	g->grid_h = cJSON_GetArrayItem(grid, 1)->valueint;
	g->grid_w = cJSON_GetArrayItem(grid, 2)->valueint;
	memcpy(g->pixel_values_sha256, digest, DIGEST_TEXT_BYTES);
}

static void load_goldens(struct golden_images *out, const char *folder,
                         const char *sources)
{
	char path[PATH_BYTES], *text;
	size_t size;
	error err;
	assert_true(join_path(path, sizeof path, folder, "index.json", &err));
	assert_true(read_file(path, 1 << 24, &text, &size, &err));
	cJSON *list = cJSON_Parse(text);
	free(text);
	assert_in_range(cJSON_GetArraySize(list), 1, MAX_GOLDEN_IMAGES);
	out->count = 0;
	for (const cJSON *item = list->child; item; item = item->next)
		read_golden(&out->images[out->count++], item, folder, sources);
	cJSON_Delete(list);
}

void load_demo_goldens(struct golden_images *out)
{
	load_goldens(out, "tests/golden/demo/images", "demo");
}

bool load_coco_goldens(struct golden_images *out, const char *test)
{
	char folder[PATH_BYTES], sources[PATH_BYTES];
	if (!find_shared(folder, "golden/coco/images", test) ||
	    !find_shared(sources, "fixtures/coco2017", test))
		return false;
	load_goldens(out, folder, sources);
	return true;
}

void digest_text(const void *data, size_t size, char out[DIGEST_TEXT_BYTES])
{
	unsigned char digest[SHA256_DIGEST_LENGTH];
	SHA256(data, size, digest);
	for (size_t i = 0; i < sizeof digest; i++)
		snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

struct image noise_image(int width, int height)
{
	size_t bytes = (size_t)width * (size_t)height * 3;
	struct image image = { .width = width, .height = height, .rgb = malloc(bytes) };
	uint32_t state = 12345;
	assert_non_null(image.rgb);
	for (size_t i = 0; i < bytes; i++) {
		state = state * 1664525u + 1013904223u; /* Numerical Recipes' LCG */
		image.rgb[i] = (uint8_t)(state >> 24);
	}
	return image;
}

void write_png(const char *path, const struct png_content *content)
{
	error err;
	if (!png_write(path, content, &err))
		fail_msg("%s", err.text);
}
