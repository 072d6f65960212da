/* Slicing; see slice.h. */
#include "lib/quant/slice.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COVERAGE_BYTES = 64 << 20 };

static bool can_keep(const struct scored_group *group)
{
	return is_candidate(group) && group_exportable(group->name);
}

static int count_candidates(const struct baseline *b)
{
	int count = 0;
	for (int i = 0; i < b->count; i++)
		count += is_candidate(&b->groups[i]);
	return count;
}

/* ceil(percent/100 * total) without being misled by the binary value of
 * percent/100: 10 % of 30 is 3, not 4. */
static int count_for(const struct rule *rule, int total)
{
	if (rule->kind == RULE_FULL)
		return total;
	int count = (int)ceil(rule->percent * total / 100.0 - 1e-9);
	if (count < 1)
		count = 1;
	return count < total ? count : total;
}

static bool start_coverage(struct coverage *c, const struct baseline *b,
                           const char *scheme, const struct rule *rule, error *err)
{
	*c = (struct coverage){ .rule = *rule, .total = b->count };
	size_t count = (size_t)b->count;
	c->scheme = arena_text(&c->memory, scheme, strlen(scheme), err);
	c->order = c->scheme ? arena_alloc(&c->memory, count, sizeof *c->order, err) : NULL;
	c->keeps = c->order ? arena_alloc(&c->memory, count, sizeof *c->keeps, err) : NULL;
	return c->keeps != NULL;
}

/* From keeps[] and the ranking: the order and the delivered bits. */
static void finish_coverage(struct coverage *c, const struct baseline *b)
{
	double delivered = 0, asked = 0, whole = 0;
	int next = 0;
	for (int pass = 0; pass < 2; pass++)
		for (int i = 0; i < b->count; i++)
			if (c->keeps[b->ranking[i]] == (pass == 0))
				c->order[next++] = b->ranking[i];
	for (int i = 0; i < b->count; i++) {
		const struct scored_group *group = &b->groups[b->ranking[i]];
		double none = group->costs[group->format_count - 1];
		whole += none;
		asked += i < c->asked ? group->costs[0] : none;
		delivered += c->keeps[b->ranking[i]] ? group->costs[0] : none;
	}
	c->delivered_bits = whole > 0 ? 16 * delivered / whole : 16;
	c->asked_bits = whole > 0 ? 16 * asked / whole : 16;
}

bool slice_baseline(struct coverage *c, const struct baseline *b, const char *scheme,
                    const struct rule *rule, error *err)
{
	if (!start_coverage(c, b, scheme, rule, err)) {
		coverage_free(c);
		return false;
	}
	c->asked = count_for(rule, count_candidates(b));
	for (int i = 0; i < c->asked; i++) {
		int group = b->ranking[i];
		if (can_keep(&b->groups[group])) {
			c->keeps[group] = true;
			c->selected++;
		}
	}
	finish_coverage(c, b);
	return true;
}

void coverage_free(struct coverage *c)
{
	arena_free(&c->memory);
	*c = (struct coverage){ 0 };
}

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
	for (int i = 0; i < c->asked; i++)
		if (!c->keeps[b->ranking[i]])
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

bool print_coverage(const struct coverage *c, const struct baseline *b,
                    const char *baseline_folder, const char *manifest_file, text *out,
                    error *err)
{
	struct json_tree tree = tree_new();
	add_baseline_paths(&tree, baseline_folder, manifest_file);
	tree_text(&tree, tree.root, "scheme_name", c->scheme);
	double percent = c->rule.kind == RULE_FULL ? 100 : c->rule.percent;
	tree_text(&tree, tree.root, "coverage_mode",
	          c->rule.kind == RULE_FULL ? "full" : "top_percent");
	tree_number(&tree, tree.root, "top_percent", percent);
	tree_number(&tree, tree.root, "coverage_fraction", percent / 100);
	tree_number(&tree, tree.root, "num_layers_total", c->total);
	tree_number(&tree, tree.root, "num_layers_asked", c->asked);
	tree_number(&tree, tree.root, "num_layers_selected", c->selected);
	tree_number(&tree, tree.root, "num_layers_dropped", c->total - c->selected);
	tree_number(&tree, tree.root, "asked_bits", c->asked_bits);
	tree_number(&tree, tree.root, "delivered_bits", c->delivered_bits);
	add_names(&tree, c, b, "selected_layers", 0, c->selected);
	add_names(&tree, c, b, "dropped_layers", c->selected, c->total);
	add_not_exportable(&tree, c, b);
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
		c->asked += keep;
		c->keeps[group] = keep && can_keep(&b->groups[group]);
		c->selected += c->keeps[group];
	}
	return true;
}

static bool read_coverage(struct coverage *c, const struct baseline *b,
                          const json_doc *doc, error *err)
{
	const char *scheme;
	struct rule rule = { .kind = RULE_TOP_PERCENT };
	int64_t asked = -1;
	if (!json_text(doc, doc->root, "scheme_name", &scheme, err) ||
	    !json_number(doc, doc->root, "top_percent", 0, 100, &rule.percent, err) ||
	    !start_coverage(c, b, scheme, &rule, err) ||
	    !json_integer_or(doc, doc->root, "num_layers_asked", 0, b->count, &asked, err))
		return false;
	const char *mode = "top_percent";
	if (!json_text_or(doc, doc->root, "coverage_mode", &mode, err))
		return false;
	if (strcmp(mode, "full") == 0)
		c->rule.kind = RULE_FULL;
	bool *seen = arena_alloc(&c->memory, (size_t)b->count, sizeof *seen, err);
	if (!seen || !read_names(c, b, doc, "selected_layers", true, seen, err) ||
	    !read_names(c, b, doc, "dropped_layers", false, seen, err))
		return false;
	for (int i = 0; i < b->count; i++)
		if (!seen[i])
			return json_fail(doc, doc->root, err,
			                 "group \"%s\" of baseline %s is neither selected nor dropped",
			                 b->groups[i].name, b->name);
	if (asked >= 0)
		c->asked = (int)asked;
	finish_coverage(c, b);
	return true;
}

bool coverage_read(struct coverage *c, const struct baseline *b, const char *path,
                   error *err)
{
	json_doc doc;
	*c = (struct coverage){ 0 };
	if (!json_load(&doc, path, MAX_COVERAGE_BYTES, err))
		return false;
	bool ok = read_coverage(c, b, &doc, err);
	json_free(&doc);
	if (!ok)
		coverage_free(c);
	return ok;
}
