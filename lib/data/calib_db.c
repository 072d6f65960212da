/* Reading a calibration DB; see samples.h.
 *
 * The DB is an input, known by the digest of its one file, so it is opened as
 * immutable: no locks, no side files, and a folder without write permission will
 * do. Rows that still sit in a journal beside the file are not in that digest; a
 * DB that has one is refused. */
#include <errno.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/file.h"
#include "lib/base/text.h"
#include "lib/data/sample_rows.h"

static const char query[] =
	"SELECT id, caption, image_relpath FROM vlm_calib_samples ORDER BY id";

enum { COLUMN_ID, COLUMN_CAPTION, COLUMN_IMAGE };

/* A DB being read. */
struct calib_db {
	const char *path;
	sqlite3 *db;
	sqlite3_stmt *rows;
	size_t capacity; /* of the list's rows */
};

static bool fail_sqlite(const struct calib_db *d, const char *doing, error *err)
{
	int code = sqlite3_errcode(d->db) & 0xFF;
	bool environment = code == SQLITE_NOMEM || code == SQLITE_IOERR ||
	                   code == SQLITE_PERM || code == SQLITE_CANTOPEN;
	return fail(err, environment ? EXIT_ENVIRONMENT : EXIT_BAD_INPUT, "%s: %s: %s",
	            d->path, doing, sqlite3_errmsg(d->db));
}

/* Refuses what is no file, and a DB with a journal that holds anything. `real` is
 * the path with links followed, since SQLite puts journals there. */
static bool check_files(const char *path, const char *real, error *err)
{
	static const char *const suffixes[] = { "-wal", "-journal" };
	struct stat st;
	if (stat(real, &st) != 0)
		return fail_errno(err, errno, "%s: cannot stat", path);
	if (!S_ISREG(st.st_mode))
		return fail(err, EXIT_BAD_INPUT, "%s: expected a SQLite file", path);
	for (int i = 0; i < 2; i++) {
		char journal[PATH_MAX + 16];
		snprintf(journal, sizeof journal, "%s%s", real, suffixes[i]);
		if (stat(journal, &st) == 0 && st.st_size > 0)
			return fail(err, EXIT_BAD_INPUT,
			            "%s: expected a closed DB, found %s with %lld bytes that are "
			            "not in it yet (reading it once with sqlite3 settles them)",
			            path, journal, (long long)st.st_size);
	}
	return true;
}

/* file:///path?immutable=1 with the characters that a URI reserves escaped. */
static bool make_uri(text *uri, const char *real, error *err)
{
	text_puts(uri, "file://");
	for (const char *c = real; *c; c++) {
		if (*c == '?' || *c == '#' || *c == '%')
			text_printf(uri, "%%%02X", (unsigned)*c);
		else
			text_add(uri, c, 1);
	}
	text_puts(uri, "?immutable=1");
	return text_ok(uri, err);
}

static bool open_db(struct calib_db *d, const char *real, error *err)
{
	text uri = { 0 };
	int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX;
	bool ok = make_uri(&uri, real, err);
	if (ok && sqlite3_open_v2(uri.data, &d->db, flags, NULL) != SQLITE_OK)
		ok = fail_sqlite(d, "cannot open", err);
	text_free(&uri);
	if (!ok)
		return false;
	/* The file may come from anywhere: its schema gets no say beyond its rows. */
	sqlite3_db_config(d->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	if (sqlite3_prepare_v2(d->db, query, -1, &d->rows, NULL) != SQLITE_OK)
		return fail_sqlite(d, "expected a SQLite DB with a table vlm_calib_samples"
		                      "(id, image_relpath, caption)", err);
	return true;
}

/* The text of a column, which has to be one. */
static bool take_text(const struct calib_db *d, int column, long long id,
                      const char **out, size_t *length, error *err)
{
	const char *name = sqlite3_column_name(d->rows, column), *fault = NULL;
	int type = sqlite3_column_type(d->rows, column);
	if (type == SQLITE_NULL)
		fault = "NULL";
	else if (type != SQLITE_TEXT)
		fault = "another type";
	if (fault)
		return fail(err, EXIT_BAD_INPUT,
		            "%s: vlm_calib_samples id %lld: %s: expected a text, found %s",
		            d->path, id, name, fault);
	*out = (const char *)sqlite3_column_text(d->rows, column);
	*length = (size_t)sqlite3_column_bytes(d->rows, column);
	if (!*out)
		return fail_memory(err, d->path, *length);
	if (memchr(*out, '\0', *length))
		return fail(err, EXIT_BAD_INPUT,
		            "%s: vlm_calib_samples id %lld: %s: found a NUL byte", d->path, id,
		            name);
	return true;
}

static bool take_row(struct calib_db *d, struct sample_list *list, long long id,
                     error *err)
{
	struct row_text row;
	if (!take_text(d, COLUMN_CAPTION, id, &row.caption, &row.caption_length, err) ||
	    !take_text(d, COLUMN_IMAGE, id, &row.image, &row.image_length, err))
		return false;
	const char *fault = image_path_fault(row.image, row.image_length);
	if (fault)
		return fail(err, EXIT_BAD_INPUT,
		            "%s: vlm_calib_samples id %lld: the image path \"%.200s\" %s",
		            d->path, id, row.image, fault);
	return push_row(list, &d->capacity, row, err);
}

/* Ids have to differ, or the order of the rows would be SQLite's whim. */
static bool take_id(const struct calib_db *d, size_t row, long long *id, error *err)
{
	long long previous = *id;
	*id = sqlite3_column_int64(d->rows, COLUMN_ID);
	if (sqlite3_column_type(d->rows, COLUMN_ID) == SQLITE_INTEGER &&
	    (row == 0 || *id > previous))
		return true;
	return fail(err, EXIT_BAD_INPUT,
	            "%s: vlm_calib_samples row %zu by id: expected an integer id of its own",
	            d->path, row + 1);
}

static bool take_rows(struct calib_db *d, struct sample_list *list, size_t first,
                      size_t count, error *err)
{
	long long id = 0;
	size_t row = 0;
	int step;
	for (; (step = sqlite3_step(d->rows)) == SQLITE_ROW; row++) {
		if (!take_id(d, row, &id, err))
			return false;
		if (row < first)
			continue;
		if (row - first >= count)
			return true;
		if (!take_row(d, list, id, err))
			return false;
	}
	if (step != SQLITE_DONE)
		return fail_sqlite(d, "cannot read vlm_calib_samples", err);
	return row > 0 || fail(err, EXIT_BAD_INPUT,
	                       "%s: expected rows in vlm_calib_samples, found none", d->path);
}

bool calib_db_load(struct sample_list *list, const char *path, size_t first,
                   size_t count, error *err)
{
	struct calib_db d = { .path = path };
	*list = (struct sample_list){ 0 };
	char *real = realpath(path, NULL);
	if (!real)
		return fail_errno(err, errno, "%s: cannot open", path);
	bool ok = check_files(path, real, err) && open_db(&d, real, err) &&
	          take_rows(&d, list, first, count, err);
	sqlite3_finalize(d.rows);
	sqlite3_close(d.db);
	free(real);
	if (!ok)
		sample_list_free(list);
	return ok;
}
