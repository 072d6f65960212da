/* Decoding ahead of use: each image once, whoever asks and however often; and samples made
 * from stored pixels are those made from the images. */
#include "lib/quant/decode_run.h"

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/artifact/log.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tool_digest.h"

#include <cmocka.h>

#define MODEL "demo/tiny-qwen2_5-vl"

static char folder[PATH_BYTES], tree[PATH_BYTES];
static const char *const tree_option = tree;

/* folder/name in one of some buffers, more than a test asks for. */
static const char *path_of(const char *name)
{
	static char paths[64][PATH_BYTES];
	static int next;
	char *path = paths[next++ % 64];
	error err;
	assert_true(join_path(path, PATH_BYTES, folder, name, &err));
	return path;
}

static void copy_scene(int scene, const char *name)
{
	char from[64], *data;
	size_t size;
	error err;
	snprintf(from, sizeof from, "demo/images/scene_%03d.jpg", scene);
	assert_true(read_file(from, 1 << 20, &data, &size, &err));
	assert_true(temp_folder_write(folder, name, data, size, &err));
	free(data);
}

/* images/0.jpg to 3.jpg, and 4.jpg, which is 1.jpg under another name. */
static int make(void **state)
{
	(void)state;
	char path[PATH_BYTES];
	error err;
	if (!tool_digest_make() || !temp_folder_make(folder, &err) ||
	    !join_path(tree, sizeof tree, folder, "tree", &err) ||
	    !join_path(path, sizeof path, folder, "images", &err) || !make_folders(path, &err))
		return -1;
	for (int i = 0; i < 5; i++) {
		char name[32];
		snprintf(name, sizeof name, "images/%d.jpg", i);
		copy_scene(i == 4 ? 1 : i, name);
	}
	return 0;
}

static int clean(void **state)
{
	(void)state;
	tool_digest_remove();
	temp_folder_remove(folder);
	return 0;
}

/* A DB whose rows have these images, one digit each. */
static const char *make_db(const char *name, const char *images)
{
	const char *path = path_of(name);
	char sql[256], *message;
	sqlite3 *db;
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "CREATE TABLE vlm_calib_samples (id INTEGER PRIMARY "
	                              "KEY, image_relpath TEXT, caption TEXT)", NULL, NULL,
	                              &message), SQLITE_OK);
	for (int i = 0; images[i]; i++) {
		snprintf(sql, sizeof sql, "INSERT INTO vlm_calib_samples VALUES(%d, "
		         "'images/%c.jpg', 'Some shape.')", i, images[i]);
		assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, &message), SQLITE_OK);
	}
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	return path;
}

static struct source_settings settings_of(const char *db)
{
	return (struct source_settings){ .model = MODEL, .calib_db = db, .image_root = folder,
		.tree = &tree_option,
		.prompt = "answer", .on_bad_sample = "stop", .samples = 100, .block_samples = 16,
		.max_pixels = 84 * 84 };
}

/* Decodes into folder/tree and counts: images computed, and taken from the store. */
static void decode(const struct source_settings *s, const char *out, size_t computed,
                   size_t found)
{
	struct edge_log log;
	size_t hits = 0, misses = 0;
	error err;
	char path[PATH_BYTES];
	snprintf(path, sizeof path, "%s", path_of("tree/log/edges.jsonl"));
	unlink(path);
	if (!run_decode(s, tree, path_of(out), &err))
		fail_msg("%s", err.text);
	assert_true(log_read(&log, tree, &err));
	for (size_t i = 0; i < log.count; i++) {
		assert_string_equal(log.entries[i].tool, "decode");
		hits += log.entries[i].answer == ANSWER_HIT;
		misses += log.entries[i].answer == ANSWER_MISS;
	}
	log_free(&log);
	assert_int_equal(misses, computed);
	assert_int_equal(hits, found);
}

static void each_image_is_decoded_once(void **state)
{
	(void)state;
	struct source_settings few = settings_of(make_db("few.db", "012"));
	struct source_settings more = settings_of(make_db("more.db", "2300120"));
	struct source_settings twin = settings_of(make_db("twin.db", "41"));
	decode(&few, "few.json", 3, 0);
	decode(&few, "few.json", 0, 3);
	decode(&more, "more.json", 1, 3); /* four different images in seven rows */
	decode(&twin, "twin.json", 0, 2); /* one file by two names */
	more.samples = 2;
	decode(&more, "more.json", 0, 2);
	more.max_pixels = 56 * 56;
	decode(&more, "small.json", 2, 0);
	more.max_pixels = 84 * 84 + 1; /* other bounds, the same sizes */
	decode(&more, "same.json", 0, 2);
}

static void only_a_changed_image_is_decoded_again(void **state)
{
	(void)state;
	struct source_settings s = settings_of(make_db("change.db", "0123"));
	error err;
	assert_true(run_decode(&s, tree, path_of("change.json"), &err));
	copy_scene(9, "images/2.jpg");
	decode(&s, "change.json", 1, 3);
	copy_scene(2, "images/2.jpg");
	decode(&s, "change.json", 0, 4);
}

static struct sample sample_of(const struct source_settings *s, int64_t index)
{
	struct source source;
	struct sample sample = { 0 };
	bool unreadable;
	error err;
	if (!source_open(&source, s, &err) ||
	    !source_sample(&source, index, &sample, &unreadable, &err))
		fail_msg("%s", err.text);
	source_close(&source);
	return sample;
}

static void samples_are_the_same_with_and_without(void **state)
{
	(void)state;
	struct source_settings without = settings_of(make_db("same.db", "0123")), with = without;
	error err;
	with.pixels = path_of("pixels.json");
	assert_true(run_decode(&without, tree, with.pixels, &err));
	for (int i = 0; i < 4; i++) {
		struct sample a = sample_of(&without, i), b = sample_of(&with, i);
		assert_int_equal(a.tokens, b.tokens);
		assert_int_equal(a.patches.grid_h, b.patches.grid_h);
		assert_int_equal(a.patches.grid_w, b.patches.grid_w);
		assert_memory_equal(a.patches.values, b.patches.values,
		                    (size_t)(a.patches.grid_h * a.patches.grid_w) * 1176 *
		                    sizeof(float));
		sample_free(&a);
		sample_free(&b);
	}
}

/* Under "skip" the list says what cannot be read, and the sample is skipped for that. */
static void unreadable_images_are_listed(void **state)
{
	(void)state;
	struct source_settings s = settings_of(make_db("gone.db", "080"));
	char list[PATH_BYTES];
	struct source source;
	struct sample sample;
	bool unreadable;
	error err;
	snprintf(list, sizeof list, "%s", path_of("gone.json"));
	assert_false(run_decode(&s, tree, list, &err));
	expect_error(&err, EXIT_BAD_INPUT, "images/8.jpg", NULL);
	assert_false(file_exists(list));
	s.on_bad_sample = "skip";
	assert_true(run_decode(&s, tree, list, &err));
	s.pixels = list;
	assert_true(source_open(&source, &s, &err));
	assert_true(source_sample(&source, 0, &sample, &unreadable, &err));
	sample_free(&sample);
	assert_false(source_sample(&source, 1, &sample, &unreadable, &err));
	assert_true(unreadable);
	source_close(&source);
}

/* Gone from the store and changed since: no sample, and not one to be skipped. */
static void a_lost_image_that_changed_is_no_sample(void **state)
{
	(void)state;
	struct source_settings s = settings_of(make_db("lost.db", "3"));
	struct source source;
	struct sample sample;
	char list[PATH_BYTES], object[PATH_BYTES];
	bool unreadable;
	error err;
	snprintf(list, sizeof list, "%s", path_of("lost.json"));
	s.on_bad_sample = "skip";
	assert_true(run_decode(&s, tree, list, &err));
	s.pixels = list;
	assert_true(source_open(&source, &s, &err));
	assert_true(store_object_path(&source.store, &source.pixels.images[0].object, object,
	                              &err));
	assert_int_equal(unlink(object), 0);
	copy_scene(9, "images/3.jpg");
	assert_false(source_sample(&source, 0, &sample, &unreadable, &err));
	assert_false(unreadable);
	expect_error(&err, EXIT_BAD_INPUT, "run ninja again", NULL);
	copy_scene(3, "images/3.jpg");
	assert_true(source_sample(&source, 0, &sample, &unreadable, &err));
	assert_true(file_exists(object));
	sample_free(&sample);
	source_close(&source);
}

static void other_lists_are_refused(void **state)
{
	(void)state;
	struct source_settings s = settings_of(make_db("one.db", "01"));
	struct source_settings wide = settings_of(make_db("wide.db", "012"));
	struct source source;
	struct sample sample;
	char list[PATH_BYTES];
	bool unreadable;
	error err;
	snprintf(list, sizeof list, "%s", path_of("one.json"));
	assert_true(run_decode(&s, tree, list, &err));
	wide.pixels = s.pixels = list;
	assert_true(source_open(&source, &wide, &err));
	assert_false(source_sample(&source, 2, &sample, &unreadable, &err));
	expect_error(&err, EXIT_USAGE, "images/2.jpg", NULL);
	source_close(&source);
	s.max_pixels = 56 * 56;
	assert_false(source_open(&source, &s, &err));
	expect_error(&err, EXIT_BAD_INPUT, "expected images of 3136 to 3136 pixels", NULL);
	s.image_root = NULL;
	assert_false(run_decode(&s, tree, list, &err));
	expect_error(&err, EXIT_USAGE, "--image-root", NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_image_is_decoded_once),
		cmocka_unit_test(only_a_changed_image_is_decoded_again),
		cmocka_unit_test(samples_are_the_same_with_and_without),
		cmocka_unit_test(unreadable_images_are_listed),
		cmocka_unit_test(a_lost_image_that_changed_is_no_sample),
		cmocka_unit_test(other_lists_are_refused),
	};
	return cmocka_run_group_tests(tests, make, clean);
}
