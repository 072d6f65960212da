/* scan: moves the stamp of every input whose content moved.
 *
 * Ninja believes timestamps, and only newer ones. This edge runs at every build:
 * it takes the digests of all inputs (from the memo where that can vouch for them)
 * and rewrites an input's stamp only when a digest differs, so that what depends on
 * the stamp runs when content changed and never because of a date. A published
 * checkpoint has a stamp too: it moves when a file of it is gone, has another size,
 * or was written to after it was published; and so have the pieces in the store that
 * checkpoints link, which somebody who writes into a linked file writes to as well. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/artifact/disk.h"
#include "lib/artifact/log.h"
#include "lib/artifact/memo.h"
#include "lib/artifact/publish.h"
#include "lib/base/file.h"
#include "lib/base/options.h"
#include "lib/checkpoint/model_files.h"
#include "lib/data/samples.h"
#include "lib/quant/published.h"
#include "lib/quant/variants.h"

enum { MAX_LIST_BYTES = 16 << 20, MAX_FIELDS = 6 };

struct scanner {
	struct memo *memo;
	struct store store;
	struct published published;
	struct stat now; /* of something just touched: the file system's clock */
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
static bool stamp_files(struct scanner *s, text *stamp, struct memo_file *files,
                        const char *const *names, int count, error *err)
{
	if (!memo_digest_many(s->memo, files, count, err))
		return false;
	for (int i = 0; i < count; i++)
		text_printf(stamp, "%s  %s\n",
		            files[i].readable ? files[i].digest.hex : "unreadable", names[i]);
	s->inputs += count;
	return true;
}

static bool stamp_file(struct scanner *s, text *stamp, const char *path, const char *name,
                       error *err)
{
	struct memo_file file = { .path = path };
	return stamp_files(s, stamp, &file, &name, 1, err);
}

/* folder/names[i] */
static bool stamp_folder(struct scanner *s, text *stamp, const char *folder,
                         const char *const *names, int count, arena *memory, error *err)
{
	struct memo_file *files = arena_alloc(memory, (size_t)count, sizeof *files, err);
	bool ok = files != NULL;
	for (int i = 0; ok && i < count; i++) {
		files[i].path = arena_printf(memory, err, "%s/%s", folder, names[i]);
		ok = files[i].path != NULL;
	}
	return ok && stamp_files(s, stamp, files, names, count, err);
}

static bool stamp_model(struct scanner *s, text *stamp, const char *folder,
                        enum file_class class, error *err)
{
	arena memory = { 0 };
	struct file_names names;
	bool ok = list_model_files(folder, class, &memory, &names, err);
	if (ok) {
		ok = stamp_folder(s, stamp, folder, names.names, names.count, &memory, err);
	} else if (err->code == EXIT_BAD_INPUT) {
		text_printf(stamp, "unreadable  %s\n", folder);
		ok = true;
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
	arena memory = { 0 };
	if (!stamp_file(s, stamp, source, db ? "calibration DB" : "evaluation list", err))
		return false;
	if (!(db ? calib_db_load(&rows, source, first, most, err)
	         : eval_list_load(&rows, source, first, most, err))) {
		text_puts(stamp, "unreadable  rows\n");
		return err->code == EXIT_BAD_INPUT;
	}
	const char **images = arena_alloc(&memory, rows.count, sizeof *images, err);
	for (size_t i = 0; images && i < rows.count; i++)
		images[i] = rows.rows[i].image;
	bool ok = images && stamp_folder(s, stamp, root, images, (int)rows.count, &memory, err);
	arena_free(&memory);
	sample_list_free(&rows);
	return ok;
}

/* ---- published checkpoints ---- */

/* Nothing there is no damage: ninja sees a missing output itself. */
static bool stamp_published(struct scanner *s, text *stamp, const struct line *l,
                            error *err)
{
	const char *folder = l->fields[2], *damage;
	if (!published_check(&s->published, folder, l->fields[3], &s->now, &damage, err))
		return false;
	if (damage) {
		text_printf(stamp, "damaged: %s\n", damage);
		printf("%s/%s: not as it was published, made anew\n", folder, damage);
	}
	return true;
}

/* ---- pieces in the store, which checkpoints are linked from ---- */

static bool check_piece(struct scanner *s, text *stamp, const struct output *piece,
                        error *err)
{
	enum object_state state;
	struct stat st;
	if (!store_check(&s->store, &piece->digest, false, &state, &st, err))
		return false;
	if (state == OBJECT_WHOLE)
		return published_add_piece(&s->published, &st, &piece->digest, err);
	text_printf(stamp, "%s\n", piece->digest.hex);
	if (state == OBJECT_DAMAGED)
		printf("%s/objects: %s (%s) is not what its name says, moved to %s/damaged and "
		       "made anew\n", s->store.folder, piece->digest.hex, piece->name,
		       s->store.folder);
	return true;
}

/* Those that are damaged or gone. */
static bool stamp_pieces(struct scanner *s, text *stamp, const struct line *l, error *err)
{
	struct variant_set set;
	if (!file_exists(l->fields[2]))
		return true;
	if (!variants_read(&set, l->fields[2], err)) {
		text_puts(stamp, "unreadable\n");
		return err->code == EXIT_BAD_INPUT;
	}
	bool ok = check_piece(s, stamp, &set.rest, err) &&
	          (!set.norms.bytes || (check_piece(s, stamp, &set.norms, err) &&
	                                check_piece(s, stamp, &set.folded, err)));
	for (int i = 0; ok && i < set.count; i++)
		ok = check_piece(s, stamp, &set.pairs[i].plain, err) &&
		     (!set.pairs[i].quantised.bytes ||
		      check_piece(s, stamp, &set.pairs[i].quantised, err));
	variants_free(&set);
	return ok;
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
	if (strcmp(kind, "pieces") == 0 && l->count == 3)
		return stamp_pieces(s, stamp, l, err);
	if (strcmp(kind, "eval_list") == 0 && l->count == 6)
		return stamp_images(s, stamp, l, err);
	if (strcmp(kind, "published") == 0 && l->count == 4)
		return stamp_published(s, stamp, l, err);
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

static bool scan_line(struct scanner *s, const struct line *l, error *err)
{
	text stamp = { 0 };
	bool changed = false;
	bool is_output = strcmp(l->fields[0], "published") == 0 ||
	                 strcmp(l->fields[0], "pieces") == 0;
	bool there = file_exists(l->fields[1]);
	bool ok = stamp_line(s, l, &stamp, err) && text_ok(&stamp, err) &&
	          (there || make_parent(l->fields[1], err));
	const char *content = stamp.data ? stamp.data : "";
	/* The stamp of an output speaks of damage alone: it moves as long as there is
	 * some, and stays when there is none. None waits for the disk: what a power cut left
	 * of a stamp is looked at again by the next build. */
	if (ok && is_output && (stamp.length || !there)) {
		changed = true;
		ok = write_cache(l->fields[1], content, stamp.length, err);
	} else if (ok && !is_output) {
		ok = write_cache_if_changed(l->fields[1], content, stamp.length, &changed, err);
	}
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

/* The clock that dates files need not be the one that processes are told. */
static bool look_at_clock(struct scanner *s, const char *tree, error *err)
{
	char path[PATH_BYTES];
	if (!join_path(path, sizeof path, tree, "state", err))
		return false;
	int result = disk_touch(path);
	if (result == 0 && stat(path, &s->now) != 0)
		result = -errno;
	return result == 0 || fail_disk(err, result, path, "look at the clock");
}

static bool open_scanner(struct scanner *s, const char *tree, error *err)
{
	char path[PATH_BYTES];
	if (!join_path(path, sizeof path, tree, "store", err) ||
	    !store_open(&s->store, path, err) ||
	    !join_path(path, sizeof path, tree, "state/memo.db", err) ||
	    !(s->memo = memo_open(path, err)))
		return false;
	memo_hold(s->memo);
	return join_path(path, sizeof path, tree, "state/published", err) &&
	       published_open(&s->published, path, err) && look_at_clock(s, tree, err);
}

static bool log_scan(const struct scanner *s, const char *tree, const char *list,
                     const struct timespec *begun, error *err)
{
	const struct log_entry entry = { .tool = "scan", .target = list,
		.seconds = seconds_since(begun), .bytes = memo_counts(s->memo).bytes_hashed };
	return log_append(tree, &entry, err);
}

int main(int argc, char **argv)
{
	const char *list = NULL, *tree = NULL;
	const struct option options[] = {
		{ "list", OPTION_TEXT, &list, "FILE", "inputs and their stamps, from configure",
		  true },
		{ "tree", OPTION_TEXT, &tree, "DIR", "build tree; holds the memo of digests", true },
		{ 0 },
	};
	const struct command command = {
		.tool = "scan",
		.purpose = "Moves the stamp of every input whose content moved.",
		.options = options
	};
	error err;
	struct timespec begun;
	struct scanner s = { 0 };
	enum parse_outcome parsed = parse_options(&command, argc, argv, NULL, &err);
	if (parsed == PARSE_HELP)
		return EXIT_OK;
	clock_gettime(CLOCK_MONOTONIC, &begun);
	bool ok = parsed == PARSE_OK &&
	          open_scanner(&s, tree, &err) && scan_list(&s, list, &err) &&
	          published_keep(&s.published, &err) && log_scan(&s, tree, list, &begun, &err);
	published_close(&s.published);
	if (s.memo)
		memo_close(s.memo);
	if (ok && s.moved == 0)
		printf("%d inputs, none moved\n", s.inputs);
	else if (ok)
		printf("%d inputs, %d stamps moved\n", s.inputs, s.moved);
	return ok ? EXIT_OK : error_report("scan", &err);
}
