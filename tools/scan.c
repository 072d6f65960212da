/* scan: moves the stamp of every input whose content moved.
 *
 * Ninja believes timestamps, and only newer ones. This edge runs at every build:
 * it takes the digests of all inputs (from the memo where that can vouch for them)
 * and rewrites an input's stamp only when a digest differs, so that what depends on
 * the stamp runs when content changed and never because of a date. A published
 * checkpoint has a stamp too: it moves when a file of it is gone, has another size,
 * or was written to after it was published; and so have the pieces in the store that
 * checkpoints link, which somebody who writes into a linked file writes to as well. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/artifact/memo.h"
#include "lib/artifact/publish.h"
#include "lib/artifact/store.h"
#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/base/options.h"
#include "lib/checkpoint/model_files.h"
#include "lib/data/samples.h"
#include "lib/quant/assemble.h"
#include "lib/quant/variants.h"

enum { MAX_LIST_BYTES = 16 << 20, MAX_FIELDS = 6 };

struct scanner {
	struct memo *memo;
	int inputs, moved;
};

/* A line of the list: kind, stamp, and what the kind needs. */
struct line {
	char *fields[MAX_FIELDS];
	int count;
};

/* ---- what a stamp holds: a line "digest  name" an input ---- */

/* A file that cannot be read has no digest: its stamp says so, and the edge that needs
 * the file says why. */
static bool stamp_file(struct scanner *s, text *stamp, const char *path, const char *name,
                       error *err)
{
	struct digest digest;
	s->inputs++;
	if (memo_digest(s->memo, path, &digest, err)) {
		text_printf(stamp, "%s  %s\n", digest.hex, name);
		return true;
	}
	text_printf(stamp, "unreadable  %s\n", name);
	return err->code == EXIT_BAD_INPUT;
}

static bool stamp_model(struct scanner *s, text *stamp, const char *folder,
                        enum file_class class, error *err)
{
	arena memory = { 0 };
	struct file_names names;
	if (!list_model_files(folder, class, &memory, &names, err)) {
		text_printf(stamp, "unreadable  %s\n", folder);
		return err->code == EXIT_BAD_INPUT;
	}
	bool ok = true;
	for (int i = 0; ok && i < names.count; i++) {
		char path[PATH_BYTES];
		ok = join_path(path, sizeof path, folder, names.names[i], err) &&
		     stamp_file(s, stamp, path, names.names[i], err);
	}
	arena_free(&memory);
	return ok;
}

/* The DB or evaluation list, and the images of the rows in use. */
static bool stamp_images(struct scanner *s, text *stamp, const struct line *l, error *err)
{
	const char *source = l->fields[2], *root = l->fields[3];
	bool db = strcmp(l->fields[0], "images") == 0;
	size_t first = l->count > 5 ? strtoul(l->fields[5], NULL, 10) : 0;
	size_t most = strtoul(l->fields[4], NULL, 10);
	struct sample_list rows;
	if (!stamp_file(s, stamp, source, db ? "calibration DB" : "evaluation list", err))
		return false;
	if (!(db ? calib_db_load(&rows, source, first, most, err)
	         : eval_list_load(&rows, source, first, most, err))) {
		text_puts(stamp, "unreadable  rows\n");
		return err->code == EXIT_BAD_INPUT;
	}
	bool ok = true;
	for (size_t i = 0; ok && i < rows.count; i++) {
		char path[PATH_BYTES];
		const char *image = rows.rows[i].image;
		ok = join_path(path, sizeof path, root, image, err) &&
		     stamp_file(s, stamp, path, image, err);
	}
	sample_list_free(&rows);
	return ok;
}

/* ---- what was built: stamps that say "whole", or what is wrong ---- */

static bool newer(const struct stat *a, const struct stat *b)
{
	return a->st_mtim.tv_sec != b->st_mtim.tv_sec
	               ? a->st_mtim.tv_sec > b->st_mtim.tv_sec
	               : a->st_mtim.tv_nsec > b->st_mtim.tv_nsec;
}

/* The first file of the list that is not as published, or NULL. Looking from the open
 * folder is what keeps thousands of files within milliseconds. */
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

/* Nothing there is no damage: ninja sees a missing output itself. */
static bool stamp_published(struct scanner *s, text *stamp, const struct line *l,
                            error *err)
{
	const char *folder = l->fields[2];
	char path[PATH_BYTES];
	struct stat st;
	json_doc list;
	error ignored;
	(void)s;
	int length = snprintf(path, sizeof path, "%s/" SENSITIVITY_FOLDER "/%s" FILES_SUFFIX,
	                      folder, l->fields[3]);
	if (length < 0 || (size_t)length >= sizeof path)
		return fail(err, EXIT_BAD_INPUT, "%.100s...: path is too long", folder);
	if (stat(path, &st) != 0) {
		text_puts(stamp, "whole\n");
		return true;
	}
	if (!json_load(&list, path, MAX_LIST_BYTES, &ignored)) {
		text_printf(stamp, "damaged: %s\n", l->fields[3]);
		return true;
	}
	const char *damage = find_damage(folder, &list, &st);
	if (damage)
		text_printf(stamp, "damaged: %s\n", damage);
	else
		text_puts(stamp, "whole\n");
	json_free(&list);
	return true;
}

/* The pieces of one list in the store, against the time they were last in order. */
struct pieces {
	struct store store;
	struct stat since;
	bool written, damaged;
};

/* A piece that was written to since is read: its bytes decide. */
static bool check_piece(struct pieces *p, const struct output *piece, error *err)
{
	char path[PATH_BYTES];
	struct stat st;
	bool whole = false;
	if (!store_object_path(&p->store, &piece->digest, path, err))
		return false;
	bool there = stat(path, &st) == 0;
	if (there && (uint64_t)st.st_size == piece->bytes && !newer(&st, &p->since))
		return true;
	if (there && !store_check(&p->store, &piece->digest, &whole, err))
		return false;
	p->written = true;
	p->damaged |= !whole;
	return true;
}

static bool check_pieces(struct pieces *p, const struct variant_set *set, error *err)
{
	bool ok = check_piece(p, &set->rest, err);
	for (int i = 0; ok && i < set->count; i++) {
		const struct variant_pair *pair = &set->pairs[i];
		ok = check_piece(p, &pair->plain, err) &&
		     (!pair->quantised.bytes || check_piece(p, &pair->quantised, err));
	}
	return ok;
}

/* Moves *since forward to a file's time. */
static void take_time(struct stat *since, const char *path)
{
	struct stat st;
	if (stat(path, &st) == 0 && newer(&st, since))
		*since = st;
}

/* A list that is not there, or cannot be read, is quantize's to make again. Beside the
 * stamp, a file that ninja knows nothing of has the time of the last look at pieces that
 * were written to, so that nobody reads them again. */
static bool stamp_pieces(struct scanner *s, text *stamp, const struct line *l, error *err)
{
	const char *path = l->fields[2];
	char looked[PATH_BYTES];
	struct pieces p = { .damaged = false };
	struct variant_set set;
	error ignored;
	(void)s;
	snprintf(looked, sizeof looked, "%.*s.looked", PATH_BYTES - 16, l->fields[1]);
	snprintf(p.store.folder, sizeof p.store.folder, "%s", l->fields[3]);
	take_time(&p.since, path);
	take_time(&p.since, looked);
	if (!file_exists(path)) {
		text_puts(stamp, "whole\n");
		return true;
	}
	if (variants_read(&set, path, &ignored)) {
		bool ok = check_pieces(&p, &set, err) &&
		          (!p.written || write_file(looked, "", 0, err));
		variants_free(&set);
		if (!ok)
			return false;
	} else {
		p.damaged = true;
	}
	text_puts(stamp, p.damaged ? "damaged\n" : "whole\n");
	return true;
}

/* ---- the list ---- */

static bool stamp_line(struct scanner *s, const struct line *l, text *stamp, error *err)
{
	const char *kind = l->fields[0];
	if (strcmp(kind, "file") == 0 && l->count == 3)
		return stamp_file(s, stamp, l->fields[2], "file", err);
	if (strcmp(kind, "weights") == 0 && l->count == 3)
		return stamp_model(s, stamp, l->fields[2], FILES_WEIGHTS, err);
	if (strcmp(kind, "texts") == 0 && l->count == 3)
		return stamp_model(s, stamp, l->fields[2], FILES_TEXTS, err);
	if (strcmp(kind, "images") == 0 && l->count == 5)
		return stamp_images(s, stamp, l, err);
	if (strcmp(kind, "eval_list") == 0 && l->count == 6)
		return stamp_images(s, stamp, l, err);
	if (strcmp(kind, "published") == 0 && l->count == 4)
		return stamp_published(s, stamp, l, err);
	if (strcmp(kind, "pieces") == 0 && l->count == 4)
		return stamp_pieces(s, stamp, l, err);
	return fail(err, EXIT_INTERNAL, "unknown kind of input \"%s\" with %d fields", kind,
	            l->count);
}

static bool make_parent(const char *path, error *err)
{
	char folder[PATH_BYTES];
	const char *slash = strrchr(path, '/');
	snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) : 1,
	         slash ? path : ".");
	return make_folders(folder, err);
}

/* An input's stamp moves with its content. That of something built moves at every build
 * as long as it is damaged and rests when it is whole again: mending is no reason to
 * make it once more. */
static bool write_stamp(const struct line *l, const text *stamp, bool *changed, error *err)
{
	const char *path = l->fields[1], *data = stamp->data ? stamp->data : "";
	bool built = strcmp(l->fields[0], "published") == 0 ||
	             strcmp(l->fields[0], "pieces") == 0;
	bool there = file_exists(path);
	if (built && there) {
		*changed = strcmp(data, "whole\n") != 0;
		return !*changed || write_file(path, data, stamp->length, err);
	}
	return (there || make_parent(path, err)) &&
	       write_file_if_changed(path, data, stamp->length, changed, err);
}

static bool scan_line(struct scanner *s, const struct line *l, error *err)
{
	text stamp = { 0 };
	bool changed = false;
	bool ok = stamp_line(s, l, &stamp, err) && text_ok(&stamp, err) &&
	          write_stamp(l, &stamp, &changed, err);
	s->moved += changed;
	text_free(&stamp);
	return ok;
}

static bool scan_list(struct scanner *s, const char *path, error *err)
{
	char *list, *rest;
	size_t size;
	if (!read_file(path, MAX_LIST_BYTES, &list, &size, err))
		return false;
	bool ok = true;
	rest = list;
	for (char *row; ok && (row = strsep(&rest, "\n")) && *row;) {
		struct line l = { .count = 0 };
		while (row && l.count < MAX_FIELDS)
			l.fields[l.count++] = strsep(&row, "\t");
		ok = l.count >= 3 ? scan_line(s, &l, err)
		                  : fail(err, EXIT_INTERNAL, "%s: expected at least 3 fields", path);
	}
	free(list);
	return ok;
}

int main(int argc, char **argv)
{
	const char *list = NULL, *state = NULL;
	const struct option options[] = {
		{ "list", OPTION_TEXT, &list, "FILE", "inputs and their stamps, from configure",
		  true },
		{ "state", OPTION_TEXT, &state, "DIR", "folder of the digest memo, on a local disk",
		  true },
		{ 0 },
	};
	const struct command command = {
		.tool = "scan",
		.purpose = "Moves the stamp of every input whose content moved.",
		.options = options
	};
	error err;
	char memo_path[PATH_BYTES];
	struct scanner s = { 0 };
	enum parse_outcome parsed = parse_options(&command, argc, argv, NULL, &err);
	if (parsed == PARSE_HELP)
		return EXIT_OK;
	bool ok = parsed == PARSE_OK &&
	          join_path(memo_path, sizeof memo_path, state, "memo.db", &err) &&
	          (s.memo = memo_open(memo_path, &err)) && scan_list(&s, list, &err);
	if (s.memo)
		memo_close(s.memo);
	if (ok && s.moved == 0)
		printf("%d inputs, none moved\n", s.inputs);
	else if (ok)
		printf("%d inputs, %d stamps moved\n", s.inputs, s.moved);
	return ok ? EXIT_OK : error_report("scan", &err);
}
