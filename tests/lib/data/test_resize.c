/* The resize against Pillow: equal to the bit, or wrong. */
#include "lib/data/image.h"
#include "tests/support/expect_error.h"
#include "tests/support/image_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* after ours: it makes a macro of `fail` */

static void assert_same_pixels(const struct image *a, const struct image *b)
{
	assert_int_equal(a->width, b->width);
	assert_int_equal(a->height, b->height);
	assert_memory_equal(a->rgb, b->rgb, (size_t)a->width * (size_t)a->height * 3);
}

/* SHA-256 of what Pillow 13.0 makes of noise_image(width, height). */
static const struct {
	int width, height, to_width, to_height;
	const char *sha256;
} pillow[] = {
	{ 640, 480, 364, 252,
	  "e80996c3bc876d7dcbdbe2bac8ca10ea1c98858d77cd239a219472920507d4c0" },
	{ 17, 300, 28, 336,
	  "c0a83ff2cd7a24fa19d0c5a01df3a7fa4b22d0b5a1c1370f6c38d24aa53b5ff7" },
	{ 3, 2, 84, 56,
	  "e5caa8a3bae491b101070bbf36938401b53c54b1bf4b082337a7a064e61c745a" },
	{ 1, 1, 28, 28,
	  "0c139d60d7f252e9486c41be09e25d518fe7898cb31796fc222955455f8c8f00" },
	{ 112, 112, 112, 56,
	  "c0217da27eb6f2eff149218e50364c964ae13d21fef0fc88ba6c8adaf0634e44" },
	{ 112, 112, 56, 112,
	  "984e2b942ad49c41322962df211137d84d7b4e8790af96e4d385227524d7c82f" },
	{ 500, 375, 28, 28,
	  "7904e45bed1edd522a84915a463a79c5dbe16005ce0b8e5e41d445eed48da52d" },
	{ 31, 29, 1008, 28,
	  "ba6c627c2657dcc654b823c0f8e79f4e384a47ba1df9898b91ad449402f0b27a" },
	{ 97, 61, 98, 61,
	  "4129a6134453c2ddad858dc1720000934552c722eaa4f7f32f15db647bea0f4a" },
};

static void noise_matches_pillow(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof pillow / sizeof *pillow; i++) {
		error err;
		char digest[DIGEST_TEXT_BYTES];
		struct image from = noise_image(pillow[i].width, pillow[i].height), to;
		assert_true(image_resize(&from, pillow[i].to_width, pillow[i].to_height,
		                         &to, &err));
		assert_int_equal(to.width, pillow[i].to_width);
		assert_int_equal(to.height, pillow[i].to_height);
		digest_text(to.rgb, (size_t)to.width * (size_t)to.height * 3, digest);
		assert_string_equal(digest, pillow[i].sha256);
		image_free(&from);
		image_free(&to);
	}
}

static void unchanged_size_is_a_copy(void **state)
{
	(void)state;
	error err;
	struct image from = noise_image(45, 31), to;
	assert_true(image_resize(&from, 45, 31, &to, &err));
	assert_ptr_not_equal(from.rgb, to.rgb);
	assert_same_pixels(&from, &to);
	image_free(&from);
	image_free(&to);
}

/* From exact pixels (PIL's decode, or a PNG source) to the golden result. */
static size_t compare_with_goldens(const struct golden_images *goldens)
{
	size_t compared = 0;
	for (size_t i = 0; i < goldens->count; i++) {
		const struct golden_image *g = &goldens->images[i];
		const char *start = *g->decoded ? g->decoded : g->source;
		struct image from, to, expected;
		error err;
		if (!strstr(start, ".png"))
			continue;
		assert_true(image_load(&from, start, &err));
		assert_true(image_load(&expected, g->resized, &err));
		assert_true(image_resize(&from, g->width, g->height, &to, &err));
		assert_same_pixels(&expected, &to);
		image_free(&from);
		image_free(&to);
		image_free(&expected);
		compared++;
	}
	return compared;
}

static void demo_scenes_match_goldens(void **state)
{
	(void)state;
	struct golden_images goldens;
	load_demo_goldens(&goldens);
	assert_int_equal(compare_with_goldens(&goldens), 4); /* 2 JPEG, 2 PNG */
}

static void coco_images_match_goldens(void **state)
{
	(void)state;
	struct golden_images goldens;
	if (!load_coco_goldens(&goldens, __func__))
		skip();
	assert_int_equal(compare_with_goldens(&goldens), 2);
}

static void impossible_sizes_are_refused(void **state)
{
	(void)state;
	static const int sizes[][2] = { { 0, 28 }, { 28, 0 }, { -28, 28 },
		                        { 1 << 20, 1 << 20 }, { 1 << 30, 1 } };
	struct image from = noise_image(8, 8), to;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		error err = { 0 };
		assert_false(image_resize(&from, sizes[i][0], sizes[i][1], &to, &err));
		expect_error(&err, EXIT_BAD_INPUT, "pixels in all", NULL);
		assert_null(to.rgb);
	}
	image_free(&from);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(noise_matches_pillow),
		cmocka_unit_test(unchanged_size_is_a_copy),
		cmocka_unit_test(demo_scenes_match_goldens),
		cmocka_unit_test(coco_images_match_goldens),
		cmocka_unit_test(impossible_sizes_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
