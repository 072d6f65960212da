/* The memo of input digests in SQLite; see memo.h. */
#include "lib/artifact/memo.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/artifact/disk.h"
#include "lib/base/file.h"
#include "lib/base/parallel.h"

enum { BUSY_MILLISECONDS = 2000, MAX_HASHINGS = 3 };

/* The table's name is its version: another layout takes another name. */
static const char CREATE[] =
	"CREATE TABLE IF NOT EXISTS memo_1 (device INTEGER, inode INTEGER, size INTEGER, "
	"mtime INTEGER, ctime INTEGER, digest TEXT, seal TEXT, "
	"PRIMARY KEY (device, inode)) WITHOUT ROWID";
static const char FIND[] =
	"SELECT size, mtime, ctime, digest, seal FROM memo_1 "
	"WHERE device = ? AND inode = ?";
static const char KEEP[] =
	"INSERT OR REPLACE INTO memo_1 VALUES (?, ?, ?, ?, ?, ?, ?)";

struct memo {
	pthread_mutex_t mutex; /* around everything below; hashing is outside */
	sqlite3 *db;           /* NULL: no file could be had, nothing is known */
	sqlite3_stmt *find, *keep;
	ino_t inode;           /* of the file that db has open */
	bool holding;          /* one reading is open; see memo_hold */
	struct memo_counts counts;
	char path[PATH_BYTES];
};

/* What tells one state of a file from another. Times in nanoseconds. */
struct identity {
	int64_t device, inode, size, mtime, ctime;
};

static int64_t nanoseconds(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static struct identity identify(const struct stat *st)
{
	return (struct identity){
		.device = (int64_t)st->st_dev,
		.inode = (int64_t)st->st_ino,
		.size = st->st_size,
		.mtime = nanoseconds(st->st_mtim),
		.ctime = nanoseconds(st->st_ctim),
	};
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool same_state(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && same_time(a->st_mtim, b->st_mtim) &&
	       same_time(a->st_ctim, b->st_ctim);
}

/* Old enough that any later change must move it; and not so old (before 1678) that
 * nanoseconds in an identity would overflow. */
static bool is_settled(struct timespec t, struct timespec now)
{
	return t.tv_sec > INT64_MIN / 1000000000 + 1 &&
	       (t.tv_sec < now.tv_sec - MEMO_MIN_AGE_SECONDS ||
	        (t.tv_sec == now.tv_sec - MEMO_MIN_AGE_SECONDS && t.tv_nsec <= now.tv_nsec));
}

static bool seal_row(const struct identity *id, const char *digest, struct digest *out)
{
	char row[256];
	error unused;
	int length = snprintf(row, sizeof row,
	                      "%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64
	                      " %s", id->device, id->inode, id->size, id->mtime, id->ctime,
	                      digest);
	return length > 0 && (size_t)length < sizeof row &&
	       digest_bytes(row, (size_t)length, out, &unused);
}

static void close_db(struct memo *m)
{
	m->holding = false;
	sqlite3_finalize(m->find);
	sqlite3_finalize(m->keep);
	sqlite3_close(m->db);
	m->db = NULL;
	m->find = m->keep = NULL;
}

static int prepare(struct memo *m, const char *sql, sqlite3_stmt **out)
{
	return sqlite3_prepare_v3(m->db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL);
}

/* Opens the file and readies the statements. An SQLite code. */
static int open_db(struct memo *m)
{
	struct stat st;
	int code = sqlite3_open_v2(m->path, &m->db,
	                           SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
	                           SQLITE_OPEN_NOMUTEX, NULL);
	if (code != SQLITE_OK)
		return code;
	m->inode = stat(m->path, &st) == 0 ? st.st_ino : 0;
	sqlite3_busy_timeout(m->db, BUSY_MILLISECONDS);
	/* No syncs: what a power cut damages is noticed and hashed again. */
	code = sqlite3_exec(m->db, "PRAGMA synchronous = OFF", NULL, NULL, NULL);
	if (code == SQLITE_OK)
		code = prepare(m, FIND, &m->find);
	/* No write-ahead log: most openings only read, and would make and remove its two
	 * files each time. */
	if (code == SQLITE_ERROR) { /* no such table: a new file */
		code = sqlite3_exec(m->db, CREATE, NULL, NULL, NULL);
		if (code == SQLITE_OK)
			code = prepare(m, FIND, &m->find);
	}
	if (code != SQLITE_OK)
		return code;
	/* Damage in the header can make SQLite believe that it may only read. */
	if (sqlite3_db_readonly(m->db, "main") == 1 && access(m->path, W_OK) == 0)
		return SQLITE_CORRUPT;
	return prepare(m, KEEP, &m->keep);
}

/* Does the code speak of the file's content, rather than of the world around? */
static bool means_damage(int code)
{
	return code == SQLITE_CORRUPT || code == SQLITE_NOTADB || code == SQLITE_ERROR ||
	       code == SQLITE_FORMAT || code == SQLITE_MISMATCH;
}

/* Moves the damaged file aside, its journal first: a new file must not meet an
 * old journal. Not if another process has done so since. */
static void move_aside(struct memo *m)
{
	static const char *const journals[] = { "-journal", "-wal", "-shm" };
	char other[PATH_BYTES + 16];
	struct stat st;
	if (stat(m->path, &st) != 0 || st.st_ino != m->inode)
		return;
	for (size_t i = 0; i < sizeof journals / sizeof journals[0]; i++) {
		snprintf(other, sizeof other, "%s%s", m->path, journals[i]);
		disk_unlink(other);
	}
	snprintf(other, sizeof other, "%s.damaged", m->path);
	disk_rename(m->path, other);
}

static int open_or_start_over(struct memo *m)
{
	int code = open_db(m);
	if (means_damage(code)) {
		close_db(m);
		move_aside(m);
		code = open_db(m);
	}
	if (code != SQLITE_BUSY)
		return code;
	/* Somebody sits on the file. Hashing is slower than knowing, but right. */
	close_db(m);
	return SQLITE_OK;
}

/* After a statement failed. If the file is damaged a new one is begun; if that
 * does not work either, the memo goes on without a file and knows nothing. */
static void mend(struct memo *m, int code)
{
	if (!means_damage(code))
		return;
	close_db(m);
	move_aside(m);
	if (open_db(m) != SQLITE_OK)
		close_db(m);
}

static bool make_parent(const char *path, error *err)
{
	char folder[PATH_BYTES];
	size_t start = last_name(path);
	if (start < 2)
		return true;
	memcpy(folder, path, start);
	folder[start - 1] = '\0';
	int result = disk_make_folders(folder);
	return result == 0 || fail_disk(err, result, folder, "make the folder");
}

struct memo *memo_open(const char *path, error *err)
{
	struct memo *m = calloc(1, sizeof *m);
	if (!m) {
		fail_memory(err, path, sizeof *m);
		return NULL;
	}
	size_t length = strlen(path);
	if (length >= sizeof m->path) {
		fail_disk(err, -ENAMETOOLONG, path, "open the memo");
		free(m);
		return NULL;
	}
	memcpy(m->path, path, length + 1);
	pthread_mutex_init(&m->mutex, NULL);
	if (!make_parent(path, err)) {
		memo_close(m);
		return NULL;
	}
	int code = open_or_start_over(m);
	if (code != SQLITE_OK) {
		fail(err, EXIT_ENVIRONMENT, "%s: cannot open the memo of digests: %s", path,
		     m->db ? sqlite3_errmsg(m->db) : sqlite3_errstr(code));
		memo_close(m);
		return NULL;
	}
	return m;
}

/* A failed BEGIN or COMMIT costs time, nothing else. */
void memo_hold(struct memo *m)
{
	pthread_mutex_lock(&m->mutex);
	m->holding = m->db && sqlite3_exec(m->db, "BEGIN", NULL, NULL, NULL) == SQLITE_OK;
	pthread_mutex_unlock(&m->mutex);
}

static void let_go(struct memo *m)
{
	pthread_mutex_lock(&m->mutex);
	if (m->holding)
		sqlite3_exec(m->db, "COMMIT", NULL, NULL, NULL);
	m->holding = false;
	pthread_mutex_unlock(&m->mutex);
}

void memo_close(struct memo *m)
{
	if (!m)
		return;
	close_db(m);
	pthread_mutex_destroy(&m->mutex);
	free(m);
}

/* Does the row under the statement's cursor speak of this very state of the
 * file, and is it as it was written? */
static bool accept_row(sqlite3_stmt *row, const struct identity *id, struct digest *out)
{
	struct digest seal, expected;
	const char *digest = (const char *)sqlite3_column_text(row, 3);
	const char *sealed = (const char *)sqlite3_column_text(row, 4);
	return sqlite3_column_int64(row, 0) == id->size &&
	       sqlite3_column_int64(row, 1) == id->mtime &&
	       sqlite3_column_int64(row, 2) == id->ctime && digest && sealed &&
	       digest_parse(digest, strlen(digest), out) &&
	       digest_parse(sealed, strlen(sealed), &seal) &&
	       seal_row(id, out->hex, &expected) && digest_equal(&seal, &expected);
}

static bool recall(struct memo *m, const struct identity *id, struct digest *out)
{
	bool known = false;
	pthread_mutex_lock(&m->mutex);
	if (m->db) {
		sqlite3_bind_int64(m->find, 1, id->device);
		sqlite3_bind_int64(m->find, 2, id->inode);
		int code = sqlite3_step(m->find);
		known = code == SQLITE_ROW && accept_row(m->find, id, out);
		sqlite3_reset(m->find);
		mend(m, code);
	}
	m->counts.files_known += known;
	pthread_mutex_unlock(&m->mutex);
	return known;
}

/* A row that cannot be kept (disk full, another process writing for too long)
 * costs hashing the file again next time, nothing else. */
static void remember(struct memo *m, const struct identity *id, const struct digest *d)
{
	struct digest seal;
	if (!seal_row(id, d->hex, &seal))
		return;
	pthread_mutex_lock(&m->mutex);
	if (m->db) {
		sqlite3_bind_int64(m->keep, 1, id->device);
		sqlite3_bind_int64(m->keep, 2, id->inode);
		sqlite3_bind_int64(m->keep, 3, id->size);
		sqlite3_bind_int64(m->keep, 4, id->mtime);
		sqlite3_bind_int64(m->keep, 5, id->ctime);
		sqlite3_bind_text(m->keep, 6, d->hex, DIGEST_HEX, SQLITE_STATIC);
		sqlite3_bind_text(m->keep, 7, seal.hex, DIGEST_HEX, SQLITE_STATIC);
		int code = sqlite3_step(m->keep);
		sqlite3_reset(m->keep);
		mend(m, code);
	}
	pthread_mutex_unlock(&m->mutex);
}

static void count_hashing(struct memo *m, uint64_t bytes)
{
	pthread_mutex_lock(&m->mutex);
	m->counts.files_hashed++;
	m->counts.bytes_hashed += bytes;
	pthread_mutex_unlock(&m->mutex);
}

static bool look(int fd, const char *path, struct stat *st, error *err)
{
	return fstat(fd, st) == 0 || fail_errno(err, errno, "%s: cannot stat", path);
}

/* What the memo says of the open file's state now; *id is empty when that is too young
 * to be believed or remembered. */
static bool find_open(struct memo *m, int fd, const char *path, struct stat *now_st,
                      struct identity *id, struct digest *out, bool *known, error *err)
{
	struct timespec now;
	*known = false;
	*id = (struct identity){ 0 };
	clock_gettime(CLOCK_REALTIME, &now);
	if (!look(fd, path, now_st, err))
		return false;
	if (is_settled(now_st->st_mtim, now) && is_settled(now_st->st_ctim, now)) {
		*id = identify(now_st);
		*known = recall(m, id, out);
	}
	return true;
}

/* Finds or computes the digest. *stable is false if the file changed while it
 * was read. */
static bool digest_open(struct memo *m, int fd, const char *path, struct digest *out,
                        bool *stable, error *err)
{
	struct stat before, after;
	struct identity id;
	uint64_t bytes;
	if (!find_open(m, fd, path, &before, &id, out, stable, err))
		return false;
	if (*stable)
		return true;
	let_go(m);
	if (!digest_descriptor(fd, path, out, &bytes, err) || !look(fd, path, &after, err))
		return false;
	count_hashing(m, bytes);
	*stable = same_state(&before, &after);
	if (*stable && id.inode)
		remember(m, &id, out);
	return true;
}

/* Opening, rather than a stat by name, makes a network file system ask its server for
 * the times. */
static int open_input(const char *path, error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		fail_errno(err, errno, "%s: cannot open", path);
	return fd;
}

bool memo_digest(struct memo *m, const char *path, struct digest *out, error *err)
{
	for (int i = 0; i < MAX_HASHINGS; i++) {
		int fd = open_input(path, err);
		if (fd < 0)
			return false;
		bool stable = false;
		bool ok = digest_open(m, fd, path, out, &stable, err);
		close(fd);
		if (!ok || stable)
			return ok;
	}
	return fail(err, EXIT_BAD_INPUT,
	            "%s: expected a file at rest, found it changing while it was read "
	            "(%d times)", path, MAX_HASHINGS);
}

/* ---- many files ---- */

struct digesting {
	struct memo *memo;
	struct memo_file **unknown;
};

/* A file that cannot be read has no digest; whoever asks says so. */
static bool digest_one(void *self, int thread, int index, error *err)
{
	const struct digesting *work = self;
	struct memo_file *file = work->unknown[index];
	(void)thread;
	file->readable = memo_digest(work->memo, file->path, &file->digest, err);
	return file->readable || err->code == EXIT_BAD_INPUT;
}

static bool is_known(struct memo *m, struct memo_file *file)
{
	struct stat st;
	struct identity id;
	error unused;
	int fd = open_input(file->path, &unused);
	bool known = false;
	if (fd >= 0) {
		find_open(m, fd, file->path, &st, &id, &file->digest, &known, &unused);
		close(fd);
	}
	return known;
}

bool memo_digest_many(struct memo *m, struct memo_file *files, int count, error *err)
{
	struct digesting work = { .memo = m };
	int unknown = 0;
	work.unknown = malloc((size_t)(count + 1) * sizeof *work.unknown);
	if (!work.unknown)
		return fail_memory(err, "files to digest", (size_t)count * sizeof *work.unknown);
	for (int i = 0; i < count; i++) {
		files[i].readable = is_known(m, &files[i]);
		if (!files[i].readable)
			work.unknown[unknown++] = &files[i];
	}
	long cores = unknown > 1 ? sysconf(_SC_NPROCESSORS_ONLN) : 1;
	bool ok = !unknown || parallel_run(cores < unknown ? (int)cores : unknown, unknown,
	                                   &work, digest_one, err);
	free(work.unknown);
	return ok;
}

bool memo_check(struct memo *m, const char *path, const struct digest *expected,
                error *err)
{
	struct digest found;
	if (!memo_digest(m, path, &found, err))
		return false;
	return digest_equal(&found, expected) ||
	       fail(err, EXIT_BAD_INPUT,
	            "%s: changed while it was used: its digest was %s, now it is %s", path,
	            expected->hex, found.hex);
}

struct memo_counts memo_counts(struct memo *m)
{
	pthread_mutex_lock(&m->mutex);
	struct memo_counts counts = m->counts;
	pthread_mutex_unlock(&m->mutex);
	return counts;
}
