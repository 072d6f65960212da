/* Describing checkpoints; see describe.h.
 *
 * The list of all files with their digests is what verify starts from; the model card,
 * which names the digest of the list, comes last. */
#include "lib/quant/describe.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "lib/artifact/card.h"
#include "lib/model/linears.h"
#include "lib/quant/formats/format.h"
#include "lib/quant/model_card.h"
#include "lib/quant/provenance.h"

enum { MAX_LIST_BYTES = 64 << 20 };

/* ---- reading ---- */

/* An element as people write it: "FP8" of "fp8_e4m3". */
static void spell_element(const struct format *f, char *out, size_t size)
{
	size_t length = 0;
	for (; length + 1 < size && f->element[length] && f->element[length] != '_'; length++)
		out[length] = (char)toupper((unsigned char)f->element[length]);
	out[length] = '\0';
}

static bool is_kept(const struct described *d, const char *format)
{
	const struct baseline *b = &d->baseline;
	for (int g = 0; g < b->count; g++)
		if (d->coverage.keeps[g] &&
		    strcmp(b->groups[g].formats[d->coverage.choice[g]], format) == 0)
			return true;
	return false;
}

/* "FP8", "FP8 and NVFP4", "FP8, INT8 and INT4": what groups are in; of a scheme that keeps
 * none, what they could have been in. */
static bool name_elements(struct described *d, error *err)
{
	const json_doc *doc = &d->baseline.doc;
	char names[MAX_FORMATS][16];
	int count = 0;
	const cJSON *provenance = json_object(doc, doc->root, "provenance", err);
	const cJSON *formats = provenance ? json_object(doc, provenance, "formats", err) : NULL;
	if (!formats)
		return false;
	for (const cJSON *f = formats->child; f && count < MAX_FORMATS; f = f->next) {
		const struct format *format = provenance_format(doc, f->string, err);
		int known = 0;
		if (!format)
			return false;
		if (d->coverage.selected && !is_kept(d, f->string))
			continue;
		spell_element(format, names[count], sizeof names[count]);
		while (known < count && strcmp(names[known], names[count]) != 0)
			known++;
		count += known == count;
	}
	size_t used = 0;
	for (int i = 0; i < count && used < sizeof d->elements; i++)
		used += (size_t)snprintf(d->elements + used, sizeof d->elements - used, "%s%s",
		                         i == 0 ? "" : i == count - 1 ? " and " : ", ", names[i]);
	return true;
}

/* The first member's name is the group's. */
static bool folds_into_norm(const struct format *format, const char *group)
{
	char linear[NAME_BYTES], norm[NAME_BYTES];
	const char *suffix = strstr(group, ".quant_recipe");
	int length = suffix ? (int)(suffix - group) : (int)strlen(group);
	return format->channel_scales &&
	       snprintf(linear, sizeof linear, "%.*s", length, group) < (int)sizeof linear &&
	       norm_of_linear(linear, norm);
}

/* What the formats of the selected groups do to the tensors. */
static bool look_at_formats(struct described *d, error *err)
{
	const struct baseline *b = &d->baseline;
	d->bilingual = true;
	for (int g = 0; g < b->count; g++) {
		if (!d->coverage.keeps[g])
			continue;
		const struct format *format = provenance_format(
			&b->doc, b->groups[g].formats[d->coverage.choice[g]], err);
		if (!format)
			return false;
		d->bilingual = d->bilingual && format->form.bilingual;
		d->folded = d->folded || folds_into_norm(format, b->groups[g].name);
	}
	return true;
}

bool description_read(struct described *d, const struct description *from, error *err)
{
	char path[PATH_BYTES];
	*d = (struct described){ .from = from };
	if (!baseline_read(&d->baseline, from->baseline, err))
		return false;
	if (join_path(path, sizeof path, from->slice, "slice.json", err) &&
	    coverage_read(&d->coverage, &d->baseline, path, err) && name_elements(d, err) &&
	    look_at_formats(d, err))
		return true;
	description_free(d);
	return false;
}

void description_free(struct described *d)
{
	coverage_free(&d->coverage);
	baseline_free(&d->baseline);
	*d = (struct described){ 0 };
}

/* ---- manifests and tables ---- */

/* The folder part of a path, "." if it has none. */
static void folder_of(const char *path, char *out, size_t size)
{
	const char *slash = strrchr(path, '/');
	snprintf(out, size, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
}

struct table {
	char name[PATH_BYTES]; /* in the checkpoint */
	char path[PATH_BYTES];
	bool shared; /* with the baseline's other schemes */
};

struct tables {
	struct table tables[6];
	int count;
};

static bool list_table(struct tables *t, const char *folder, const char *file, const char *as,
                       bool shared, error *err)
{
	struct table *table = &t->tables[t->count++];
	table->shared = shared;
	return join_path(table->path, sizeof table->path, folder, file, err) &&
	       join_path(table->name, sizeof table->name, SENSITIVITY_FOLDER, as, err);
}

static bool list_tables(struct tables *t, const struct described *d, error *err)
{
	static const char *const same[] = { "per-layer-sensitivity.md",
		"per-layer-sensitivity.json" };
	const struct description *from = d->from;
	char folder[PATH_BYTES], own[PATH_BYTES], coverage[PATH_BYTES], inherited[PATH_BYTES],
	     state[PATH_BYTES];
	t->count = 0;
	folder_of(from->baseline, folder, sizeof folder);
	snprintf(own, sizeof own, "%s_quant_manifest.json", from->file_name);
	snprintf(coverage, sizeof coverage, "%s_coverage_from_baseline.json", from->file_name);
	snprintf(inherited, sizeof inherited, "%s_quant_manifest.json", d->baseline.name);
	snprintf(state, sizeof state, "%s_autoquant_state.json", d->baseline.name);
	return list_table(t, from->slice, "manifest.json", own, false, err) &&
	       list_table(t, from->slice, "slice.json", coverage, false, err) &&
	       (strcmp(own, inherited) == 0 ||
	        list_table(t, folder, inherited, inherited, true, err)) &&
	       list_table(t, folder, state, state, true, err) &&
	       list_table(t, folder, same[0], same[0], true, err) &&
	       list_table(t, folder, same[1], same[1], true, err);
}

static bool add_tables(struct checkpoint_draft *to, const struct described *d, error *err)
{
	struct tables t;
	bool ok = list_tables(&t, d, err);
	for (int i = 0; ok && i < t.count; i++)
		ok = (t.tables[i].shared ? add_shared : add_copy)(to, t.tables[i].name,
		                                                  t.tables[i].path, err);
	return ok;
}

/* As they would be listed. */
static bool record_tables(struct json_tree *files, const struct described *d, error *err)
{
	struct tables t;
	bool ok = list_tables(&t, d, err);
	for (int i = 0; ok && i < t.count; i++) {
		struct digest digest;
		uint64_t bytes;
		ok = digest_file(t.tables[i].path, &digest, &bytes, err);
		if (ok)
			record_file(files, t.tables[i].name, &digest, bytes);
	}
	return ok;
}

/* ---- list and card ---- */

static void name_list(const struct description *from, char *name, size_t size)
{
	snprintf(name, size, SENSITIVITY_FOLDER "/%s" FILES_SUFFIX, from->file_name);
}

/* The card is no part of the list, whose digest it names. */
static bool write_card(struct checkpoint_draft *to, const struct described *d,
                       const struct digest *list, error *err)
{
	text card = { 0 };
	const struct card_facts facts = { .scheme = d->from->scheme, .elements = d->elements,
		.bilingual = d->bilingual, .folded = d->folded, .file_name = d->from->file_name,
		.profile = d->from->profile, .baseline = &d->baseline, .coverage = &d->coverage,
		.model = d->from->model, .list = list };
	bool ok = print_model_card(&facts, &card, err) &&
	          draft_write(&to->draft, CARD_FILE, card.data, card.length, err);
	to->written += card.length;
	text_free(&card);
	return ok;
}

static bool write_list_and_card(struct checkpoint_draft *to, const struct described *d,
                                const text *list, error *err)
{
	char name[PATH_BYTES];
	struct digest digest;
	name_list(d->from, name, sizeof name);
	return draft_write(&to->draft, name, list->data, list->length, err) &&
	       digest_bytes(list->data, list->length, &digest, err) &&
	       write_card(to, d, &digest, err);
}

bool add_description(struct checkpoint_draft *to, const struct described *d, error *err)
{
	text list = { 0 };
	bool ok = add_tables(to, d, err) && tree_finish(&to->files, &list, err) &&
	          write_list_and_card(to, d, &list, err);
	text_free(&list);
	return ok;
}

/* ---- of a published checkpoint ---- */

struct redescription {
	const struct described *what;
	const char *list_path;
	char folder[PATH_BYTES];
	json_doc list; /* of the folder as it is */
	struct checkpoint_draft to;
};

static bool is_said(const char *name)
{
	return strncmp(name, SENSITIVITY_FOLDER "/", strlen(SENSITIVITY_FOLDER "/")) == 0;
}

/* What the checkpoint is stays: so its entries do. */
static bool take_entries(const struct redescription *r, struct json_tree *files, error *err)
{
	if (!cJSON_IsObject(r->list.root))
		return json_fail(&r->list, r->list.root, err, "expected an object");
	for (const cJSON *file = r->list.root->child; file; file = file->next) {
		if (!cJSON_IsObject(file) || strstr(file->string, "..") || file->string[0] == '/')
			return json_fail(&r->list, file, err, "expected a file of this folder");
		if (!is_said(file->string))
			tree_copy(files, files->root, file->string, file);
	}
	return true;
}

/* Further names of the files in the published folder, before the list is written, so that
 * it is the younger where they are copies. A hard link first: that changes no date. */
static bool take_files(struct redescription *r, error *err)
{
	for (const cJSON *file = r->list.root->child; file; file = file->next) {
		char path[PATH_BYTES];
		if (!is_said(file->string) &&
		    !(join_path(path, sizeof path, r->folder, file->string, err) &&
		      draft_link(&r->to.draft, path, file->string, LINK_ANY & ~LINK_REFLINK, err)))
			return false;
	}
	return true;
}

/* Another export may have published the folder meanwhile. */
static bool check_unchanged(const struct redescription *r, error *err)
{
	struct digest before, now;
	uint64_t bytes;
	if (!digest_bytes(r->list.text, r->list.size, &before, err) ||
	    !digest_file(r->list_path, &now, &bytes, err))
		return false;
	return digest_equal(&before, &now) ||
	       fail(err, EXIT_BAD_INPUT, "%s: changed while it was described; build again",
	            r->list_path);
}

static bool says_so_already(const struct redescription *r, bool *already, error *err)
{
	struct json_tree files = tree_new();
	text list = { 0 };
	if (!take_entries(r, &files, err) || !record_tables(&files, r->what, err)) {
		tree_free(&files);
		return false;
	}
	bool ok = tree_finish(&files, &list, err);
	*already = ok && list.length == r->list.size &&
	           memcmp(list.data, r->list.text, list.length) == 0;
	text_free(&list);
	if (*already && !card_check(r->folder, r->list_path, err)) {
		*already = false;
		ok = err->code == EXIT_BAD_INPUT;
	}
	return ok;
}

static bool publish_anew(struct redescription *r, const char *tree, error *err)
{
	struct checkpoint_draft *to = &r->to;
	if (!checkpoint_begin(to, tree, r->folder, err))
		return false;
	bool ok = take_entries(r, &to->files, err) && take_files(r, err) &&
	          add_description(to, r->what, err) && check_unchanged(r, err);
	if (!ok)
		checkpoint_abandon(to);
	ok = ok && draft_publish(&to->draft, err);
	checkpoint_end(to);
	return ok;
}

/* The checkpoint's folder, which the list lies in as its name says. */
static bool find_folder(struct redescription *r, const struct description *from, error *err)
{
	char name[PATH_BYTES];
	name_list(from, name, sizeof name);
	size_t length = strlen(r->list_path), tail = strlen(name);
	if (length > tail + 1 && length < sizeof r->folder &&
	    r->list_path[length - tail - 1] == '/' &&
	    strcmp(r->list_path + length - tail, name) == 0) {
		snprintf(r->folder, sizeof r->folder, "%.*s", (int)(length - tail - 1),
		         r->list_path);
		return true;
	}
	return fail(err, EXIT_USAGE, "%s: expected a list of files, CHECKPOINT/%s", r->list_path,
	            name);
}

bool describe_checkpoint(const struct description *from, const char *tree, const char *list,
                         uint64_t *written, error *err)
{
	struct described what;
	struct redescription r = { .what = &what, .list_path = list };
	if (!find_folder(&r, from, err) || !description_read(&what, from, err))
		return false;
	bool already = false, ok = json_load(&r.list, list, MAX_LIST_BYTES, err);
	if (ok) {
		ok = says_so_already(&r, &already, err) && (already || publish_anew(&r, tree, err));
		json_free(&r.list);
	}
	*written = r.to.written;
	description_free(&what);
	return ok;
}
