/* Decoding: right pixels from good files, clean refusals of all others. */
#include "lib/base/file.h"
#include "lib/data/image.h"
#include "tests/support/expect_error.h"
#include "tests/support/image_files.h"
#include "tests/support/shared_data.h"
#include "tests/support/temp_folder.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h> /* after ours: it makes a macro of `fail` */

/* The folder of the running test, and a file in it that tests write over. */
struct place {
	char folder[PATH_BYTES], file[PATH_BYTES];
};

static int make_place(void **state)
{
	error err;
	struct place *p = calloc(1, sizeof *p);
	assert_non_null(p);
	assert_true(temp_folder_make(p->folder, &err));
	assert_true(join_path(p->file, sizeof p->file, p->folder, "image", &err));
	*state = p;
	return 0;
}

static int remove_place(void **state)
{
	struct place *p = *state;
	temp_folder_remove(p->folder);
	free(p);
	return 0;
}

static void write_file(const struct place *p, const void *data, size_t size)
{
	error err;
	if (!temp_folder_write(p->folder, "image", data, size, &err))
		fail_msg("%s", err.text);
}

static void assert_refused(const char *path, const char *why)
{
	struct image image;
	error err = { 0 };
	assert_false(image_load(&image, path, &err));
	expect_error(&err, EXIT_BAD_INPUT, path, why, NULL);
	assert_null(image.rgb);
}

static void assert_pixels(const char *path, int width, int height, const uint8_t *rgb)
{
	struct image image;
	error err;
	if (!image_load(&image, path, &err))
		fail_msg("%s", err.text);
	assert_int_equal(image.width, width);
	assert_int_equal(image.height, height);
	assert_memory_equal(image.rgb, rgb, (size_t)width * (size_t)height * 3);
	image_free(&image);
}

static void png_kinds_become_rgb(void **state)
{
	const char *path = ((struct place *)*state)->file;
	/* Two pixels wide, one high; color type 0 grey, 2 RGB, 3 palette, 4 grey
	 * and alpha, 6 RGB and alpha. */
	static const uint8_t palette[] = { 1, 2, 3, 40, 50, 60, 7, 8, 9 };
	static const struct {
		uint8_t depth, color_type, row[16], bytes, rgb[6];
	} kinds[] = {
		{ 8, 0, { 0, 200 }, 2, { 0, 0, 0, 200, 200, 200 } },
		{ 1, 0, { 0x40 }, 1, { 0, 0, 0, 255, 255, 255 } },
		{ 2, 0, { 0x60 }, 1, { 85, 85, 85, 170, 170, 170 } },
		{ 4, 0, { 0x1f }, 1, { 17, 17, 17, 255, 255, 255 } },
		{ 16, 0, { 0x12, 0xff, 0xfe, 0x01 }, 4, { 18, 18, 18, 254, 254, 254 } },
		{ 8, 2, { 1, 2, 3, 4, 5, 6 }, 6, { 1, 2, 3, 4, 5, 6 } },
		{ 16, 2, { 1, 99, 2, 99, 3, 99, 4, 99, 5, 99, 6, 99 }, 12,
		  { 1, 2, 3, 4, 5, 6 } },
		{ 8, 3, { 2, 1 }, 2, { 7, 8, 9, 40, 50, 60 } },
		{ 8, 4, { 9, 0, 8, 128 }, 4, { 9, 9, 9, 8, 8, 8 } },
		{ 8, 6, { 1, 2, 3, 0, 4, 5, 6, 128 }, 8, { 1, 2, 3, 4, 5, 6 } },
		{ 16, 6, { 1, 9, 2, 9, 3, 9, 0, 0, 4, 9, 5, 9, 6, 9, 128, 0 }, 16,
		  { 1, 2, 3, 4, 5, 6 } },
	};
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		struct png_content content = { .width = 2, .height = 1,
			                       .depth = kinds[i].depth,
			                       .color_type = kinds[i].color_type,
			                       .rows = kinds[i].row,
			                       .row_bytes = kinds[i].bytes };
		if (kinds[i].color_type == 3) {
			content.palette = palette;
			content.palette_bytes = sizeof palette;
		}
		write_png(path, &content);
		assert_pixels(path, 2, 1, kinds[i].rgb);
	}
}

static void png_rows_keep_their_order(void **state)
{
	const char *path = ((struct place *)*state)->file;
	struct image image = noise_image(5, 3);
	write_png(path, &(struct png_content){ .width = 5, .height = 3, .depth = 8,
		                               .color_type = 2, .rows = image.rgb,
		                               .row_bytes = 15 });
	assert_pixels(path, 5, 3, image.rgb);
	image_free(&image);
}

static void sizes_are_checked_before_decoding(void **state)
{
	const char *path = ((struct place *)*state)->file;
	static const uint32_t sizes[][2] = { { 16385, 1 }, { 1, 16385 }, { 0, 5 }, { 5, 0 },
		                             { 16384, 8193 }, { 0x80000000u, 7 } };
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		char found[64];
		write_png(path, &(struct png_content){ .width = sizes[i][0],
			                               .height = sizes[i][1],
			                               .depth = 8, .color_type = 2 });
		snprintf(found, sizeof found, "found %u x %u", sizes[i][0], sizes[i][1]);
		assert_refused(path, found);
	}
}

static void other_files_are_refused(void **state)
{
	struct place *p = *state;
	static const char text[] = "hello, this is no image\n";
	assert_refused(p->file, "No such file");
	assert_refused(p->folder, "found a folder");
	write_file(p, "", 0);
	assert_refused(p->file, "empty file");
	write_file(p, text, sizeof text - 1);
	assert_refused(p->file, "begins with 68 65 6c 6c 6f 2c 20 74");
	write_file(p, "\xff", 1);
	assert_refused(p->file, "begins with ff");
	write_file(p, "GIF89a", 6);
	assert_refused(p->file, "expected a JPEG or PNG");
	write_file(p, "\x89PNG\r\n\x1a\n", 8);
	assert_refused(p->file, "no IEND");
	write_png(p->file, &(struct png_content){ .width = 2, .height = 1, .depth = 8,
		                                  .color_type = 2 });
	assert_refused(p->file, "cannot decode"); /* no IDAT */
}

/* Segments by hand: what is missing or odd is what the error says. */
static void jpeg_structure_is_checked(void **state)
{
	const struct place *p = *state;
#define FRAME "\xff\xc0\x00\x0b\x08\x00\x08\x00\x08\x01\x01\x11\x00"
#define SCAN "\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
#define END "\xff\xd9"
	static const struct {
		const char *body;
		size_t bytes;
		const char *why;
	} cases[] = {
#define CASE(body, why) { body, sizeof body - 1, why }
		CASE(END, "without any image data"),
		CASE("\xff\xe0\x00\x01" END, "shorter than its own length"),
		CASE("\xff\xe0\x01\x00 cut", "cut short: a segment wants 256 bytes"),
		CASE(FRAME, "no end-of-image marker"),
		CASE(SCAN END, "without a frame header"),
		CASE(FRAME SCAN END, "the file does not define"),
		CASE(FRAME FRAME END, "second JPEG frame"),
		CASE("\xff\xd8" END, "second JPEG starts"),
		CASE("\xff\xc9\x00\x0b\x08\x00\x08\x00\x08\x01\x01\x11\x00" END, "(SOF9)"),
		CASE("\xff\xc3\x00\x0b\x08\x00\x08\x00\x08\x01\x01\x11\x00" END, "(SOF3)"),
		CASE("\xff\xc1\x00\x0b\x0c\x00\x08\x00\x08\x01\x01\x11\x00" END,
		     "8 bits a sample, found 12"),
		CASE("\xff\xc0\x00\x0b\x08\x00\x08\x00\x08\x03\x01\x11\x00" END,
		     "bad number of components"),
		CASE("\xff\xc4\x00\x05\x00\x01\x02" END, "Huffman tables"),
		CASE("\xff\xdb\x00\x05\x00\x01\x02" END, "quantisation tables"),
#undef CASE
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char file[128] = "\xff\xd8";
		memcpy(file + 2, cases[i].body, cases[i].bytes);
		write_file(p, file, 2 + cases[i].bytes);
		assert_refused(p->file, cases[i].why);
	}
#undef FRAME
#undef SCAN
#undef END
}

/* 4,080 codes in one Huffman table: more than stb_image's tables hold. */
static void overlong_huffman_tables_are_refused(void **state)
{
	const struct place *p = *state;
	enum { CODES = 16 * 255, LENGTH = 2 + 17 + CODES };
	static uint8_t file[2 + 2 + LENGTH + 2] = { 0xff, 0xd8, 0xff, 0xc4, LENGTH >> 8,
		                                    LENGTH & 255 };
	memset(file + 7, 255, 16);
	file[sizeof file - 2] = 0xff;
	file[sizeof file - 1] = 0xd9;
	write_file(p, file, sizeof file);
	assert_refused(p->file, "Huffman tables");
}

/* Mean absolute difference of two images of one size, in levels. */
static double mean_difference(const struct image *a, const struct image *b, int *largest)
{
	int64_t sum = 0;
	size_t values = (size_t)a->width * (size_t)a->height * 3;
	*largest = 0;
	for (size_t i = 0; i < values; i++) {
		int d = abs(a->rgb[i] - b->rgb[i]);
		sum += d;
		*largest = d > *largest ? d : *largest;
	}
	return (double)sum / (double)values;
}

static void compare_files(const char *path, const char *reference, double mean_limit,
                          int limit)
{
	struct image ours, theirs;
	error err;
	int largest;
	if (!image_load(&ours, path, &err) || !image_load(&theirs, reference, &err))
		fail_msg("%s", err.text);
	assert_int_equal(ours.width, theirs.width);
	assert_int_equal(ours.height, theirs.height);
	double mean = mean_difference(&ours, &theirs, &largest);
	print_message("%s: mean difference %.4f levels, largest %d\n", path, mean, largest);
	if (mean > mean_limit || largest > limit)
		fail_msg("%s: expected mean <= %g, largest <= %d", path, mean_limit, limit);
	image_free(&ours);
	image_free(&theirs);
}

/* Not libjpeg's pixels, but close: measured at most 0.05 on average, 3 at most. */
static void compare_with_pil(const struct golden_images *goldens)
{
	int compared = 0;
	for (size_t i = 0; i < goldens->count; i++)
		if (*goldens->images[i].decoded) {
			compare_files(goldens->images[i].source,
			              goldens->images[i].decoded, 0.2, 4);
			compared++;
		}
	assert_int_equal(compared, 2);
}

static void demo_jpegs_are_close_to_pil(void **state)
{
	(void)state;
	struct golden_images goldens;
	load_demo_goldens(&goldens);
	compare_with_pil(&goldens);
}

static void coco_jpegs_are_close_to_pil(void **state)
{
	(void)state;
	struct golden_images goldens;
	if (!load_coco_goldens(&goldens, __func__))
		skip();
	compare_with_pil(&goldens);
}

static void every_demo_scene_decodes(void **state)
{
	(void)state;
	int scenes = 0;
	DIR *d = opendir("demo/images");
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));) {
		char path[PATH_BYTES];
		struct image image;
		error err;
		if (*e->d_name == '.')
			continue;
		assert_true(join_path(path, sizeof path, "demo/images", e->d_name, &err));
		if (!image_load(&image, path, &err))
			fail_msg("%s", err.text);
		image_free(&image);
		scenes++;
	}
	closedir(d);
	assert_true(scenes >= 16);
}

/* name.jpg -> folder/name.png, or false where there is none. */
static bool find_reference(char out[PATH_BYTES], const char *folder, const char *name)
{
	int stem = (int)strlen(name) - 4;
	return snprintf(out, PATH_BYTES, "%s/%.*s.png", folder, stem, name) < PATH_BYTES &&
	       file_exists(out);
}

static void check_odd_jpeg(const char *folder, const char *name)
{
	/* libjpeg does not interpolate chroma two samples wide, stb_image does. */
	static const char *const narrow[] = { "jpg-size-3x3.jpg", "jpg-size-4x4.jpg" };
	char path[PATH_BYTES], reference[PATH_BYTES];
	error err;
	double mean_limit = 0.5;
	int limit = 3;
	assert_true(join_path(path, sizeof path, folder, name, &err));
	for (size_t i = 0; i < 2; i++)
		if (strcmp(name, narrow[i]) == 0) {
			mean_limit = 20;
			limit = 90;
		}
	if (strncmp(name, "bad-", 4) == 0)
		assert_refused(path, "");
	else if (strcmp(name, "mjpeg.jpg") == 0) /* a video frame: no Huffman tables */
		assert_refused(path, "the file does not define");
	else if (find_reference(reference, folder, name))
		compare_files(path, reference, mean_limit, limit);
	else
		compare_files(path, path, 0, 0);
}

static void odd_jpegs_decode_or_are_refused(void **state)
{
	(void)state;
	char folder[PATH_BYTES];
	int files = 0;
	if (!find_shared(folder, "fixtures/jpeg-edge", __func__))
		skip();
	DIR *d = opendir(folder);
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));) {
		size_t length = strlen(e->d_name);
		if (length > 4 && strcmp(e->d_name + length - 4, ".jpg") == 0) {
			check_odd_jpeg(folder, e->d_name);
			files++;
		}
	}
	closedir(d);
	assert_true(files > 30);
}

static const char *const damaged_scenes[] = { "demo/images/scene_010.jpg",
	                                      "demo/images/scene_018.jpg",
	                                      "demo/images/scene_007.png" };

static void cut_files_are_refused(void **state)
{
	const struct place *p = *state;
	for (size_t i = 0; i < 3; i++) {
		mapped_file whole;
		error err;
		assert_true(map_file(&whole, damaged_scenes[i], &err));
		for (size_t size = 0; size < whole.size; size += 1 + whole.size / 400) {
			write_file(p, whole.data, size);
			assert_refused(p->file, "");
		}
		write_file(p, whole.data, whole.size - 1);
		assert_refused(p->file, "cut short");
		unmap_file(&whole);
	}
}

/* Loads a file with one wrong bit: any outcome but a crash, an unnamed file or a
 * code other than bad input. */
static bool survives(const char *path)
{
	struct image image;
	error err = { 0 };
	bool ok = image_load(&image, path, &err);
	if (!ok)
		expect_error(&err, EXIT_BAD_INPUT, path, NULL);
	image_free(&image);
	return ok;
}

/* A JPEG has no checksum, so many of its flipped bits are other pictures; of a
 * PNG none may pass. */
static void flipped_bits_do_not_crash(void **state)
{
	const struct place *p = *state;
	for (size_t i = 0; i < 3; i++) {
		mapped_file whole;
		error err;
		int decoded = 0, tried = 0;
		assert_true(map_file(&whole, damaged_scenes[i], &err));
		uint8_t *copy = malloc(whole.size);
		assert_non_null(copy);
		memcpy(copy, whole.data, whole.size);
		size_t step = 1 + whole.size * 8 / 1500;
		for (size_t bit = 0; bit < whole.size * 8; bit += step, tried++) {
			uint8_t mask = (uint8_t)(1 << bit % 8);
			copy[bit / 8] ^= mask;
			write_file(p, copy, whole.size);
			decoded += survives(p->file);
			copy[bit / 8] ^= mask;
		}
		print_message("%s: %d of %d single flipped bits went unnoticed\n",
		              damaged_scenes[i], decoded, tried);
		if (strstr(damaged_scenes[i], ".png"))
			assert_int_equal(decoded, 0);
		free(copy);
		unmap_file(&whole);
	}
}

int main(void)
{
#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)
	const struct CMUnitTest tests[] = {
		IN_PLACE(png_kinds_become_rgb),
		IN_PLACE(png_rows_keep_their_order),
		IN_PLACE(sizes_are_checked_before_decoding),
		IN_PLACE(other_files_are_refused),
		IN_PLACE(jpeg_structure_is_checked),
		IN_PLACE(overlong_huffman_tables_are_refused),
		cmocka_unit_test(demo_jpegs_are_close_to_pil),
		cmocka_unit_test(coco_jpegs_are_close_to_pil),
		cmocka_unit_test(every_demo_scene_decodes),
		cmocka_unit_test(odd_jpegs_decode_or_are_refused),
		IN_PLACE(cut_files_are_refused),
		IN_PLACE(flipped_bits_do_not_crash),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
