/* What a store holds, what of it may go, and objects that were written to. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/artifact/collect.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

static char folder[PATH_BYTES];
static struct store store;

static int make(void **state)
{
	(void)state;
	error err;
	char path[PATH_BYTES];
	return temp_folder_make(folder, &err) &&
	       join_path(path, sizeof path, folder, "store", &err) &&
	       store_open(&store, path, &err) ? 0 : -1;
}

static int clean(void **state)
{
	(void)state;
	temp_folder_remove(folder);
	return 0;
}

/* A result of one object, both named by a number. */
static void publish(int number, struct digest *key_out, struct digest *object)
{
	static const struct digest sources = {
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	};
	struct key key = { 0 };
	struct output output = { .name = "number" };
	char data[32];
	error err;
	int size = snprintf(data, sizeof data, "object %d", number);
	key_begin(&key, "count", &sources);
	key_addf(&key, "number", "%d", number);
	assert_true(store_add_bytes(&store, data, (size_t)size, &output, &err));
	assert_true(store_publish(&store, &key, &output, 1, &err));
	assert_true(key_digest(&key, key_out, &err));
	*object = output.digest;
	key_free(&key);
}

static enum object_state look(const struct digest *object, bool reread)
{
	enum object_state state;
	error err;
	assert_true(store_check(&store, object, reread, &state, NULL, &err));
	return state;
}

static void object_path(const struct digest *object, char path[PATH_BYTES])
{
	error err;
	assert_true(store_object_path(&store, object, path, &err));
}

static void overwrite(const char *path)
{
	assert_int_equal(chmod(path, 0644), 0);
	FILE *file = fopen(path, "r+");
	assert_non_null(file);
	fputc('X', file);
	fclose(file);
}

static void edits_are_noticed(void **state)
{
	(void)state;
	struct digest key, object;
	char path[PATH_BYTES];
	struct stat before, after;
	publish(1, &key, &object);
	object_path(&object, path);
	assert_int_equal(look(&object, false), OBJECT_WHOLE);
	assert_int_equal(stat(path, &before), 0);
	/* Touched, not changed: read once, and marked again. */
	assert_int_equal(utimensat(AT_FDCWD, path, NULL, 0), 0);
	assert_int_equal(look(&object, false), OBJECT_WHOLE);
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
	overwrite(path);
	assert_int_equal(look(&object, false), OBJECT_DAMAGED);
	assert_int_equal(look(&object, false), OBJECT_ABSENT);
	struct result result;
	bool found;
	error err;
	assert_true(store_find(&store, &key, &result, &found, &err));
	assert_false(found);
	publish(1, &key, &object);
	assert_int_equal(look(&object, true), OBJECT_WHOLE);
}

/* Bytes that changed under an unchanged date are found by reading, and from then on
 * by the date of every name the file has. */
static void rot_is_found_by_reading(void **state)
{
	(void)state;
	struct digest key, object;
	char path[PATH_BYTES], other[PATH_BYTES];
	struct stat before, after;
	error err;
	publish(1, &key, &object);
	object_path(&object, path);
	assert_true(join_path(other, sizeof other, folder, "link", &err));
	assert_int_equal(link(path, other), 0);
	assert_int_equal(stat(path, &before), 0);
	overwrite(path);
	const struct timespec times[2] = { before.st_atim, before.st_mtim };
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	assert_int_equal(look(&object, false), OBJECT_WHOLE);
	assert_int_equal(look(&object, true), OBJECT_DAMAGED);
	assert_int_equal(stat(other, &after), 0);
	assert_true(after.st_mtim.tv_nsec != before.st_mtim.tv_nsec);
}

static void named_ones_stay(void **state)
{
	(void)state;
	struct digest keys[3], objects[3];
	struct census census;
	struct collected done = { 0 };
	error err;
	char names[256], path[PATH_BYTES];
	for (int i = 0; i < 3; i++)
		publish(i, &keys[i], &objects[i]);
	/* One by its key, one by its object, one not at all. */
	int size = snprintf(names, sizeof names, "{\"key\": \"%s\",\n\"x\":%s}", keys[0].hex,
	                    objects[1].hex);
	assert_true(temp_folder_write(folder, "names", names, (size_t)size, &err));
	assert_true(join_path(path, sizeof path, folder, "names", &err));
	assert_true(census_take(&census, &store, &err));
	assert_int_equal(census.object_count, 3);
	assert_int_equal(census.result_count, 3);
	assert_string_equal(census_result(&census, &keys[2])->tool, "count");
	assert_true(mark_named(&census, path, &err));
	mark_related(&census);
	const struct collect_limits young = { .before = time(NULL) - 60,
		.most_bytes = UINT64_MAX, .fresh = time(NULL) - 60 };
	assert_true(collect_store(&census, &store, &young, &done, &err));
	assert_int_equal(done.objects + done.results, 0);
	const struct collect_limits any = { .before = time(NULL) + 60,
		.most_bytes = UINT64_MAX, .fresh = 0 };
	assert_true(collect_store(&census, &store, &any, &done, &err));
	assert_int_equal(done.objects, 1);
	assert_int_equal(done.results, 1);
	census_free(&census);
	assert_true(census_take(&census, &store, &err));
	assert_int_equal(census.object_count, 2);
	assert_null(census_object(&census, &objects[2]));
	assert_null(census_result(&census, &keys[2]));
	census_free(&census);
}

static void size_takes_unused_ones_only(void **state)
{
	(void)state;
	struct digest keys[3], objects[3];
	struct census census;
	struct collected done = { 0 };
	error err;
	for (int i = 0; i < 3; i++)
		publish(i, &keys[i], &objects[i]);
	assert_true(census_take(&census, &store, &err));
	census_object(&census, &objects[0])->used = true;
	struct collect_limits limits = { .before = 0, .most_bytes = 2 * strlen("object 0"),
		.fresh = time(NULL) + 60 };
	assert_true(collect_store(&census, &store, &limits, &done, &err));
	assert_int_equal(done.objects, 1);
	limits.most_bytes = 0;
	assert_true(collect_store(&census, &store, &limits, &done, &err));
	assert_int_equal(look(&objects[0], true), OBJECT_WHOLE);
	assert_int_equal(look(&objects[1], true), OBJECT_ABSENT);
	assert_int_equal(look(&objects[2], true), OBJECT_ABSENT);
	census_free(&census);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(edits_are_noticed, make, clean),
		cmocka_unit_test_setup_teardown(rot_is_found_by_reading, make, clean),
		cmocka_unit_test_setup_teardown(named_ones_stay, make, clean),
		cmocka_unit_test_setup_teardown(size_takes_unused_ones_only, make, clean),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
