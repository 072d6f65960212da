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

static void write_u32(FILE *f, uint32_t value)
{
	uint8_t bytes[4] = { (uint8_t)(value >> 24), (uint8_t)(value >> 16),
		             (uint8_t)(value >> 8), (uint8_t)value };
	assert_int_equal(fwrite(bytes, 1, 4, f), 4);
}

/* type_and_data: the chunk's four letters, then `length` bytes. */
static void write_chunk(FILE *f, const uint8_t *type_and_data, size_t length)
{
	uint32_t crc = 0xffffffffu;
	for (size_t i = 0; i < 4 + length; i++) {
		crc ^= type_and_data[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? 0xedb88320u ^ (crc >> 1) : crc >> 1;
	}
	write_u32(f, (uint32_t)length);
	assert_int_equal(fwrite(type_and_data, 1, 4 + length, f), 4 + length);
	write_u32(f, ~crc);
}

/* IDAT as a zlib stream of one stored block: header, block header, rows each
 * after a filter byte 0, Adler-32. */
static void write_rows(FILE *f, const struct png_content *c)
{
	size_t stored = c->height * (1 + c->row_bytes), used = 0;
	assert_in_range(stored, 1, 65535);
	uint8_t *chunk = calloc(1, 4 + 7 + stored + 4), *out = chunk + 11;
	assert_non_null(chunk);
	memcpy(chunk, "IDAT\x78\x01\x01", 7);
	chunk[7] = (uint8_t)stored;
	chunk[8] = (uint8_t)(stored >> 8);
	chunk[9] = (uint8_t)~chunk[7];
	chunk[10] = (uint8_t)~chunk[8];
	for (uint32_t y = 0; y < c->height; y++, used += 1 + c->row_bytes)
		memcpy(out + used + 1, c->rows + y * c->row_bytes, c->row_bytes);
	uint32_t a = 1, b = 0;
	for (size_t i = 0; i < stored; i++) {
		a = (a + out[i]) % 65521;
		b = (b + a) % 65521;
	}
	out[stored] = (uint8_t)(b >> 8);
	out[stored + 1] = (uint8_t)b;
	out[stored + 2] = (uint8_t)(a >> 8);
	out[stored + 3] = (uint8_t)a;
	write_chunk(f, chunk, 7 + stored + 4);
	free(chunk);
}

void write_png(const char *path, const struct png_content *c)
{
	uint8_t header[4 + 13] = "IHDR", palette[4 + 3 * 256] = "PLTE";
	for (int i = 0; i < 4; i++) {
		header[4 + i] = (uint8_t)(c->width >> (24 - 8 * i));
		header[8 + i] = (uint8_t)(c->height >> (24 - 8 * i));
	}
	header[12] = c->depth;
	header[13] = c->color_type;
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite("\x89PNG\r\n\x1a\n", 1, 8, f), 8);
	write_chunk(f, header, 13);
	if (c->palette) {
		memcpy(palette + 4, c->palette, c->palette_bytes);
		write_chunk(f, palette, c->palette_bytes);
	}
	if (c->rows)
		write_rows(f, c);
	write_chunk(f, (const uint8_t *)"IEND", 0);
	assert_int_equal(fclose(f), 0);
}
