/* Coverage manifests: writing quern's, reading quern's and the original drivers'. */
#include <string.h>

#include "lib/quant/slice.h"

enum { MAX_COVERAGE_BYTES = 64 << 20 };

static void add_names(struct json_tree *tree, const struct coverage *c,
                      const struct baseline *b, const char *field, int first, int end)
{
	cJSON *names = tree_array(tree, tree->root, field);
	for (int i = first; i < end; i++)
		tree_text(tree, names, NULL, b->groups[c->order[i]].name);
}

/* Selected by the rule, left in BF16 because nothing could load them. */
static void add_not_exportable(struct json_tree *tree, const struct coverage *c,
                               const struct baseline *b)
{
	cJSON *names = tree_array(tree, tree->root, "not_exportable");
	for (int i = 0; i < b->count; i++)
		if (c->wanted[b->ranking[i]] && !c->keeps[b->ranking[i]])
			tree_text(tree, names, NULL, b->groups[b->ranking[i]].name);
}

static void add_baseline_paths(struct json_tree *tree, const char *folder,
                               const char *manifest_file)
{
	text path = { 0 };
	text_printf(&path, "../../%s", folder);
	tree_text(tree, tree->root, "baseline_dir", path.data ? path.data : "");
	text_printf(&path, "/layer-sensitivity/%s", manifest_file);
	tree_text(tree, tree->root, "baseline_manifest", path.data ? path.data : "");
	tree->failed |= path.failed;
	text_free(&path);
}

static void add_globs(struct json_tree *tree, const char *field, const struct globs *globs)
{
	if (!globs->count)
		return;
	cJSON *list = tree_array(tree, tree->root, field);
	for (int i = 0; i < globs->count; i++)
		tree_text(tree, list, NULL, globs->values[i]);
}

/* How the choice came about, beyond the selection. */
static void add_search(struct json_tree *tree, const struct coverage *c)
{
	const struct rule *rule = &c->rule;
	if (rule->bits > 0)
		tree_number(tree, tree->root, "effective_bits", rule->bits);
	if (rule->budget > 0) {
		tree_number(tree, tree->root, "budget", rule->budget);
		tree_number(tree, tree->root, "cost", c->cost);
		tree_text(tree, tree->root, "cost_unit", c->unit ? c->unit : "");
	}
	if (rule->bits > 0 || rule->budget > 0)
		tree_number(tree, tree->root, "search_gap", c->gap);
	add_globs(tree, "pin_bf16", &rule->pin_bf16);
	add_globs(tree, "pin_quantized", &rule->pin_quantised);
	add_globs(tree, "cost_exclude", &rule->cost_exclude);
}

/* The formats of the selected groups, where there was more than one to choose from. */
static void add_formats(struct json_tree *tree, const struct coverage *c,
                        const struct baseline *b)
{
	bool several = false;
	for (int g = 0; g < b->count; g++)
		several |= b->groups[g].format_count > 2;
	if (!several)
		return;
	cJSON *formats = tree_object(tree, tree->root, "formats");
	for (int i = 0; i < c->selected; i++) {
		const struct scored_group *group = &b->groups[c->order[i]];
		tree_text(tree, formats, group->name, group->formats[c->choice[c->order[i]]]);
	}
}

void add_coverage_blocks(struct json_tree *tree, const struct coverage *c)
{
	if (!c->block_count)
		return;
	cJSON *blocks = tree_array(tree, tree->root, "blocks");
	for (int i = 0; i < c->block_count; i++) {
		const struct scored_block *block = &c->blocks[i];
		cJSON *entry = tree_object(tree, blocks, NULL);
		tree_text(tree, entry, "name", block->name);
		tree_number(tree, entry, "score", block->score);
		tree_number(tree, entry, "rank", block->rank);
		tree_boolean(tree, entry, "selected", block->selected);
	}
}

double coverage_percent(const struct coverage *c)
{
	switch (c->rule.kind) {
	case RULE_FULL: return 100;
	case RULE_TOP_PERCENT:
	case RULE_TOP_BLOCKS: return c->rule.percent;
	case RULE_LIST:
	case RULE_MANIFEST: break;
	}
	return 100.0 * c->asked / c->total;
}

bool print_coverage(const struct coverage *c, const struct baseline *b,
                    const char *baseline_folder, const char *manifest_file, text *out,
                    error *err)
{
	struct json_tree tree = tree_new();
	double percent = coverage_percent(c);
	add_baseline_paths(&tree, baseline_folder, manifest_file);
	tree_text(&tree, tree.root, "scheme_name", c->scheme);
	tree_text(&tree, tree.root, "coverage_mode", rule_kind_name(c->rule.kind));
	tree_number(&tree, tree.root, "top_percent", percent);
	tree_number(&tree, tree.root, "coverage_fraction", percent / 100);
	tree_number(&tree, tree.root, "num_layers_total", c->total);
	tree_number(&tree, tree.root, "num_layers_asked", c->asked);
	tree_number(&tree, tree.root, "num_layers_selected", c->selected);
	tree_number(&tree, tree.root, "num_layers_dropped", c->total - c->selected);
	tree_number(&tree, tree.root, "asked_bits", c->asked_bits);
	tree_number(&tree, tree.root, "delivered_bits", c->delivered_bits);
	kv_format_add(&tree, tree.root, &c->kv_cache);
	add_search(&tree, c);
	add_names(&tree, c, b, "selected_layers", 0, c->selected);
	add_names(&tree, c, b, "dropped_layers", c->selected, c->total);
	add_not_exportable(&tree, c, b);
	add_formats(&tree, c, b);
	add_coverage_blocks(&tree, c);
	return tree_finish(&tree, out, err);
}

static int find_scored(const struct baseline *b, const char *name)
{
	for (int i = 0; i < b->count; i++)
		if (strcmp(b->groups[i].name, name) == 0)
			return i;
	return -1;
}

/* Marks the groups a list of the file names; each must be known and new. */
static bool read_names(struct coverage *c, const struct baseline *b,
                       const json_doc *doc, const char *field, bool keep, bool *seen,
                       error *err)
{
	const cJSON *names = json_array(doc, doc->root, field, err);
	if (!names)
		return false;
	for (const cJSON *item = names->child; item; item = item->next) {
		if (!cJSON_IsString(item))
			return json_fail(doc, item, err, "expected a group's name");
		int group = find_scored(b, item->valuestring);
		if (group < 0)
			return json_fail(doc, item, err, "no group \"%s\" in baseline %s",
			                 item->valuestring, b->name);
		if (seen[group])
			return json_fail(doc, item, err, "group \"%s\" is named twice",
			                 item->valuestring);
		seen[group] = true;
		c->wanted[group] = keep;
		c->keeps[group] = keep && can_keep(&b->groups[group]);
	}
	return true;
}

/* Dropped only because nothing could load them. */
static bool read_not_exportable(struct coverage *c, const struct baseline *b,
                                const json_doc *doc, error *err)
{
	if (!cJSON_HasObjectItem(doc->root, "not_exportable"))
		return true;
	const cJSON *names = json_array(doc, doc->root, "not_exportable", err);
	for (const cJSON *item = names ? names->child : NULL; item; item = item->next) {
		int group = cJSON_IsString(item) ? find_scored(b, item->valuestring) : -1;
		if (group < 0 || c->keeps[group])
			return json_fail(doc, item, err, "expected the name of a dropped group");
		c->wanted[group] = true;
	}
	return names != NULL;
}

static int find_format(const struct scored_group *group, const char *name)
{
	for (int f = 0; name && f < group->format_count - 1; f++)
		if (strcmp(group->formats[f], name) == 0)
			return f;
	return -1;
}

/* A manifest that names no formats means each group's only one. */
static bool read_formats(struct coverage *c, const struct baseline *b, const json_doc *doc,
                         error *err)
{
	const cJSON *formats = cJSON_GetObjectItemCaseSensitive(doc->root, "formats");
	if (!formats)
		return true;
	for (int g = 0; g < b->count; g++) {
		const struct scored_group *group = &b->groups[g];
		if (!c->keeps[g])
			continue;
		c->choice[g] = find_format(group, cJSON_GetStringValue(
			cJSON_GetObjectItemCaseSensitive(formats, group->name)));
		if (c->choice[g] < 0)
			return json_fail(doc, formats, err, "expected one of its formats for \"%s\"",
			                 group->name);
	}
	return true;
}

/* Globs into `memory`. */
static bool read_globs(const json_doc *doc, const char *field, struct globs *out,
                       arena *memory, error *err)
{
	if (!cJSON_HasObjectItem(doc->root, field))
		return true;
	const cJSON *list = json_array(doc, doc->root, field, err);
	if (!list || !(out->values = arena_alloc(memory, (size_t)cJSON_GetArraySize(list),
	                                         sizeof *out->values, err)))
		return false;
	for (const cJSON *item = list->child; item; item = item->next) {
		if (!cJSON_IsString(item))
			return json_fail(doc, item, err, "expected a glob on layer names");
		const char *glob = arena_text(memory, item->valuestring, strlen(item->valuestring),
		                              err);
		if (!glob)
			return false;
		out->values[out->count++] = glob;
	}
	return true;
}

static enum rule_kind kind_from_name(const char *name)
{
	for (enum rule_kind kind = RULE_FULL; kind <= RULE_MANIFEST; kind++)
		if (strcmp(rule_kind_name(kind), name) == 0)
			return kind;
	return RULE_TOP_PERCENT;
}

static bool read_groups(struct coverage *c, const struct baseline *b, const json_doc *doc,
                        error *err)
{
	bool *seen = arena_alloc(&c->memory, (size_t)b->count, sizeof *seen, err);
	if (!seen || !read_names(c, b, doc, "selected_layers", true, seen, err) ||
	    !read_names(c, b, doc, "dropped_layers", false, seen, err) ||
	    !read_not_exportable(c, b, doc, err) || !read_formats(c, b, doc, err))
		return false;
	for (int i = 0; i < b->count; i++)
		if (!seen[i])
			return json_fail(doc, doc->root, err,
			                 "group \"%s\" of baseline %s is neither selected nor dropped",
			                 b->groups[i].name, b->name);
	return true;
}

/* The globs live in `memory` until the coverage has taken their effect. */
static bool read_coverage(struct coverage *c, const struct baseline *b,
                          const json_doc *doc, arena *memory, error *err)
{
	const char *scheme, *mode = "top_percent";
	struct rule rule = { 0 };
	int64_t asked = -1;
	if (!json_text(doc, doc->root, "scheme_name", &scheme, err) ||
	    !json_number(doc, doc->root, "top_percent", 0, 100, &rule.percent, err) ||
	    !json_text_or(doc, doc->root, "coverage_mode", &mode, err) ||
	    !json_number_or(doc, doc->root, "effective_bits", 0, 16, &rule.bits, err) ||
	    !json_integer_or(doc, doc->root, "num_layers_asked", 0, b->count, &asked, err) ||
	    !read_globs(doc, "cost_exclude", &rule.cost_exclude, memory, err))
		return false;
	rule.kind = kind_from_name(mode);
	if (!coverage_start(c, b, scheme, &rule, err) || !read_groups(c, b, doc, err) ||
	    !kv_format_read(&c->kv_cache, doc, &c->memory, err))
		return false;
	coverage_finish(c, b);
	if (asked >= 0)
		c->asked = (int)asked;
	c->rule.cost_exclude = (struct globs){ 0 };
	return true;
}

bool coverage_read(struct coverage *c, const struct baseline *b, const char *path,
                   error *err)
{
	json_doc doc;
	arena memory = { 0 };
	*c = (struct coverage){ 0 };
	if (!json_load(&doc, path, MAX_COVERAGE_BYTES, err))
		return false;
	bool ok = read_coverage(c, b, &doc, &memory, err);
	json_free(&doc);
	arena_free(&memory);
	if (!ok)
		coverage_free(c);
	return ok;
}
