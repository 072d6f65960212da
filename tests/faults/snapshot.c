/* Snapshots of a build tree; see snapshot.h. */
#include "tests/faults/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_LIMIT = 4096, COPY_BYTES = 1 << 20 };

void give_up(const char *what)
{
	perror(what);
	exit(3);
}

bool same_sum(const struct sum *a, const struct sum *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}

static void add_sum(struct sum *to, const struct sum *what)
{
	for (int i = 0; i < 4; i++)
		to->words[i] += what->words[i];
}

static struct sum sum_bytes(const void *data, size_t size)
{
	struct sum sum;
	if (EVP_Digest(data, size, (unsigned char *)&sum, NULL, EVP_sha256(), NULL) != 1)
		give_up("sha256");
	return sum;
}

/* ---- what a file holds ---- */

static char *read_whole(const char *path, size_t *size)
{
	struct stat st;
	int fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &st) != 0)
		give_up(path);
	char *data = malloc((size_t)st.st_size + 1);
	ssize_t n = data ? read(fd, data, (size_t)st.st_size) : -1;
	if (n < 0)
		give_up(path);
	close(fd);
	data[n] = '\0';
	*size = (size_t)n;
	return data;
}

/* Times and process numbers of log lines differ from run to run and steer nothing. */
static size_t drop_numbers(char *data, size_t size)
{
	static const char *const names[] = { "\"at\":", "\"process\":", "\"seconds\":" };
	size_t kept = 0;
	for (size_t i = 0; i < size;) {
		size_t digits = 0;
		for (int n = 0; n < 3 && !digits; n++) {
			size_t length = strlen(names[n]);
			if (size - i > length && memcmp(data + i, names[n], length) == 0)
				digits = length + strspn(data + i + length, "0123456789.");
		}
		if (digits)
			i += digits;
		else
			data[kept++] = data[i++];
	}
	return kept;
}

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), tail = strlen(end);
	return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* SQLite's journal and its index hold random salts: of those the size counts. */
static struct sum sum_content(const char *path, const struct stat *st)
{
	size_t size;
	if (!S_ISREG(st->st_mode) || ends_with(path, "-wal") || ends_with(path, "-shm"))
		return sum_bytes(&st->st_size, S_ISREG(st->st_mode) ? sizeof st->st_size : 0);
	char *data = read_whole(path, &size);
	if (ends_with(path, "/edges.jsonl"))
		size = drop_numbers(data, size);
	struct sum sum = sum_bytes(data, size);
	free(data);
	return sum;
}

/* Was the time of change set to the past on purpose? */
static bool is_dated(const struct stat *st)
{
	int64_t seconds = st->st_ctim.tv_sec - st->st_mtim.tv_sec;
	return S_ISREG(st->st_mode) &&
	       seconds * 1000000000 + st->st_ctim.tv_nsec - st->st_mtim.tv_nsec > 10000000;
}

static struct sum sum_entry(const struct entry *e, bool in_full)
{
	char line[PATH_LIMIT + 128];
	bool file = S_ISREG(e->st.st_mode);
	int length = snprintf(line, sizeof line, "%s %o %d %d %016lx%016lx%016lx%016lx", e->path,
	                      e->st.st_mode, in_full && file ? (int)e->st.st_nlink : 0,
	                      in_full && is_dated(&e->st), e->content.words[0],
	                      e->content.words[1], e->content.words[2], e->content.words[3]);
	return sum_bytes(line, (size_t)length);
}

/* ---- looking ---- */

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool is_as_it_was(const struct stat *a, const struct stat *b)
{
	if (a->st_mode != b->st_mode)
		return false;
	return S_ISDIR(a->st_mode) ||
	       (a->st_ino == b->st_ino && a->st_size == b->st_size &&
	        same_time(a->st_mtim, b->st_mtim) && same_time(a->st_ctim, b->st_ctim));
}

static int compare_paths(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->path, ((const struct entry *)b)->path);
}

static struct entry *find_entry(const struct snapshot *s, const char *path)
{
	const struct entry wanted = { .path = (char *)path };
	return s->count ? bsearch(&wanted, s->entries, s->count, sizeof wanted, compare_paths)
	                : NULL;
}

static void add_other(struct snapshot *s, const char *path, const struct stat *st)
{
	s->others = realloc(s->others, (s->other_count + 1) * sizeof *s->others);
	if (!s->others)
		give_up("memory");
	s->others[s->other_count++] =
		(struct entry){ .path = strdup(path), .st = *st, .content = sum_content(path, st) };
}

static void look_at(struct snapshot *s, const char *path, const struct stat *st)
{
	struct entry *e = find_entry(s, path);
	if (!e) {
		add_other(s, path, st);
	} else {
		e->seen = true;
		if (!is_as_it_was(&e->st, st))
			add_other(s, path, st), e->dirty = true;
	}
}

static void walk(struct snapshot *s, const char *folder, bool is_top)
{
	DIR *stream = opendir(folder);
	if (!stream)
		give_up(folder);
	for (struct dirent *d; (d = readdir(stream));) {
		char path[PATH_LIMIT];
		struct stat st;
		const char *name = d->d_name;
		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
		    (is_top && (strcmp(name, "bin") == 0 || strcmp(name, "obj") == 0 ||
		                strcmp(name, "libquern.a") == 0)))
			continue;
		snprintf(path, sizeof path, "%s/%s", folder, name);
		if (fstatat(dirfd(stream), name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			give_up(path);
		look_at(s, path, &st);
		if (S_ISDIR(st.st_mode))
			walk(s, path, false);
	}
	closedir(stream);
}

static void look(struct snapshot *s, const char *out)
{
	struct stat st;
	for (size_t i = 0; i < s->count; i++)
		s->entries[i].seen = s->entries[i].dirty = false;
	for (size_t i = 0; i < s->other_count; i++)
		free(s->others[i].path);
	s->other_count = 0;
	if (stat("build.ninja", &st) == 0)
		look_at(s, "build.ninja", &st);
	walk(s, out, true);
}

static struct sum add_up(const struct snapshot *s, bool (*counts)(const char *path))
{
	struct sum sum = { { 0 } };
	for (size_t i = 0; i < s->count + s->other_count; i++) {
		const struct entry *e = i < s->count ? &s->entries[i] : &s->others[i - s->count];
		if ((i < s->count && (!e->seen || e->dirty)) || (counts && !counts(e->path)))
			continue;
		struct sum one = sum_entry(e, !counts);
		add_sum(&sum, &one);
	}
	return sum;
}

struct sum snapshot_look(struct snapshot *s, const char *out)
{
	look(s, out);
	return add_up(s, NULL);
}

static bool is_temporary(const char *path)
{
	return strstr(path, ".tmp/") || ends_with(path, ".tmp") || strstr(path, "/tmp/");
}

static bool is_essential(const char *path)
{
	return !is_temporary(path) &&
	       (strstr(path, "/models/") || strstr(path, "/work/") || strstr(path, "/stamps/") ||
	        strstr(path, "/objects/") || strstr(path, "/results/"));
}

struct sum snapshot_essence(const struct snapshot *s)
{
	return add_up(s, is_essential);
}

/* ---- taking and putting back ---- */

static void copy_file(const char *from, const char *to, const struct stat *st)
{
	size_t size;
	char *data = read_whole(from, &size);
	int fd = open(to, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		give_up(to);
	for (size_t done = 0; done < size;) {
		ssize_t n = write(fd, data + done, size - done);
		if (n < 0)
			give_up(to);
		done += (size_t)n;
	}
	const struct timespec times[2] = { st->st_atim, st->st_mtim };
	if (fchmod(fd, st->st_mode & 07777) != 0 || futimens(fd, times) != 0)
		give_up(to);
	close(fd);
	free(data);
}

static void name_backup(const struct snapshot *s, size_t i, char path[PATH_LIMIT])
{
	snprintf(path, PATH_LIMIT, "%s/%zu", s->backup, i);
}

static size_t find_first_link(const struct snapshot *s, size_t i)
{
	const struct stat *st = &s->entries[i].st;
	for (size_t j = 0; st->st_nlink > 1 && S_ISREG(st->st_mode) && j < i; j++)
		if (s->entries[j].st.st_ino == st->st_ino && S_ISREG(s->entries[j].st.st_mode))
			return j;
	return i;
}

void snapshot_take(struct snapshot *s, const char *out, const char *backup)
{
	*s = (struct snapshot){ .backup = backup };
	look(s, out);
	s->entries = s->others;
	s->count = s->other_count;
	s->others = NULL;
	s->other_count = 0;
	qsort(s->entries, s->count, sizeof *s->entries, compare_paths);
	if (!backup)
		return;
	if (mkdir(backup, 0777) != 0)
		give_up(backup);
	for (size_t i = 0; i < s->count; i++) {
		struct entry *e = &s->entries[i];
		char copy[PATH_LIMIT];
		e->first = find_first_link(s, i);
		name_backup(s, i, copy);
		if (S_ISREG(e->st.st_mode) && e->first == i)
			copy_file(e->path, copy, &e->st);
	}
}

/* Deepest first. */
static int compare_lengths(const void *a, const void *b)
{
	size_t x = strlen(((const struct entry *)a)->path);
	size_t y = strlen(((const struct entry *)b)->path);
	return x < y ? 1 : x > y ? -1 : 0;
}

static void remove_others(struct snapshot *s)
{
	qsort(s->others, s->other_count, sizeof *s->others, compare_lengths);
	for (size_t i = 0; i < s->other_count; i++) {
		const struct entry *o = &s->others[i], *e = find_entry(s, o->path);
		if (S_ISDIR(o->st.st_mode) && e && S_ISDIR(e->st.st_mode))
			continue; /* of another mode */
		if (S_ISDIR(o->st.st_mode) ? rmdir(o->path) : unlink(o->path))
			give_up(o->path);
	}
}

/* All links of a file are put back together. */
static void spread_dirt(struct snapshot *s)
{
	for (size_t i = 0; i < s->count; i++) {
		struct entry *e = &s->entries[i];
		e->dirty = e->dirty || !e->seen;
		if (e->dirty)
			s->entries[e->first].dirty = true;
	}
	for (size_t i = 0; i < s->count; i++)
		s->entries[i].dirty = s->entries[i].dirty || s->entries[s->entries[i].first].dirty;
}

static void put_back(struct snapshot *s, size_t i)
{
	struct entry *e = &s->entries[i];
	char copy[PATH_LIMIT];
	if (S_ISDIR(e->st.st_mode)) {
		if ((mkdir(e->path, 0777) != 0 && errno != EEXIST) ||
		    chmod(e->path, e->st.st_mode & 07777) != 0)
			give_up(e->path);
		return;
	}
	if (unlink(e->path) != 0 && errno != ENOENT)
		give_up(e->path);
	name_backup(s, i, copy);
	if (e->first == i)
		copy_file(copy, e->path, &e->st);
	else if (link(s->entries[e->first].path, e->path) != 0)
		give_up(e->path);
}

void snapshot_restore(struct snapshot *s)
{
	remove_others(s);
	spread_dirt(s);
	for (size_t i = 0; i < s->count; i++)
		if (s->entries[i].dirty)
			put_back(s, i);
	for (size_t i = 0; i < s->count; i++) {
		struct entry *e = &s->entries[i];
		const struct timespec times[2] = { e->st.st_atim, e->st.st_mtim };
		if (S_ISDIR(e->st.st_mode) ? utimensat(AT_FDCWD, e->path, times, 0)
		                           : e->dirty && lstat(e->path, &e->st))
			give_up(e->path);
	}
}

/* ---- comparing ---- */

static bool is_outcome(const struct entry *e)
{
	return S_ISREG(e->st.st_mode) && !is_temporary(e->path) &&
	       (strstr(e->path, "/models/") || strstr(e->path, "/work/"));
}

const char *snapshot_difference(const struct snapshot *s, const struct snapshot *expected)
{
	size_t found = 0, wanted = 0;
	for (size_t i = 0; i < s->count + s->other_count; i++) {
		const struct entry *e = i < s->count ? &s->entries[i] : &s->others[i - s->count];
		if ((i < s->count && (!e->seen || e->dirty)) || !is_outcome(e))
			continue;
		const struct entry *other = find_entry(expected, e->path);
		if (!other || !same_sum(&e->content, &other->content))
			return e->path;
		found++;
	}
	for (size_t i = 0; i < expected->count; i++)
		wanted += is_outcome(&expected->entries[i]);
	return found == wanted ? NULL : "files that are not there";
}
