/* Writing a lock and checking a tree against one; see release.h.
 *
 *   { "quern_lock": 1,
 *     "inputs":    { STAMP: { NAME: SHA-256 } },
 *     "artifacts": { NAME: { "tools": { TOOL: SHA-256 of its sources },
 *                            "parameters": { NAME: VALUE }, "inputs": [ STAMP ],
 *                            "from": [ NAME ], "outputs": { PATH: SHA-256 } } } } */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/artifact/card.h"
#include "lib/artifact/digest.h"
#include "lib/artifact/release.h"
#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/base/json_tree.h"

enum { MAX_STAMP_BYTES = 256 << 20, MAX_JSON_BYTES = 1 << 30, MOST_REASONS = 3 };

static const cJSON *field(const cJSON *object, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(object, name);
}

static bool is_kind(const struct release_line *line, const char *kind)
{
	return strcmp(line->fields[0], kind) == 0;
}

/* ---- what catalog, inputs and sources are now ---- */

static bool add_tool(struct json_tree *tree, cJSON *tools, const char *folder,
                     const char *tool, error *err)
{
	char path[PATH_BYTES], name[128], *content;
	size_t size;
	struct digest digest;
	snprintf(name, sizeof name, "bin/%s.digest", tool);
	if (!join_path(path, sizeof path, folder, name, err) ||
	    !read_file(path, DIGEST_HEX + 1, &content, &size, err))
		return false;
	bool ok = size >= DIGEST_HEX && digest_parse(content, DIGEST_HEX, &digest);
	free(content);
	if (ok)
		tree_text(tree, tools, tool, digest.hex);
	return ok || fail(err, EXIT_ENVIRONMENT, "%s: expected a digest (run ninja tools)", path);
}

/* The lines "digest  name" of a stamp; a name that comes again is the same file. */
static bool add_stamp(struct json_tree *tree, cJSON *inputs, const char *folder,
                      const char *stamp, error *err)
{
	char path[PATH_BYTES], *content;
	size_t size;
	if (cJSON_HasObjectItem(inputs, stamp))
		return true;
	if (!join_path(path, sizeof path, folder, stamp, err) ||
	    !read_file(path, MAX_STAMP_BYTES, &content, &size, err))
		return false;
	cJSON *names = tree_object(tree, inputs, stamp);
	for (char *rest = content, *line; (line = strsep(&rest, "\n")) && *line;) {
		char *name = strstr(line, "  ");
		if (!name)
			continue;
		*name = '\0';
		name += 2;
		if (names && !cJSON_HasObjectItem(names, name))
			tree_text(tree, names, name, line);
	}
	free(content);
	return true;
}

static bool describe_artifact(struct json_tree *tree, cJSON *parent, cJSON *inputs,
                              const struct artifact *a, const char *folder, error *err)
{
	cJSON *entry = tree_object(tree, parent, a->name);
	cJSON *tools = tree_object(tree, entry, "tools");
	cJSON *parameters = tree_object(tree, entry, "parameters");
	cJSON *stamps = tree_array(tree, entry, "inputs");
	cJSON *from = tree_array(tree, entry, "from");
	for (size_t i = 0; i < a->line_count; i++) {
		const struct release_line *line = &a->lines[i];
		if (is_kind(line, "tool") && !add_tool(tree, tools, folder, line->fields[1], err))
			return false;
		if (is_kind(line, "parameter"))
			tree_text(tree, parameters, line->fields[1], line->fields[2]);
		if (is_kind(line, "from"))
			tree_text(tree, from, NULL, line->fields[1]);
		if (!is_kind(line, "stamp"))
			continue;
		tree_text(tree, stamps, NULL, line->fields[1]);
		if (!add_stamp(tree, inputs, folder, line->fields[1], err))
			return false;
	}
	return true;
}

static bool describe(struct json_tree *tree, const struct release *r, const char *folder,
                     error *err)
{
	*tree = tree_new();
	tree_number(tree, tree->root, "quern_lock", 1);
	cJSON *inputs = tree_object(tree, tree->root, "inputs");
	cJSON *artifacts = tree_object(tree, tree->root, "artifacts");
	bool ok = true;
	for (size_t i = 0; ok && !tree->failed && i < r->count; i++)
		ok = describe_artifact(tree, artifacts, inputs, &r->artifacts[i], folder, err);
	if (ok && !tree->failed)
		return true;
	tree_free(tree);
	return ok ? fail_memory(err, "the lock", 0) : false;
}

/* The file of an output line, relative to the tree; NULL for other lines. */
static const char *output_of(const struct release_line *line)
{
	return is_kind(line, "output") ? line->fields[1]
	       : is_kind(line, "list") ? line->fields[2] : NULL;
}

bool release_lock(const struct release *r, const char *folder, text *out, error *err)
{
	struct json_tree tree;
	if (!describe(&tree, r, folder, err))
		return false;
	bool ok = true;
	const cJSON *artifacts = field(tree.root, "artifacts");
	for (size_t i = 0; ok && i < r->count; i++) {
		const struct artifact *a = &r->artifacts[i];
		cJSON *outputs = tree_object(&tree, cJSON_GetObjectItemCaseSensitive(artifacts,
		                                                                     a->name),
		                             "outputs");
		for (size_t k = 0; ok && k < a->line_count; k++) {
			const char *output = output_of(&a->lines[k]);
			char path[PATH_BYTES];
			struct digest digest;
			uint64_t bytes;
			if (!output)
				continue;
			ok = join_path(path, sizeof path, folder, output, err) &&
			     digest_file(path, &digest, &bytes, err);
			if (ok)
				tree_text(&tree, outputs, output, digest.hex);
		}
	}
	if (!ok) {
		tree_free(&tree);
		return false;
	}
	return tree_finish(&tree, out, err);
}

/* ---- checking ---- */

/* Digests of files met in one check, by inode: files that several checkpoints link
 * are read once. */
struct seen_file {
	dev_t device;
	ino_t inode;
	struct digest digest;
};

struct check {
	const char *folder;
	const json_doc *lock;
	const cJSON *now; /* root of the description */
	text *report;
	int *faults;
	const char *faulty; /* the name reported last */
	struct seen_file *seen;
	size_t seen_count, seen_capacity;
};

/* One line an artifact: its first fault. */
static void report(struct check *c, const char *what, const char *name, const char *why)
{
	if (c->faulty == name)
		return;
	c->faulty = name;
	text_printf(c->report, "%-8s %s: %s\n", what, name, why);
	++*c->faults;
}

static bool digest_once(struct check *c, const char *path, const struct stat *st,
                        struct digest *out, error *err)
{
	uint64_t bytes;
	for (size_t i = 0; i < c->seen_count; i++)
		if (c->seen[i].device == st->st_dev && c->seen[i].inode == st->st_ino) {
			*out = c->seen[i].digest;
			return true;
		}
	if (c->seen_count == c->seen_capacity) {
		size_t capacity = c->seen_capacity ? 2 * c->seen_capacity : 256;
		struct seen_file *grown = realloc(c->seen, capacity * sizeof *grown);
		if (!grown)
			return fail_memory(err, "the files of the check", capacity * sizeof *grown);
		c->seen = grown;
		c->seen_capacity = capacity;
	}
	if (!digest_file(path, out, &bytes, err))
		return false;
	c->seen[c->seen_count++] = (struct seen_file){ .device = st->st_dev,
		.inode = st->st_ino, .digest = *out };
	return true;
}

/* Adds up to MOST_REASONS things in which two objects of texts differ. */
static void add_reasons(text *reasons, int *count, const char *what, const cJSON *locked,
                        const cJSON *now)
{
	for (const cJSON *item = now ? now->child : NULL; item; item = item->next) {
		const cJSON *before = field(locked, item->string);
		if (before && cJSON_Compare(before, item, true))
			continue;
		if (++*count <= MOST_REASONS)
			text_printf(reasons, "%s%s %s %s", *count > 1 ? "; " : "", what,
			            item->string, before ? "changed" : "is new");
	}
	for (const cJSON *item = locked ? locked->child : NULL; item; item = item->next)
		if (!field(now, item->string) && ++*count <= MOST_REASONS)
			text_printf(reasons, "%s%s %s is gone", *count > 1 ? "; " : "", what,
			            item->string);
}

/* What would give another key than the locked one. */
static bool check_key(struct check *c, const char *name, const cJSON *locked,
                      const cJSON *now, error *err)
{
	text reasons = { 0 };
	int count = 0;
	const cJSON *locked_inputs = field(c->lock->root, "inputs");
	const cJSON *inputs = field(c->now, "inputs");
	add_reasons(&reasons, &count, "the sources of", field(locked, "tools"),
	            field(now, "tools"));
	add_reasons(&reasons, &count, "parameter", field(locked, "parameters"),
	            field(now, "parameters"));
	if (!cJSON_Compare(field(locked, "inputs"), field(now, "inputs"), true) ||
	    !cJSON_Compare(field(locked, "from"), field(now, "from"), true))
		if (++count <= MOST_REASONS)
			text_printf(&reasons, "%sit is made from other things", count > 1 ? "; " : "");
	const cJSON *stamps = field(now, "inputs");
	for (const cJSON *stamp = stamps ? stamps->child : NULL; stamp; stamp = stamp->next) {
		char what[256];
		const char *slash = strrchr(stamp->valuestring, '/');
		snprintf(what, sizeof what, "%s:", slash ? slash + 1 : stamp->valuestring);
		add_reasons(&reasons, &count, what, field(locked_inputs, stamp->valuestring),
		            field(inputs, stamp->valuestring));
	}
	if (count > MOST_REASONS)
		text_printf(&reasons, "; and %d more", count - MOST_REASONS);
	bool ok = text_ok(&reasons, err);
	if (ok && count)
		report(c, "stale", name, reasons.data);
	text_free(&reasons);
	return ok;
}

/* Why a file is not what it should be, or "". */
static bool compare_file(struct check *c, const char *path, const char *expected,
                         char why[PATH_BYTES + 64], const char **kind, error *err)
{
	struct stat st;
	struct digest digest;
	*kind = NULL;
	if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) {
		*kind = "missing";
		snprintf(why, PATH_BYTES + 64, "%s is not there", path);
		return true;
	}
	if (!digest_once(c, path, &st, &digest, err))
		return false;
	if (strcmp(digest.hex, expected) != 0) {
		*kind = "damaged";
		snprintf(why, PATH_BYTES + 64, "%s has digest %.12s..., expected %.12s...", path,
		         digest.hex, expected);
	}
	return true;
}

/* Files of a folder that its list lacks. */
static void find_strangers(struct check *c, const char *name, const char *folder,
                           const char *sub, const char *list_path, const cJSON *list)
{
	char path[PATH_BYTES], why[PATH_BYTES + 64];
	struct dirent *entry;
	error unused;
	if (!join_path(path, sizeof path, folder, sub, &unused))
		return;
	DIR *dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		char relative[PATH_BYTES], full[PATH_BYTES];
		struct stat st;
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		    snprintf(relative, sizeof relative, "%s%s%s", sub, *sub ? "/" : "",
		             entry->d_name) >= (int)sizeof relative ||
		    !join_path(full, sizeof full, folder, relative, &unused) ||
		    lstat(full, &st) != 0)
			continue;
		if (S_ISDIR(st.st_mode)) {
			find_strangers(c, name, folder, relative, list_path, list);
		} else if (strcmp(full, list_path) != 0 && strcmp(relative, CARD_FILE) != 0 &&
		           !field(list, relative)) {
			snprintf(why, sizeof why, "%s is in no list of files", full);
			report(c, "foreign", name, why);
		}
	}
	if (dir)
		closedir(dir);
}

static bool check_card(struct check *c, const char *name, const char *folder,
                       const char *list_path, error *err)
{
	char path[PATH_BYTES];
	if (card_check(folder, list_path, err))
		return true;
	if (err->code != EXIT_BAD_INPUT || !join_path(path, sizeof path, folder, CARD_FILE, err))
		return false;
	report(c, file_exists(path) ? "damaged" : "missing", name, err->text);
	return true;
}

/* A checkpoint against its own list of files. */
static bool check_folder(struct check *c, const char *name, const char *folder,
                         const char *list_path, bool *whole, error *err)
{
	json_doc list;
	char why[PATH_BYTES + 64];
	int before = *c->faults;
	*whole = false;
	if (!json_load(&list, list_path, MAX_JSON_BYTES, err)) {
		if (err->code == EXIT_BAD_INPUT)
			report(c, "damaged", name, err->text);
		return err->code == EXIT_BAD_INPUT;
	}
	bool ok = true;
	for (const cJSON *file = list.root->child; ok && file; file = file->next) {
		const cJSON *sha256 = field(file, "sha256");
		char path[PATH_BYTES];
		const char *kind = NULL;
		if (!cJSON_IsString(sha256) || !file->string || strstr(file->string, ".."))
			report(c, "damaged", name, "its list of files is none");
		else if ((ok = join_path(path, sizeof path, folder, file->string, err) &&
		               compare_file(c, path, sha256->valuestring, why, &kind, err)) &&
		         kind)
			report(c, kind, name, why);
	}
	ok = ok && check_card(c, name, folder, list_path, err);
	find_strangers(c, name, folder, "", list_path, list.root);
	json_free(&list);
	*whole = *c->faults == before;
	return ok;
}

static bool check_output(struct check *c, const struct artifact *a,
                         const struct release_line *line, const cJSON *locked, error *err)
{
	const char *output = output_of(line), *kind = NULL;
	const cJSON *expected = field(field(locked, "outputs"), output);
	char path[PATH_BYTES], folder[PATH_BYTES], why[PATH_BYTES + 64];
	bool whole = true;
	if (!cJSON_IsString(expected)) {
		report(c, "missing", a->name, "the lock has no digest of its output");
		return true;
	}
	if (!join_path(path, sizeof path, c->folder, output, err) ||
	    !compare_file(c, path, expected->valuestring, why, &kind, err))
		return false;
	bool missing = kind && strcmp(kind, "missing") == 0;
	if (missing && !a->published)
		return true;
	if (!missing && is_kind(line, "list") &&
	    !(join_path(folder, sizeof folder, c->folder, line->fields[1], err) &&
	      check_folder(c, a->name, folder, path, &whole, err)))
		return false;
	if (missing)
		report(c, "missing", a->name, why);
	else if (kind && whole)
		report(c, "foreign", a->name, why);
	return true;
}

static bool check_artifact(struct check *c, const struct artifact *a, error *err)
{
	const cJSON *locked = field(field(c->lock->root, "artifacts"), a->name);
	if (!locked) {
		report(c, "missing", a->name, "the lock does not have it; run ninja lock");
		return true;
	}
	if (!check_key(c, a->name, locked, field(field(c->now, "artifacts"), a->name), err))
		return false;
	for (size_t i = 0; i < a->line_count && c->faulty != a->name; i++)
		if (output_of(&a->lines[i]) &&
		    !check_output(c, a, &a->lines[i], locked, err))
			return false;
	return true;
}

bool release_check(const struct release *r, const char *folder, const char *lock,
                   text *out, int *faults, error *err)
{
	json_doc doc;
	struct json_tree now;
	*faults = 0;
	if (!json_load(&doc, lock, MAX_JSON_BYTES, err))
		return false;
	bool ok = field(doc.root, "artifacts") && field(doc.root, "inputs");
	if (!ok)
		json_fail(&doc, doc.root, err, "expected a lock with artifacts and inputs");
	if (!ok || !describe(&now, r, folder, err)) {
		json_free(&doc);
		return false;
	}
	struct check c = { .folder = folder, .lock = &doc, .now = now.root, .report = out,
		.faults = faults };
	for (size_t i = 0; ok && i < r->count; i++)
		ok = check_artifact(&c, &r->artifacts[i], err);
	const cJSON *artifacts = field(doc.root, "artifacts");
	for (const cJSON *locked = artifacts->child; ok && locked; locked = locked->next)
		if (!field(field(now.root, "artifacts"), locked->string))
			report(&c, "foreign", locked->string, "the catalog does not make it");
	free(c.seen);
	tree_free(&now);
	json_free(&doc);
	return ok && text_ok(out, err);
}
