/* Decoded images in the store: what was stored is taken, what was spoiled is made again,
 * and nothing else is ever given out; the list that says where they are. */
#include "lib/data/pixels.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

enum { WIDTH = 56, HEIGHT = 84 };
#define SCENE "demo/images/scene_000.jpg"

static char folder[PATH_BYTES];
static struct store store;

static int make(void **state)
{
	(void)state;
	char path[PATH_BYTES];
	error err;
	if (temp_folder_make(folder, &err) &&
	    join_path(path, sizeof path, folder, "store", &err) && store_open(&store, path, &err))
		return 0;
	print_error("%s\n", err.text);
	return -1;
}

static int clean(void **state)
{
	(void)state;
	temp_folder_remove(folder);
	return 0;
}

static struct image make_pixels(const char *path)
{
	struct image_file file;
	struct image image = { 0 };
	error err;
	if (!image_file_open(&file, path, &err) ||
	    !image_make_pixels(&file, WIDTH, HEIGHT, &image, &err))
		fail_msg("%s", err.text);
	image_file_close(&file);
	return image;
}

/* The scene in the store, and its pixels. */
static struct pixels store_scene(struct image *image)
{
	struct output output;
	error err;
	*image = make_pixels(SCENE);
	assert_true(pixels_store(&store, image, &output, &err));
	return (struct pixels){ .image = "scene", .object = output.digest, .width = WIDTH,
		.height = HEIGHT };
}

static void name_object(const struct pixels *p, char path[PATH_BYTES])
{
	error err;
	assert_true(store_object_path(&store, &p->object, path, &err));
}

static void expect_taken(const struct pixels *p, const struct image *expected, bool remade)
{
	struct image image;
	bool found;
	error err;
	if (!pixels_take(&store, p, SCENE, &image, &found, &err))
		fail_msg("%s", err.text);
	assert_int_equal(found, remade);
	assert_int_equal(image.width, WIDTH);
	assert_int_equal(image.height, HEIGHT);
	assert_memory_equal(image.rgb, expected->rgb, WIDTH * HEIGHT * 3);
	image_free(&image);
}

static void what_is_stored_is_taken(void **state)
{
	(void)state;
	struct image image;
	const struct pixels p = store_scene(&image);
	char path[PATH_BYTES], header[14] = "";
	name_object(&p, path);
	FILE *f = fopen(path, "rb");
	assert_non_null(f);
	assert_int_equal(fread(header, 1, 13, f), 13);
	fclose(f);
	assert_string_equal(header, "P6\n56 84\n255\n");
	expect_taken(&p, &image, false);
	image_free(&image);
}

/* Every kind of spoiling, some at every region of the file. */
static void what_is_spoiled_is_made_again(void **state)
{
	(void)state;
	struct image image;
	const struct pixels p = store_scene(&image);
	char path[PATH_BYTES];
	struct stat st;
	name_object(&p, path);
	assert_int_equal(stat(path, &st), 0);
	for (long at = 0; at < st.st_size; at += 997) {
		const struct timespec times[2] = { st.st_atim, st.st_mtim };
		assert_int_equal(chmod(path, 0644), 0);
		FILE *f = fopen(path, "r+b");
		assert_non_null(f);
		fseek(f, at, SEEK_SET);
		int byte = fgetc(f);
		fseek(f, at, SEEK_SET);
		fputc(byte ^ 1 << at % 8, f);
		fclose(f);
		/* As rot does it: no date tells. */
		assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
		expect_taken(&p, &image, true);
		expect_taken(&p, &image, false);
	}
	assert_int_equal(truncate(path, 100), 0);
	expect_taken(&p, &image, true);
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(truncate(path, st.st_size + 1), 0);
	expect_taken(&p, &image, true);
	assert_int_equal(unlink(path), 0);
	expect_taken(&p, &image, true);
	expect_taken(&p, &image, false);
	image_free(&image);
}

/* Made again from an image that is another one by now: not what the list promises. */
static void another_image_is_not_taken(void **state)
{
	(void)state;
	struct image image, taken;
	const struct pixels p = store_scene(&image);
	char path[PATH_BYTES];
	bool remade;
	error err;
	name_object(&p, path);
	assert_int_equal(unlink(path), 0);
	assert_false(pixels_take(&store, &p, "demo/images/scene_001.jpg", &taken, &remade, &err));
	expect_error(&err, EXIT_BAD_INPUT, "scene_001.jpg: expected the image that was decoded",
	             NULL);
	assert_false(pixels_take(&store, &p, "absent.jpg", &taken, &remade, &err));
	expect_error(&err, EXIT_BAD_INPUT, "absent.jpg", NULL);
	image_free(&image);
}

static void another_object_is_not_taken(void **state)
{
	(void)state;
	struct image image, taken;
	struct pixels p = store_scene(&image);
	bool remade;
	error err;
	p.width = HEIGHT; /* the same bytes, another shape */
	p.height = WIDTH;
	assert_false(pixels_take(&store, &p, SCENE, &taken, &remade, &err));
	expect_error(&err, EXIT_BAD_INPUT, "expected 84 x 56 pixels", NULL);
	image_free(&image);
}

/* ---- the list ---- */

#define HEX "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define HEAD "{\"kind\": \"pixels\", \"unit\": 28, \"min_pixels\": 3136, " \
	"\"max_pixels\": 50176, \"images\": ["
#define ENTRY(name, object, width) "{\"image\": \"" name "\", \"source\": \"" HEX \
	"\", \"object\": \"" object "\", \"width\": " width ", \"height\": 56}"

static bool read_text(struct pixel_list *list, const char *text, error *err)
{
	char path[PATH_BYTES];
	assert_true(temp_folder_write(folder, "list.json", text, strlen(text), err));
	assert_true(join_path(path, sizeof path, folder, "list.json", err));
	return pixel_list_read(list, path, err);
}

static void a_list_reads_as_it_was_printed(void **state)
{
	(void)state;
	struct pixel_list list, again;
	text printed = { 0 }, reprinted = { 0 };
	error err;
	assert_true(read_text(&list, HEAD ENTRY("a/one.png", HEX, "84")
	                      ",{\"image\": \"b.jpg\", \"unreadable\": true}]}", &err));
	assert_true(pixel_list_print(&list, &printed, &err));
	assert_true(read_text(&again, printed.data, &err));
	assert_true(pixel_list_print(&again, &reprinted, &err));
	assert_string_equal(printed.data, reprinted.data);
	const struct pixels *one = pixel_list_find(&again, "a/one.png");
	const struct pixels *other = pixel_list_find(&again, "b.jpg");
	assert_non_null(one);
	assert_int_equal(one->width, 84);
	assert_string_equal(one->object.hex, HEX);
	assert_false(one->unreadable);
	assert_true(other && other->unreadable);
	assert_null(pixel_list_find(&again, "a"));
	assert_int_equal(again.bounds.max_pixels, 50176);
	text_free(&printed);
	text_free(&reprinted);
	pixel_list_free(&list);
	pixel_list_free(&again);
}

static void bad_lists_are_refused(void **state)
{
	(void)state;
	static const struct { const char *text, *part; } cases[] = {
		{ "{\"kind\": \"amax\"}", "expected a list of pixels" },
		{ "{\"kind\": \"pixels\", \"unit\": 0, \"images\": []}", "unit" },
		{ HEAD "7]}", "expected an image" },
		{ HEAD ENTRY("a", "0123", "84") "]}", "64 hexadecimal digits" },
		{ HEAD ENTRY("a", HEX, "0") "]}", "width" },
		{ HEAD ENTRY("a", HEX, "100000000") "]}", "at most" },
		{ HEAD ENTRY("b", HEX, "84") "," ENTRY("a", HEX, "84") "]}", "sorted by path" },
		{ HEAD ENTRY("a", HEX, "84") "," ENTRY("a", HEX, "84") "]}", "each once" },
		{ HEAD ENTRY("a", HEX, "84"), "list.json" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct pixel_list list;
		error err;
		assert_false(read_text(&list, cases[i].text, &err));
		expect_error(&err, EXIT_BAD_INPUT, cases[i].part, NULL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_stored_is_taken),
		cmocka_unit_test(what_is_spoiled_is_made_again),
		cmocka_unit_test(another_image_is_not_taken),
		cmocka_unit_test(another_object_is_not_taken),
		cmocka_unit_test(a_list_reads_as_it_was_printed),
		cmocka_unit_test(bad_lists_are_refused),
	};
	return cmocka_run_group_tests(tests, make, clean);
}
