/* Comparing published checkpoints by the digests of their groups' files, which
 * verification holds against the bytes; or, where one of them is packed into shards, by
 * digests of the weights themselves. See diversity.h. */
#include "lib/quant/diversity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/arena.h"
#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/base/json_tree.h"
#include "lib/checkpoint/names.h"
#include "lib/quant/checkpoint_draft.h"
#include "lib/quant/formats/format.h"
#include "lib/quant/group_digests.h"

enum { MAX_JSON_BYTES = 64 << 20 };

/* One checkpoint: for each of its groups the digest, and what it is in. */
struct member {
	json_doc list, coverage, manifest;
	const char *scheme;
	struct group_digest *groups;
	int group_count;
	int selected;
	arena memory;
};

/* A group file is called <module>.<element, "plain" or "bf16">.safetensors; others have no
 * dot before the ending. */
static size_t module_length(const char *file)
{
	static const char ending[] = ".safetensors";
	size_t length = strlen(file), tail = sizeof ending - 1;
	if (length <= tail || strcmp(file + length - tail, ending) != 0)
		return 0;
	const char *dot = memrchr(file, '.', length - tail);
	return dot ? (size_t)(dot - file) : 0;
}

/* <stem><suffix> beside the list of files. */
static bool load_beside(json_doc *doc, const char *list, const char *suffix, error *err)
{
	char path[PATH_BYTES];
	size_t stem = strlen(list) - strlen(FILES_SUFFIX);
	int length = snprintf(path, sizeof path, "%.*s%s", (int)stem, list, suffix);
	if (length < 0 || (size_t)length >= sizeof path)
		return fail(err, EXIT_BAD_INPUT, "%.100s...: path is too long", list);
	return json_load(doc, path, MAX_JSON_BYTES, err);
}

static bool load_member(struct member *m, const char *list, error *err)
{
	size_t length = strlen(list), tail = strlen(FILES_SUFFIX);
	if (length < tail || strcmp(list + length - tail, FILES_SUFFIX) != 0)
		return fail(err, EXIT_USAGE, "%s: expected a list of files, *" FILES_SUFFIX, list);
	return json_load(&m->list, list, MAX_JSON_BYTES, err) &&
	       load_beside(&m->coverage, list, "_coverage_from_baseline.json", err) &&
	       load_beside(&m->manifest, list, "_quant_manifest.json", err) &&
	       json_text(&m->coverage, m->coverage.root, "scheme_name", &m->scheme, err);
}

/* The groups by their files; none when the weights are in shards. */
static bool list_group_files(struct member *m, error *err)
{
	int most = cJSON_GetArraySize(m->list.root);
	m->groups = arena_alloc(&m->memory, (size_t)most, sizeof *m->groups, err);
	for (const cJSON *f = m->groups ? m->list.root->child : NULL; f; f = f->next) {
		size_t length = module_length(f->string);
		const char *sha256;
		if (!length)
			continue;
		struct group_digest *group = &m->groups[m->group_count++];
		group->module = arena_text(&m->memory, f->string, length, err);
		if (!group->module || !json_text(&m->list, f, "sha256", &sha256, err))
			return false;
		if (!digest_parse(sha256, strlen(sha256), &group->digest))
			return json_fail(&m->list, f, err, "expected a SHA-256");
	}
	return m->groups != NULL;
}

static bool read_groups(struct member *m, error *err)
{
	char folder[PATH_BYTES];
	const char *path = m->list.name, *at = strstr(path, "/" SENSITIVITY_FOLDER "/");
	snprintf(folder, sizeof folder, "%.*s", at ? (int)(at - path) : 1, at ? path : ".");
	return digest_groups(folder, &m->memory, &m->groups, &m->group_count, err);
}

/* One packed checkpoint makes all be read: only digests of the same thing compare. */
static bool find_groups(struct member *members, int count, error *err)
{
	bool packed = false;
	for (int i = 0; i < count; i++) {
		if (!list_group_files(&members[i], err))
			return false;
		packed |= members[i].group_count == 0;
	}
	for (int i = 0; packed && i < count; i++)
		if (!read_groups(&members[i], err))
			return false;
	return true;
}

static const cJSON *field(const cJSON *object, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(object, name);
}

/* What the group is in: the manifest's word of its first layer, by provenance a format;
 * NULL where it is as it was. */
static const cJSON *kept_format(const struct member *m, const char *module)
{
	const cJSON *layer = field(field(m->manifest.root, "layers"), module);
	const cJSON *formats = field(field(m->manifest.root, "provenance"), "formats");
	const char *name = cJSON_GetStringValue(field(layer, "format"));
	return cJSON_IsTrue(field(layer, "quantized")) && name ? field(formats, name) : NULL;
}

/* The digest of the group in m, or NULL. */
static const char *group_digest(const struct member *m, const char *module)
{
	for (int g = 0; g < m->group_count; g++)
		if (strcmp(m->groups[g].module, module) == 0)
			return m->groups[g].digest.hex;
	return NULL;
}

/* All groups with what each member holds of them: a table made once, so that pairs
 * cost no search. */
struct table {
	int groups, members;
	const char **digests; /* [member][group] */
	const cJSON **formats; /* [member][group]; NULL: as it was */
	const char **names;   /* [group] */
	arena memory;
};

static bool make_table(struct table *t, const struct member *members, int count, error *err)
{
	t->members = count;
	t->groups = members[0].group_count;
	size_t cells = (size_t)t->groups * (size_t)count;
	t->names = arena_alloc(&t->memory, (size_t)t->groups, sizeof *t->names, err);
	t->digests = t->names ? arena_alloc(&t->memory, cells, sizeof *t->digests, err) : NULL;
	t->formats = t->digests ? arena_alloc(&t->memory, cells, sizeof *t->formats, err)
	                        : NULL;
	if (!t->formats)
		return false;
	for (int g = 0; g < t->groups; g++) {
		t->names[g] = members[0].groups[g].module;
		for (int m = 0; m < count; m++) {
			size_t cell = (size_t)m * (size_t)t->groups + (size_t)g;
			t->digests[cell] = group_digest(&members[m], t->names[g]);
			t->formats[cell] = kept_format(&members[m], t->names[g]);
			if (!t->digests[cell])
				return fail(err, EXIT_BAD_INPUT, "%s: expected weights of group %s",
				            members[m].list.name, t->names[g]);
		}
	}
	return true;
}

enum expected { EQUAL, DIFFERENT, EITHER };

static const struct format *find_format(const cJSON *format)
{
	const char *element = cJSON_GetStringValue(field(format, "element"));
	const char *granularity = cJSON_GetStringValue(field(format, "granularity"));
	return element && granularity ? format_find(element, granularity) : NULL;
}

/* Of a group's weights in two formats. Channel scales come from a calibration, and where no
 * norm takes them there are none: such a format's weights are the same for certain only
 * beside those of the same baseline, and other ones for certain only in other numbers. */
static enum expected expect_weights(const struct member *a, const struct member *b,
                                    const cJSON *left, const cJSON *right)
{
	const struct format *x = find_format(left), *y = find_format(right);
	bool same = (!left && !right) || cJSON_Compare(left, right, true);
	if (!x || !y || !(x->channel_scales || y->channel_scales) ||
	    !forms_equal_compressed(&x->form, &y->form))
		return same ? EQUAL : DIFFERENT;
	const cJSON *from = field(a->coverage.root, "baseline_manifest");
	return same && cJSON_Compare(from, field(b->coverage.root, "baseline_manifest"), true)
	               ? EQUAL : EITHER;
}

static bool compare_pair(const struct table *t, const struct member *members, int a, int b,
                         int *differing, error *err)
{
	*differing = 0;
	for (int g = 0; g < t->groups; g++) {
		size_t left = (size_t)a * (size_t)t->groups + (size_t)g;
		size_t right = (size_t)b * (size_t)t->groups + (size_t)g;
		enum expected should = expect_weights(&members[a], &members[b], t->formats[left],
		                                      t->formats[right]);
		bool does = strcmp(t->digests[left], t->digests[right]) != 0;
		if (should != EITHER && (should == DIFFERENT) != does)
			return fail(err, EXIT_BAD_INPUT,
			            "%s and %s: group %s: expected %s weights, found %s",
			            members[a].scheme, members[b].scheme, t->names[g],
			            should == DIFFERENT ? "different" : "equal", does ? "different" : "equal");
		*differing += does;
	}
	return true;
}

static bool compare_all(struct member *members, int count, text *out, error *err)
{
	struct table t = { 0 };
	struct json_tree tree = tree_new();
	cJSON *schemes = tree_object(&tree, tree.root, "quantized_groups");
	bool ok = find_groups(members, count, err) && make_table(&t, members, count, err);
	for (int m = 0; ok && m < count; m++) {
		for (int g = 0; g < t.groups; g++)
			members[m].selected += t.formats[(size_t)m * (size_t)t.groups + (size_t)g] != NULL;
		tree_number(&tree, schemes, members[m].scheme, members[m].selected);
	}
	cJSON *same = tree_array(&tree, tree.root, "identical_by_design");
	cJSON *pairs = tree_array(&tree, tree.root, "pairs");
	for (int a = 0; ok && a < count; a++)
		for (int b = a + 1; ok && b < count; b++) {
			int differing;
			if (!(ok = compare_pair(&t, members, a, b, &differing, err)))
				break;
			cJSON *pair = tree_object(&tree, differing ? pairs : same, NULL);
			tree_text(&tree, pair, "a", members[a].scheme);
			tree_text(&tree, pair, "b", members[b].scheme);
			if (differing)
				tree_number(&tree, pair, "groups_that_differ", differing);
		}
	arena_free(&t.memory);
	if (ok)
		return tree_finish(&tree, out, err);
	tree_free(&tree);
	return false;
}

bool compare_checkpoints(const char *const *lists, int count, text *out, error *err)
{
	struct member *members = calloc((size_t)count + 1, sizeof *members);
	if (!members)
		return fail_memory(err, "the checkpoints", 0);
	bool ok = count > 0 || fail(err, EXIT_USAGE, "expected at least one list of files");
	for (int i = 0; ok && i < count; i++)
		ok = load_member(&members[i], lists[i], err);
	ok = ok && compare_all(members, count, out, err);
	for (int i = 0; i < count; i++) {
		json_free(&members[i].list);
		json_free(&members[i].coverage);
		json_free(&members[i].manifest);
		arena_free(&members[i].memory);
	}
	free(members);
	return ok;
}
