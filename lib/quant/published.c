/* Looking at published checkpoints; see published.h. */
#include "lib/quant/published.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/artifact/card.h"
#include "lib/artifact/memo.h"
#include "lib/artifact/publish.h"
#include "lib/base/json.h"
#include "lib/quant/checkpoint_draft.h"

enum { MAX_LOOKS_BYTES = 64 << 20, MAX_LIST_BYTES = 16 << 20 };

/* ---- what is kept: lines "digest folder\tname\tname\t", and the digest of all ---- */

/* Cuts the looks out of text[size], which they go on pointing into. Text that was not
 * written by published_keep gives none. */
static bool parse_looks(struct published *p, char *text, size_t size, error *err)
{
	struct digest found, seal;
	size_t lines = 0;
	if (size < DIGEST_HEX + 1 || text[size - 1] != '\n' ||
	    !digest_parse(text + size - DIGEST_HEX - 1, DIGEST_HEX, &seal))
		return true;
	size -= DIGEST_HEX + 1;
	if (!digest_bytes(text, size, &found, err))
		return false;
	if (!digest_equal(&found, &seal))
		return true;
	for (size_t i = 0; i < size; i++)
		lines += text[i] == '\n';
	if (!(p->before = arena_alloc(&p->memory, lines + 1, sizeof *p->before, err)))
		return false;
	for (size_t i = 0; i < lines; i++) {
		struct published_look *look = &p->before[i];
		char *line = strsep(&text, "\n"), *tab = strchr(line, '\t');
		if (!tab || tab - line <= DIGEST_HEX || !digest_parse(line, DIGEST_HEX, &look->digest))
			return true;
		*tab = '\0';
		look->folder = line + DIGEST_HEX + 1;
		look->own = tab + 1;
	}
	p->before_count = lines;
	return true;
}

bool published_open(struct published *p, const char *path, error *err)
{
	char *data, *text;
	size_t size;
	*p = (struct published){ 0 };
	if (strlen(path) >= sizeof p->path)
		return fail(err, EXIT_BAD_INPUT, "%.100s...: path is too long", path);
	strcpy(p->path, path);
	if (!file_exists(path))
		return true;
	if (!read_file(path, MAX_LOOKS_BYTES, &data, &size, err))
		return err->code == EXIT_BAD_INPUT;
	text = arena_text(&p->memory, data, size, err);
	free(data);
	return text && parse_looks(p, text, size, err);
}

bool published_keep(struct published *p, error *err)
{
	text lines = { 0 };
	struct digest seal;
	if (p->same == p->now_count && p->same == p->before_count)
		return true;
	for (size_t i = 0; i < p->now_count; i++)
		text_printf(&lines, "%s %s\t%s\n", p->now[i].digest.hex, p->now[i].folder,
		            p->now[i].own);
	bool ok = text_ok(&lines, err) &&
	          digest_bytes(lines.data ? lines.data : "", lines.length, &seal, err);
	if (ok)
		text_printf(&lines, "%s\n", seal.hex);
	ok = ok && text_ok(&lines, err) && write_cache(p->path, lines.data, lines.length, err);
	text_free(&lines);
	return ok;
}

void published_close(struct published *p)
{
	free(p->pieces);
	free(p->now);
	arena_free(&p->memory);
	*p = (struct published){ 0 };
}

/* Room for one more in an array. */
static bool grow(void **array, size_t count, size_t *room, size_t size, error *err)
{
	if (count < *room)
		return true;
	size_t wanted = *room ? *room * 2 : 256;
	void *larger = realloc(*array, wanted * size);
	if (!larger)
		return fail_memory(err, "published checkpoints", wanted * size);
	*array = larger;
	*room = wanted;
	return true;
}

static bool remember(struct published *p, const struct published_look *look, bool same,
                     error *err)
{
	if (!grow((void **)&p->now, p->now_count, &p->now_room, sizeof *p->now, err))
		return false;
	p->now[p->now_count++] = *look;
	p->same += same;
	return true;
}

/* ---- pieces ---- */

bool published_add_piece(struct published *p, const struct stat *st,
                         const struct digest *digest, error *err)
{
	if (!grow((void **)&p->pieces, p->piece_count, &p->piece_room, sizeof *p->pieces, err))
		return false;
	p->pieces[p->piece_count++] = (struct whole_piece){
		.device = st->st_dev, .inode = st->st_ino, .digest = *digest };
	return true;
}

static int compare_pieces(const void *a, const void *b)
{
	const struct whole_piece *x = a, *y = b;
	if (x->device != y->device)
		return x->device < y->device ? -1 : 1;
	return x->inode < y->inode ? -1 : x->inode > y->inode;
}

static bool sort_pieces(struct published *p, error *err)
{
	struct digester all;
	if (*p->pieces_digest.hex)
		return true;
	if (p->piece_count)
		qsort(p->pieces, p->piece_count, sizeof *p->pieces, compare_pieces);
	digester_begin(&all);
	for (size_t i = 0; i < p->piece_count; i++) {
		const struct whole_piece *piece = &p->pieces[i];
		digester_add(&all, &piece->device, sizeof piece->device);
		digester_add(&all, &piece->inode, sizeof piece->inode);
		digester_add(&all, piece->digest.hex, DIGEST_HEX);
	}
	return digester_end(&all, &p->pieces_digest, err);
}

static bool is_piece(const struct published *p, dev_t device, ino_t inode)
{
	const struct whole_piece wanted = { .device = device, .inode = inode };
	return p->piece_count && bsearch(&wanted, p->pieces, p->piece_count,
	                                 sizeof *p->pieces, compare_pieces);
}

/* ---- what a checkpoint looks like ---- */

static bool settled(struct timespec t, const struct stat *now)
{
	return t.tv_sec < now->st_mtim.tv_sec - MEMO_MIN_AGE_SECONDS;
}

static void add_stat(struct digester *d, const char *name, const struct stat *st)
{
	const int64_t numbers[] = { (int64_t)st->st_dev, (int64_t)st->st_ino, st->st_size,
		st->st_mtim.tv_sec, st->st_mtim.tv_nsec };
	digester_add(d, name, strlen(name) + 1);
	digester_add(d, numbers, sizeof numbers);
	if (S_ISDIR(st->st_mode)) {
		const int64_t changed[] = { st->st_ctim.tv_sec, st->st_ctim.tv_nsec };
		digester_add(d, changed, sizeof changed);
	}
}

/* *lasting: no folder is so young that it could change again without a later date. */
static bool take_look(const struct published *p, const char *folder, const char *own,
                      const struct stat *list, const struct stat *now, struct digest *out,
                      bool *lasting, error *err)
{
	struct digester d;
	char name[PATH_BYTES];
	int at = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (at < 0 && errno != ENOENT && errno != ENOTDIR)
		return fail_errno(err, errno, "%s: cannot open", folder);
	*lasting = at >= 0;
	digester_begin(&d);
	digester_add(&d, p->pieces_digest.hex, DIGEST_HEX);
	add_stat(&d, "list", list);
	digester_add(&d, &list->st_ctim, sizeof list->st_ctim);
	for (const char *tab; *lasting && (tab = strchr(own, '\t')); own = tab + 1) {
		struct stat st;
		snprintf(name, sizeof name, "%.*s", (int)(tab - own), own);
		*lasting = fstatat(at, name, &st, 0) == 0;
		if (*lasting)
			add_stat(&d, name, &st);
		if (*lasting && S_ISDIR(st.st_mode))
			*lasting = settled(st.st_ctim, now) && settled(st.st_mtim, now);
	}
	if (at >= 0)
		close(at);
	return digester_end(&d, out, err);
}

/* ---- names of a checkpoint's own files ---- */

/* A listing's inode numbers mean what stat's do where both are of one device; what is of
 * another (mount points, layered file systems) counts as own. */
static bool list_own(const struct published *p, int at, const char *name, text *own,
                     error *err)
{
	struct stat st;
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd >= 0 && fstat(fd, &st) == 0 ? fdopendir(fd) : NULL;
	bool ok = stream || errno == ENOENT ||
	          fail_errno(err, errno, "cannot list a published folder");
	if (!stream && fd >= 0)
		close(fd);
	if (stream)
		text_printf(own, "%s\t", name);
	for (const struct dirent *d; ok && stream && (d = readdir(stream));) {
		char path[PATH_BYTES];
		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 ||
		    (d->d_type == DT_REG && is_piece(p, st.st_dev, d->d_ino)))
			continue;
		ok = strcmp(name, ".") == 0
		     ? snprintf(path, sizeof path, "%s", d->d_name) > 0
		     : join_path(path, sizeof path, name, d->d_name, err);
		if (ok && d->d_type == DT_DIR)
			ok = list_own(p, at, path, own, err);
		else if (ok)
			text_printf(own, "%s\t", path);
	}
	if (stream)
		closedir(stream);
	return ok;
}

static bool list_folder(const struct published *p, const char *folder, text *own, error *err)
{
	int at = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (at < 0)
		return errno == ENOENT || fail_errno(err, errno, "%s: cannot open", folder);
	bool ok = list_own(p, at, ".", own, err) && text_ok(own, err);
	close(at);
	return ok;
}

/* ---- comparing with the list ---- */

static bool newer(const struct stat *a, const struct stat *b)
{
	return a->st_mtim.tv_sec != b->st_mtim.tv_sec
	               ? a->st_mtim.tv_sec > b->st_mtim.tv_sec
	               : a->st_mtim.tv_nsec > b->st_mtim.tv_nsec;
}

/* The first file of the list that is not as published, or NULL. */
static const char *find_damage(const char *folder, const json_doc *list,
                               const struct stat *published)
{
	int at = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const char *damage = at < 0 ? "the folder" : NULL;
	for (const cJSON *file = list->root->child; file && !damage; file = file->next) {
		struct stat st;
		const cJSON *bytes = cJSON_GetObjectItemCaseSensitive(file, "bytes");
		if (fstatat(at, file->string, &st, 0) != 0 || !cJSON_IsNumber(bytes) ||
		    (double)st.st_size != bytes->valuedouble || newer(&st, published))
			damage = file->string;
	}
	if (at >= 0)
		close(at);
	return damage;
}

/* Fills p->damage; empty for none. */
static bool compare_with_list(struct published *p, const char *folder, const char *path,
                              const char *file_name, const struct stat *st, error *err)
{
	json_doc list;
	const char *damage = file_name;
	bool read = json_load(&list, path, MAX_LIST_BYTES, err);
	if (!read && err->code != EXIT_BAD_INPUT)
		return false;
	if (read)
		damage = find_damage(folder, &list, st);
	if (!damage && !card_check(folder, path, err)) {
		if (err->code != EXIT_BAD_INPUT) {
			json_free(&list);
			return false;
		}
		damage = CARD_FILE;
	}
	snprintf(p->damage, sizeof p->damage, "%s", damage ? damage : "");
	if (read)
		json_free(&list);
	return true;
}

static bool compare(struct published *p, const char *folder, const char *path,
                    const char *file_name, const struct stat *st, const struct stat *now,
                    error *err)
{
	text own = { 0 };
	struct published_look look = { 0 };
	bool lasting;
	bool ok = list_folder(p, folder, &own, err) &&
	          take_look(p, folder, own.data ? own.data : "", st, now, &look.digest, &lasting,
	                    err) &&
	          compare_with_list(p, folder, path, file_name, st, err);
	if (ok && !*p->damage && lasting) {
		look.folder = arena_text(&p->memory, folder, strlen(folder), err);
		look.own = arena_text(&p->memory, own.data, own.length, err);
		ok = look.folder && look.own && remember(p, &look, false, err);
	}
	text_free(&own);
	return ok;
}

static const struct published_look *find_look(const struct published *p, const char *folder)
{
	for (size_t i = 0; i < p->before_count; i++)
		if (strcmp(p->before[i].folder, folder) == 0)
			return &p->before[i];
	return NULL;
}

bool published_check(struct published *p, const char *folder, const char *file_name,
                     const struct stat *now, const char **damage, error *err)
{
	char path[PATH_BYTES];
	struct stat st;
	struct digest look;
	bool lasting;
	*damage = NULL;
	int length = snprintf(path, sizeof path, "%s/" SENSITIVITY_FOLDER "/%s" FILES_SUFFIX,
	                      folder, file_name);
	if (length < 0 || (size_t)length >= sizeof path)
		return fail(err, EXIT_BAD_INPUT, "%.100s...: path is too long", folder);
	if (stat(path, &st) != 0) {
		/* A folder is published with its list; the second look is for one that was
		 * published after the first. */
		if (file_exists(folder) && stat(path, &st) != 0)
			*damage = SENSITIVITY_FOLDER;
		return true;
	}
	/* What depends on a file from the future would be made again for ever. */
	if (newer(&st, now)) {
		*damage = file_name;
		return true;
	}
	const struct published_look *before = find_look(p, folder);
	if (!sort_pieces(p, err) ||
	    (before && !take_look(p, folder, before->own, &st, now, &look, &lasting, err)))
		return false;
	if (before && lasting && digest_equal(&look, &before->digest))
		return remember(p, before, true, err);
	if (!compare(p, folder, path, file_name, &st, now, err))
		return false;
	*damage = *p->damage ? p->damage : NULL;
	return true;
}
