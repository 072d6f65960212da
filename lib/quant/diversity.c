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
#include "lib/quant/assemble.h"
#include "lib/quant/group_digests.h"

enum { MAX_JSON_BYTES = 64 << 20 };

/* One checkpoint: for each of its groups the digest, and whether the coverage selects
 * it. */
struct member {
	json_doc list, coverage;
	const char *scheme;
	struct group_digest *groups;
	int group_count;
	int selected;
	arena memory;
};

/* A group file is called <module>.fp8.safetensors, ... .plain.safetensors or ...
 * .bf16.safetensors. */
static size_t module_length(const char *file)
{
	static const char *const endings[] = { ".fp8.safetensors", ".plain.safetensors",
		".bf16.safetensors" };
	size_t length = strlen(file);
	for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
		size_t tail = strlen(endings[i]);
		if (length > tail && strcmp(file + length - tail, endings[i]) == 0)
			return length - tail;
	}
	return 0;
}

static bool load_member(struct member *m, const char *list, error *err)
{
	char coverage[PATH_BYTES];
	size_t stem = strlen(list) - strlen(FILES_SUFFIX);
	if (strlen(list) < strlen(FILES_SUFFIX) || strcmp(list + stem, FILES_SUFFIX) != 0)
		return fail(err, EXIT_USAGE, "%s: expected a list of files, *" FILES_SUFFIX, list);
	int length = snprintf(coverage, sizeof coverage, "%.*s_coverage_from_baseline.json",
	                      (int)stem, list);
	if (length < 0 || (size_t)length >= sizeof coverage)
		return fail(err, EXIT_BAD_INPUT, "%.100s...: path is too long", list);
	return json_load(&m->list, list, MAX_JSON_BYTES, err) &&
	       json_load(&m->coverage, coverage, MAX_JSON_BYTES, err) &&
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

static bool selects(const struct member *m, const char *module)
{
	const cJSON *names = cJSON_GetObjectItemCaseSensitive(m->coverage.root,
	                                                      "selected_layers");
	size_t length = strlen(module);
	for (const cJSON *name = names ? names->child : NULL; name; name = name->next)
		if (cJSON_IsString(name) && strncmp(name->valuestring, module, length) == 0 &&
		    strcmp(name->valuestring + length, ".quant_recipe") == 0)
			return true;
	return false;
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
	bool *selected;       /* [member][group] */
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
	t->selected = t->digests ? arena_alloc(&t->memory, cells, sizeof *t->selected, err)
	                         : NULL;
	if (!t->selected)
		return false;
	for (int g = 0; g < t->groups; g++) {
		t->names[g] = members[0].groups[g].module;
		for (int m = 0; m < count; m++) {
			size_t cell = (size_t)m * (size_t)t->groups + (size_t)g;
			t->digests[cell] = group_digest(&members[m], t->names[g]);
			t->selected[cell] = selects(&members[m], t->names[g]);
			if (!t->digests[cell])
				return fail(err, EXIT_BAD_INPUT, "%s: expected weights of group %s",
				            members[m].list.name, t->names[g]);
		}
	}
	return true;
}

static bool compare_pair(const struct table *t, const struct member *members, int a, int b,
                         int *differing, error *err)
{
	*differing = 0;
	for (int g = 0; g < t->groups; g++) {
		size_t left = (size_t)a * (size_t)t->groups + (size_t)g;
		size_t right = (size_t)b * (size_t)t->groups + (size_t)g;
		bool should = t->selected[left] != t->selected[right];
		bool does = strcmp(t->digests[left], t->digests[right]) != 0;
		if (should != does)
			return fail(err, EXIT_BAD_INPUT,
			            "%s and %s: group %s: expected %s weights, found %s",
			            members[a].scheme, members[b].scheme, t->names[g],
			            should ? "different" : "equal", does ? "different" : "equal");
		*differing += does;
	}
	return true;
}

static bool compare_all(struct member *members, int count, text *out, error *err)
{
	struct table t = { 0 };
	struct json_tree tree = tree_new();
	cJSON *schemes = tree_object(&tree, tree.root, "fp8_groups");
	bool ok = find_groups(members, count, err) && make_table(&t, members, count, err);
	for (int m = 0; ok && m < count; m++) {
		for (int g = 0; g < t.groups; g++)
			members[m].selected += t.selected[(size_t)m * (size_t)t.groups + (size_t)g];
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
		arena_free(&members[i].memory);
	}
	free(members);
	return ok;
}
