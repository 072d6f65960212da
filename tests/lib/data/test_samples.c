/* Sample sources: the project's own and, where it is, the real calibration DB;
 * slices of them; and every way in which one can be wrong. */
#include "lib/data/samples.h"

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/file.h"
#include "tests/support/expect_error.h"
#include "tests/support/shared_data.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

static char folder[PATH_BYTES];

static int make_folder(void **state)
{
	(void)state;
	error err;
	return temp_folder_make(folder, &err) ? 0 : -1;
}

static int remove_folder(void **state)
{
	(void)state;
	temp_folder_remove(folder);
	return 0;
}

/* folder/name in a buffer that the next call overwrites. */
static const char *path_of(const char *name)
{
	static char path[PATH_BYTES];
	error err;
	assert_true(join_path(path, sizeof path, folder, name, &err));
	return path;
}

static const char *write_bytes_to(const char *name, const char *bytes, size_t size)
{
	error err;
	if (!temp_folder_write(folder, name, bytes, size, &err))
		fail_msg("%s", err.text);
	return path_of(name);
}

typedef bool load(struct sample_list *list, const char *path, size_t first, size_t count,
                  error *err);

static void assert_refused(load *source, const char *path, const char *place,
                           const char *message)
{
	struct sample_list list;
	error err;
	if (source(&list, path, 0, SIZE_MAX, &err))
		fail_msg("%s: expected to be refused with \"%s\"", path, message);
	expect_error(&err, EXIT_BAD_INPUT, path, place, message, NULL);
	assert_null(list.rows);
	assert_null(list.memory.newest);
}

static struct sample_list load_or_fail(load *source, const char *path, size_t first,
                                       size_t count)
{
	struct sample_list list;
	error err;
	if (!source(&list, path, first, count, &err))
		fail_msg("%s", err.text);
	return list;
}

/* ---- Captions ---- */

static void reads_the_demo_captions(void **state)
{
	(void)state;
	struct sample_list all = load_or_fail(captions_load, "demo/demo_captions.txt", 0,
	                                      SIZE_MAX);
	assert_int_equal(all.count, 512);
	assert_string_equal(all.rows[0].caption,
	                    "A big purple star on the right against a pink background.");
	assert_null(all.rows[0].image);
	struct sample_list part = load_or_fail(captions_load, "demo/demo_captions.txt", 500,
	                                       16);
	assert_int_equal(part.count, 12);
	for (size_t i = 0; i < part.count; i++)
		assert_string_equal(part.rows[i].caption, all.rows[500 + i].caption);
	sample_list_free(&part);
	part = load_or_fail(captions_load, "demo/demo_captions.txt", 512, 4);
	assert_int_equal(part.count, 0);
	sample_list_free(&part);
	sample_list_free(&all);
}

static void captions_are_what_stands_on_a_line(void **state)
{
	(void)state;
	static const char text[] = "\xEF\xBB\xBF one \r\n\r\n \t \ntwo\xFF\n\nthree";
	static const char *const expected[] = { " one ", "two\xFF", "three" };
	const char *path = write_bytes_to("captions.txt", text, sizeof text - 1);
	struct sample_list list = load_or_fail(captions_load, path, 0, SIZE_MAX);
	assert_int_equal(list.count, 3);
	for (int i = 0; i < 3; i++)
		assert_string_equal(list.rows[i].caption, expected[i]);
	sample_list_free(&list);
	list = load_or_fail(captions_load, path, 1, 1);
	assert_int_equal(list.count, 1);
	assert_string_equal(list.rows[0].caption, expected[1]);
	sample_list_free(&list);
}

static void refuses_bad_captions(void **state)
{
	(void)state;
	assert_refused(captions_load, write_bytes_to("c.txt", "", 0), "", "found none");
	assert_refused(captions_load, write_bytes_to("c.txt", "\n \r\n\t\n", 6), "",
	               "found none");
	assert_refused(captions_load, write_bytes_to("c.txt", "a b\n\nc\0d\n", 9), ":3: ",
	               "NUL byte");
	assert_refused(captions_load, path_of("none.txt"), "", "No such file");
	assert_refused(captions_load, folder, "", "folder");
}

/* ---- Evaluation lists ---- */

static void reads_the_demo_evaluation_list(void **state)
{
	(void)state;
	struct sample_list list = load_or_fail(eval_list_load, "demo/demo_vlm_eval.jsonl", 1,
	                                       100);
	assert_int_equal(list.count, 15);
	assert_string_equal(list.rows[0].image, "images/scene_065.jpg");
	assert_string_equal(list.rows[0].caption, "Three small orange triangles on the right "
	                                          "against a cyan background.");
	sample_list_free(&list);
}

static void refuses_bad_evaluation_lists(void **state)
{
	(void)state;
	static const struct {
		const char *line, *place, *message;
	} cases[] = {
		{ "{\"image_relpath\": \"a.png\"}", ":2:1:1: ", "caption" },
		{ "{\"caption\": \"x\"}", ":2:1:1: ", "image_relpath" },
		{ "{\"caption\": null, \"image_relpath\": \"a\"}", ":2:1:2: caption", "a text" },
		{ "{\"caption\": \"x\", \"image_relpath\": 3}", ":2:1:18: ", "a text" },
		{ "{\"caption\": \"x\", \"image_relpath\": \"/a\"}", ":2:1:18: ", "is absolute" },
		{ "{\"caption\": \"x\", \"image_relpath\": \"a/../b\"}", ":2:1:18: ", "leads out" },
		{ "{\"caption\": \"x\", \"image_relpath\": \"\"}", ":2:1:18: ", "is empty" },
		{ "{\"caption\": \"x\"", ":2:1:", "" },
		{ "x", ":2:1:1: ", "" },
		{ "[]", ":2:1:1: ", "" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char text[256];
		int size = snprintf(text, sizeof text,
		                    "{\"caption\": \"ok\", \"image_relpath\": \"..a/b..\"}\n%s\n",
		                    cases[i].line);
		assert_refused(eval_list_load, write_bytes_to("e.jsonl", text, (size_t)size),
		               cases[i].place, cases[i].message);
	}
	assert_refused(eval_list_load, write_bytes_to("e.jsonl", "\n", 1), "", "found none");
}

/* ---- Calibration DBs ---- */

static const char good_table[] =
	"CREATE TABLE vlm_calib_samples (id INTEGER PRIMARY KEY, split TEXT, image_relpath, "
	"image_id INTEGER, caption_id INTEGER, caption);";

/* Makes the DB `name` with these statements. */
static const char *make_db(const char *name, const char *first, const char *second)
{
	sqlite3 *db;
	const char *path = path_of(name);
	char *message = NULL;
	unlink(path);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, first, NULL, NULL, &message) != SQLITE_OK ||
	    sqlite3_exec(db, second, NULL, NULL, &message) != SQLITE_OK)
		fail_msg("%s", message);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	return path;
}

static void reads_the_demo_db(void **state)
{
	(void)state;
	struct sample_list list = load_or_fail(calib_db_load, "demo/demo_vlm_calib.db", 0,
	                                       SIZE_MAX);
	assert_int_equal(list.count, 64);
	assert_string_equal(list.rows[0].image, "images/scene_000.jpg");
	assert_string_equal(list.rows[63].image, "images/scene_063.png");
	struct sample_list part = load_or_fail(calib_db_load, "demo/demo_vlm_calib.db", 60, 9);
	assert_int_equal(part.count, 4);
	for (size_t i = 0; i < part.count; i++)
		assert_string_equal(part.rows[i].caption, list.rows[60 + i].caption);
	sample_list_free(&part);
	part = load_or_fail(calib_db_load, "demo/demo_vlm_calib.db", 3, 1);
	assert_int_equal(part.count, 1);
	assert_string_equal(part.rows[0].image, "images/scene_003.jpg");
	sample_list_free(&part);
	sample_list_free(&list);
}

static void reads_the_real_db(void **state)
{
	(void)state;
	char path[PATH_BYTES];
	if (!find_shared(path, "fixtures/coco2017/coco2017_vlm_calib.db", "reads_the_real_db"))
		skip();
	struct sample_list list = load_or_fail(calib_db_load, path, 0, SIZE_MAX);
	assert_int_equal(list.count, 8192);
	for (size_t i = 0; i < list.count; i++)
		assert_non_null(strstr(list.rows[i].image, "2017/"));
	sample_list_free(&list);
}

static void rows_come_in_the_order_of_ids(void **state)
{
	(void)state;
	static const char table[] =
		"CREATE TABLE vlm_calib_samples (id INTEGER, split, image_relpath, image_id, "
		"caption_id, caption);";
	const char *path = make_db("order ?#%41.db", table,
	                           "INSERT INTO vlm_calib_samples VALUES"
	                           " (7, 's', 'c', 1, 1, 'third'), (-2, 's', 'a', 1, 1, ''),"
	                           " (5, 's', 'b/..c', 1, 1, 'second ');");
	struct sample_list list = load_or_fail(calib_db_load, path, 0, SIZE_MAX);
	assert_int_equal(list.count, 3);
	assert_string_equal(list.rows[0].caption, "");
	assert_string_equal(list.rows[1].caption, "second ");
	assert_string_equal(list.rows[1].image, "b/..c");
	assert_string_equal(list.rows[2].caption, "third");
	sample_list_free(&list);
}

/* A folder without write permission, and a DB last used in WAL mode. */
static void reads_what_cannot_be_written(void **state)
{
	(void)state;
	assert_int_equal(mkdir(path_of("read_only"), 0700), 0);
	const char *path = make_db("read_only/wal.db", "PRAGMA journal_mode = WAL;",
	                           good_table);
	sqlite3 *db;
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "INSERT INTO vlm_calib_samples VALUES"
	                                  " (1, 's', 'a', 1, 1, 'x y');",
	                              NULL, NULL, NULL), SQLITE_OK);
	assert_refused(calib_db_load, path, "wal.db-wal", "not in it yet");
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	assert_int_equal(chmod(path_of("read_only"), 0500), 0);
	path = path_of("read_only/wal.db");
	struct sample_list list = load_or_fail(calib_db_load, path, 0, 10);
	assert_int_equal(list.count, 1);
	sample_list_free(&list);
	assert_false(file_exists(path_of("read_only/wal.db-wal")));
	assert_false(file_exists(path_of("read_only/wal.db-shm")));
}

static void refuses_bad_rows(void **state)
{
	(void)state;
	static const struct {
		const char *values, *place, *message;
	} cases[] = {
		{ "(2, 's', 'a', 1, 1, NULL)", "id 2: caption", "found NULL" },
		{ "(2, 's', NULL, 1, 1, 'x')", "id 2: image_relpath", "found NULL" },
		{ "(2, 's', 'a', 1, 1, 17)", "id 2: caption", "another type" },
		{ "(2, 's', 'a', 1, 1, x'6161')", "id 2: caption", "another type" },
		{ "(2, 's', 'a', 1, 1, CAST(x'610061' AS TEXT))", "id 2: caption", "NUL byte" },
		{ "(2, 's', '/etc/a', 1, 1, 'x')", "id 2: ", "\"/etc/a\" is absolute" },
		{ "(2, 's', '../a', 1, 1, 'x')", "id 2: ", "leads out of the image root" },
		{ "(2, 's', 'a/..', 1, 1, 'x')", "id 2: ", "leads out of the image root" },
		{ "(2, 's', '..', 1, 1, 'x')", "id 2: ", "leads out of the image root" },
		{ "(2, 's', 'a//../b', 1, 1, 'x')", "id 2: ", "leads out of the image root" },
		{ "(2, 's', '', 1, 1, 'x')", "id 2: ", "is empty" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char insert[256];
		snprintf(insert, sizeof insert, "INSERT INTO vlm_calib_samples VALUES"
		         " (1, 's', 'a', 1, 1, 'x'), %s;", cases[i].values);
		assert_refused(calib_db_load, make_db("rows.db", good_table, insert),
		               cases[i].place, cases[i].message);
	}
}

static void refuses_bad_tables(void **state)
{
	(void)state;
	static const struct {
		const char *table, *rows, *message;
	} cases[] = {
		{ good_table, "", "expected rows in vlm_calib_samples, found none" },
		{ "CREATE TABLE meta (key, value);", "", "no such table: vlm_calib_samples" },
		{ "CREATE TABLE vlm_calib_samples (id, caption);", "",
		  "no such column: image_relpath" },
		{ "CREATE TABLE vlm_calib_samples (id, image_relpath);", "",
		  "no such column: caption" },
		{ "CREATE TABLE vlm_calib_samples (caption, image_relpath);", "",
		  "no such column: id" },
		{ "CREATE TABLE vlm_calib_samples (id, caption, image_relpath);",
		  "INSERT INTO vlm_calib_samples VALUES (1, 'x', 'a'), (1, 'y', 'b');",
		  "row 2 by id: expected an integer id of its own" },
		{ "CREATE TABLE vlm_calib_samples (id, caption, image_relpath);",
		  "INSERT INTO vlm_calib_samples VALUES (NULL, 'x', 'a');",
		  "row 1 by id: expected an integer id of its own" },
		{ "CREATE TABLE vlm_calib_samples (id, caption, image_relpath);",
		  "INSERT INTO vlm_calib_samples VALUES (1, 'x', 'a'), ('2', 'x', 'a');",
		  "row 2 by id: expected an integer id of its own" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_refused(calib_db_load,
		               make_db("table.db", cases[i].table, cases[i].rows), "",
		               cases[i].message);
}

static void refuses_what_is_no_db(void **state)
{
	(void)state;
	char *bytes;
	size_t size;
	error err;
	assert_refused(calib_db_load, path_of("none.db"), "", "No such file");
	assert_refused(calib_db_load, folder, "", "expected a SQLite file");
	assert_refused(calib_db_load, write_bytes_to("x.db", "", 0), "", "no such table");
	assert_refused(calib_db_load, "demo/demo_captions.txt", "", "not a database");
	assert_true(read_file("demo/demo_vlm_calib.db", 1 << 20, &bytes, &size, &err));
	assert_refused(calib_db_load, write_bytes_to("x.db", bytes, size / 2), "",
	               "malformed");
	free(bytes);
	unlink(path_of("x.db"));
	const char *path = make_db("x.db", good_table, "");
	write_bytes_to("x.db-journal", "unfinished", 10);
	path = path_of("x.db");
	assert_refused(calib_db_load, path, "x.db-journal", "not in it yet");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_the_demo_captions),
		cmocka_unit_test(captions_are_what_stands_on_a_line),
		cmocka_unit_test(refuses_bad_captions),
		cmocka_unit_test(reads_the_demo_evaluation_list),
		cmocka_unit_test(refuses_bad_evaluation_lists),
		cmocka_unit_test(reads_the_demo_db),
		cmocka_unit_test(reads_the_real_db),
		cmocka_unit_test(rows_come_in_the_order_of_ids),
		cmocka_unit_test(reads_what_cannot_be_written),
		cmocka_unit_test(refuses_bad_rows),
		cmocka_unit_test(refuses_bad_tables),
		cmocka_unit_test(refuses_what_is_no_db),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
