/* Size, normalisation and patch order, against the reference's own numbers. */
#include "lib/data/image.h"
#include "tests/support/expect_error.h"
#include "tests/support/image_files.h"
#include "tests/support/temp_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* after ours: it makes a macro of `fail` */

/* The demo model's, which are also the released models'. */
static const struct vision_config vision = { .channels = 3, .patch = 14,
	                                     .temporal_patch = 2, .merge = 2,
	                                     .patch_values = 1176 };

static struct image_processor demo_processor(void)
{
	struct image_processor p;
	error err;
	if (!image_processor_load(&p, "demo/tiny-qwen2_5-vl", &err))
		fail_msg("%s", err.text);
	return p;
}

/* transformers' smart_resize, run in Python. 42, 70, 98, 126, 154 are halves of
 * 28: 1.5, 2.5, ... go to the even neighbour. */
static const struct {
	int height, width, factor, min_pixels, max_pixels, to_height, to_width;
} sizes[] = {
	{ 480, 640, 28, 3136, 12845056, 476, 644 },
	{ 427, 640, 28, 3136, 100352, 252, 364 },
	{ 640, 586, 28, 3136, 100352, 308, 280 },
	{ 112, 112, 28, 3136, 12845056, 112, 112 },
	{ 70, 98, 28, 3136, 12845056, 56, 112 },
	{ 42, 126, 28, 3136, 12845056, 56, 112 },
	{ 98, 154, 28, 3136, 12845056, 112, 168 },
	{ 14, 14, 28, 3136, 12845056, 56, 56 },
	{ 13, 500, 28, 3136, 12845056, 28, 364 },
	{ 1, 1, 28, 3136, 12845056, 56, 56 },
	{ 1, 200, 28, 3136, 12845056, 28, 812 },
	{ 200, 1, 28, 3136, 12845056, 812, 28 },
	{ 2, 3, 28, 3136, 12845056, 56, 84 },
	{ 27, 29, 28, 3136, 12845056, 56, 84 },
	{ 56, 56, 28, 3136, 12845056, 56, 56 },
	{ 55, 57, 28, 3136, 3136, 56, 56 },
	{ 4000, 6000, 28, 3136, 12845056, 2912, 4368 },
	{ 3584, 3584, 28, 3136, 12845056, 3584, 3584 },
	{ 3585, 3584, 28, 3136, 12845056, 3584, 3584 },
	{ 3599, 3584, 28, 3136, 12845056, 3584, 3556 },
	{ 16384, 8192, 28, 3136, 12845056, 5068, 2520 },
	{ 100, 20000, 28, 3136, 20000, 28, 1988 },
	{ 480, 640, 28, 400000, 12845056, 560, 756 },
	{ 480, 640, 32, 65536, 16777216, 480, 640 },
	{ 333, 500, 28, 3136, 50176, 168, 252 },
	{ 10, 10, 14, 1, 100, 14, 14 },
	{ 480, 640, 28, 3136, 784, 28, 28 },
};

static void smart_resize_matches_the_reference(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		int height, width;
		error err;
		assert_true(smart_resize(sizes[i].height, sizes[i].width, sizes[i].factor,
		                         sizes[i].min_pixels, sizes[i].max_pixels,
		                         &height, &width, &err));
		assert_int_equal(height, sizes[i].to_height);
		assert_int_equal(width, sizes[i].to_width);
	}
}

static void smart_resize_refuses_what_it_cannot_serve(void **state)
{
	(void)state;
	int height, width;
	error err;
	assert_false(smart_resize(1, 201, 28, 3136, 12845056, &height, &width, &err));
	expect_error(&err, EXIT_BAD_INPUT, "factor of 200, found 201 x 1", NULL);
	assert_false(smart_resize(4020, 20, 28, 3136, 12845056, &height, &width, &err));
	assert_true(smart_resize(4000, 20, 28, 3136, 12845056, &height, &width, &err));
	assert_false(smart_resize(1, 200, 28, IMAGE_MAX_PIXELS, INT64_MAX, &height,
	                          &width, &err));
	expect_error(&err, EXIT_BAD_INPUT, "200 x 1, which would become", NULL);
	assert_false(smart_resize(0, 5, 28, 3136, 12845056, &height, &width, &err));
	expect_error(&err, EXIT_INTERNAL, NULL);
}

static void assert_golden_patches(const struct patches *p, const struct golden_image *g)
{
	char digest[DIGEST_TEXT_BYTES];
	size_t values = (size_t)p->grid_h * (size_t)p->grid_w * 1176;
	assert_int_equal(p->grid_h, g->grid_h);
	assert_int_equal(p->grid_w, g->grid_w);
	digest_text(p->values, values * sizeof *p->values, digest);
	assert_string_equal(digest, g->pixel_values_sha256);
}

static void check_pixel_values(const struct golden_images *goldens)
{
	struct image_processor processor = demo_processor();
	for (size_t i = 0; i < goldens->count; i++) {
		struct image image;
		struct patches patches;
		error err;
		assert_true(image_load(&image, goldens->images[i].resized, &err));
		assert_true(image_to_patches(&image, &processor, &vision, &patches,
		                             &err));
		assert_golden_patches(&patches, &goldens->images[i]);
		image_free(&image);
		patches_free(&patches);
	}
}

static void demo_pixel_values_match_goldens(void **state)
{
	(void)state;
	struct golden_images goldens;
	load_demo_goldens(&goldens);
	assert_int_equal(goldens.count, 16);
	check_pixel_values(&goldens);
}

static void coco_pixel_values_match_goldens(void **state)
{
	(void)state;
	struct golden_images goldens;
	if (!load_coco_goldens(&goldens, __func__))
		skip();
	assert_int_equal(goldens.count, 8);
	check_pixel_values(&goldens);
}

/* From file to patches: the grids of all sources, the values of the PNG ones
 * (JPEG pixels differ a little, see test_decode.c). */
static int check_sources(const struct golden_images *goldens, int64_t pixel_limit)
{
	struct image_processor processor = demo_processor();
	int exact = 0;
	for (size_t i = 0; i < goldens->count; i++) {
		const struct golden_image *g = &goldens->images[i];
		struct patches patches;
		error err;
		if (!load_patches(g->source, &processor, &vision, pixel_limit, &patches,
		                  &err))
			fail_msg("%s", err.text);
		assert_int_equal(patches.grid_h, g->grid_h);
		assert_int_equal(patches.grid_w, g->grid_w);
		if (strstr(g->source, ".png")) {
			assert_golden_patches(&patches, g);
			exact++;
		}
		patches_free(&patches);
	}
	return exact;
}

static void demo_sources_match_goldens(void **state)
{
	(void)state;
	struct golden_images goldens;
	load_demo_goldens(&goldens);
	assert_int_equal(check_sources(&goldens, 0), 2);
	assert_int_equal(check_sources(&goldens, INT64_MAX), 2); /* no lower limit */
}

static void coco_sources_match_goldens(void **state)
{
	(void)state;
	struct golden_images goldens;
	if (!load_coco_goldens(&goldens, __func__))
		skip();
	check_sources(&goldens, goldens.images[0].max_pixels);
}

/* Where value [row][column] of the patches comes from, by the definition: rows
 * run over merged row, merged column, row in 2x2, column in 2x2; columns over
 * channel, frame, y, x. */
static void patches_are_in_the_documented_order(void **state)
{
	(void)state;
	struct image_processor p = { .std = { 1, 1, 1 } };
	struct vision_config v = { .channels = 3, .patch = 3, .temporal_patch = 2,
		                   .merge = 2, .patch_values = 54 };
	struct image image = noise_image(18, 12);
	struct patches patches;
	error err;
	int row = 0;
	assert_true(image_to_patches(&image, &p, &v, &patches, &err));
	assert_int_equal(patches.grid_h, 4);
	assert_int_equal(patches.grid_w, 6);
	for (int token = 0; token < 6; token++)
		for (int part = 0; part < 4; part++, row++)
			for (int i = 0; i < 54; i++) {
				int c = i / 18, y = i / 3 % 3, x = i % 3;
				int from_y = (token / 3 * 2 + part / 2) * 3 + y;
				int from_x = (token % 3 * 2 + part % 2) * 3 + x;
				int level = image.rgb[(from_y * 18 + from_x) * 3 + c];
				float expected = (float)level / 255;
				assert_true(patches.values[row * 54 + i] == expected);
			}
	image_free(&image);
	patches_free(&patches);
}

static void disagreeing_configs_are_refused(void **state)
{
	(void)state;
	struct image_processor good = demo_processor(), bad[3] = { good, good, good };
	struct image image = noise_image(56, 56);
	struct patches patches;
	error err;
	bad[0].patch = 16;
	bad[1].merge = 4;
	bad[2].temporal_patch = 1;
	for (int i = 0; i < 3; i++) {
		assert_false(image_to_patches(&image, &bad[i], &vision, &patches, &err));
		expect_error(&err, EXIT_BAD_INPUT, "preprocessor_config.json", NULL);
		assert_null(patches.values);
	}
	struct vision_config grey = vision;
	grey.channels = 1;
	assert_false(image_to_patches(&image, &good, &grey, &patches, &err));
	expect_error(&err, EXIT_BAD_INPUT, "found 1", NULL);
	image.height = 42;
	assert_false(image_to_patches(&image, &good, &vision, &patches, &err));
	expect_error(&err, EXIT_INTERNAL, NULL);
	image_free(&image);
}

static void load_patches_names_the_file(void **state)
{
	(void)state;
	char folder[PATH_BYTES], path[PATH_BYTES];
	struct image_processor processor = demo_processor();
	struct image line = noise_image(201, 1);
	struct patches patches;
	error err;
	assert_true(temp_folder_make(folder, &err));
	assert_true(join_path(path, sizeof path, folder, "line.png", &err));
	write_png(path, &(struct png_content){ .width = 201, .height = 1, .depth = 8,
		                               .color_type = 2, .rows = line.rgb,
		                               .row_bytes = 603 });
	assert_false(load_patches(path, &processor, &vision, 0, &patches, &err));
	expect_error(&err, EXIT_BAD_INPUT, path, "factor of 200", NULL);
	assert_null(patches.values);
	assert_false(load_patches("absent.jpg", &processor, &vision, 0, &patches, &err));
	expect_error(&err, EXIT_BAD_INPUT, "absent.jpg", NULL);
	image_free(&line);
	temp_folder_remove(folder);
}

static void demo_processor_is_read(void **state)
{
	(void)state;
	struct image_processor p = demo_processor();
	assert_int_equal(p.min_pixels, 3136);
	assert_int_equal(p.max_pixels, 12845056);
	assert_int_equal(p.patch, 14);
	assert_int_equal(p.merge, 2);
	assert_int_equal(p.temporal_patch, 2);
	assert_true(p.mean[0] == 0.48145466f && p.mean[2] == 0.40821073f);
	assert_true(p.std[0] == 0.26862954f && p.std[2] == 0.27577711f);
}

#define MEAN_STD "\"image_mean\":[0.5,0.25,0.125],\"image_std\":[0.5,1,2]"
#define BOUNDS "\"min_pixels\":4000,\"max_pixels\":90000,"

/* Loads a processor from a folder whose file holds this text. */
static bool load_text(const char *text, struct image_processor *p, error *err)
{
	char folder[PATH_BYTES];
	assert_true(temp_folder_make(folder, err));
	assert_true(temp_folder_write(folder, "preprocessor_config.json", text,
	                              strlen(text), err));
	bool ok = image_processor_load(p, folder, err);
	if (!ok)
		expect_error(err, EXIT_BAD_INPUT, folder, "preprocessor_config.json", NULL);
	temp_folder_remove(folder);
	return ok;
}

static void every_form_of_bounds_is_read(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"{" BOUNDS MEAN_STD "}",
		"{" BOUNDS "\"size\":null," MEAN_STD "}",
		"{\"size\":{\"shortest_edge\":4000,\"longest_edge\":90000}," MEAN_STD "}",
		"{\"size\":{\"shortest_edge\":4000,\"longest_edge\":90000},"
		"\"min_pixels\":null,\"max_pixels\":null," MEAN_STD "}",
		"{" BOUNDS "\"size\":{\"shortest_edge\":7,\"longest_edge\":8}," MEAN_STD "}",
		"{" BOUNDS "\"do_resize\":true,\"resample\":3,\"do_rescale\":true,"
		"\"rescale_factor\":0.00392156862745098,\"do_normalize\":true,"
		"\"do_convert_rgb\":true," MEAN_STD "}",
	};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct image_processor p;
		error err;
		if (!load_text(texts[i], &p, &err))
			fail_msg("%s: %s", texts[i], err.text);
		assert_int_equal(p.min_pixels, 4000);
		assert_int_equal(p.max_pixels, 90000);
		assert_int_equal(p.patch, 0);
		assert_true(p.mean[1] == 0.25f && p.std[2] == 2.0f);
	}
}

static void bad_processors_are_refused(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"",
		"[]",
		"{" BOUNDS "}",
		"{" MEAN_STD "}",
		"{\"min_pixels\":4000," MEAN_STD "}",
		"{\"size\":{\"height\":4,\"width\":9}," MEAN_STD "}",
		"{\"size\":7," MEAN_STD "}",
		"{\"min_pixels\":0,\"max_pixels\":9," MEAN_STD "}",
		"{\"min_pixels\":9.5,\"max_pixels\":90," MEAN_STD "}",
		"{\"min_pixels\":10,\"max_pixels\":9," MEAN_STD "}",
		"{\"min_pixels\":\"4\",\"max_pixels\":9," MEAN_STD "}",
		"{" BOUNDS "\"image_mean\":[0.5,0.5],\"image_std\":[1,1,1]}",
		"{" BOUNDS "\"image_mean\":[0.5,0.5,\"x\"],\"image_std\":[1,1,1]}",
		"{" BOUNDS "\"image_mean\":[0.5,0.5,0.5],\"image_std\":[1,0,1]}",
		"{" BOUNDS "\"image_mean\":[0.5,0.5,0.5],\"image_std\":[1,-1,1]}",
		"{" BOUNDS "\"do_resize\":false," MEAN_STD "}",
		"{" BOUNDS "\"do_normalize\":false," MEAN_STD "}",
		"{" BOUNDS "\"resample\":2," MEAN_STD "}",
		"{" BOUNDS "\"rescale_factor\":0.0078125," MEAN_STD "}",
		"{" BOUNDS "\"patch_size\":0," MEAN_STD "}",
	};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct image_processor p;
		error err;
		if (load_text(texts[i], &p, &err))
			fail_msg("accepted: %s", texts[i]);
	}
	struct image_processor p;
	error err;
	assert_false(image_processor_load(&p, "no/such/folder", &err));
	expect_error(&err, EXIT_BAD_INPUT, "no/such/folder", NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(smart_resize_matches_the_reference),
		cmocka_unit_test(smart_resize_refuses_what_it_cannot_serve),
		cmocka_unit_test(demo_pixel_values_match_goldens),
		cmocka_unit_test(coco_pixel_values_match_goldens),
		cmocka_unit_test(demo_sources_match_goldens),
		cmocka_unit_test(coco_sources_match_goldens),
		cmocka_unit_test(patches_are_in_the_documented_order),
		cmocka_unit_test(disagreeing_configs_are_refused),
		cmocka_unit_test(load_patches_names_the_file),
		cmocka_unit_test(demo_processor_is_read),
		cmocka_unit_test(every_form_of_bounds_is_read),
		cmocka_unit_test(bad_processors_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
