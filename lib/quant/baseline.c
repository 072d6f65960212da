/* Reading and writing the scored groups of a baseline. The field names are those
 * of the manifests that ModelOpt drivers write. */
#include "lib/quant/baseline.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_MANIFEST_BYTES = 256 << 20 };

bool is_candidate(const struct scored_group *group)
{
	return group->format_count > 1;
}

static int compare_groups(const void *left, const void *right, void *context)
{
	const struct scored_group *groups = context;
	int a = *(const int *)left, b = *(const int *)right;
	if (is_candidate(&groups[a]) != is_candidate(&groups[b]))
		return is_candidate(&groups[a]) ? -1 : 1;
	if (groups[a].importance != groups[b].importance)
		return groups[a].importance < groups[b].importance ? -1 : 1;
	return a - b;
}

bool rank_groups(struct baseline *b, error *err)
{
	b->ranking = arena_alloc(&b->memory, (size_t)b->count, sizeof *b->ranking, err);
	if (!b->ranking)
		return false;
	for (int i = 0; i < b->count; i++)
		b->ranking[i] = i;
	qsort_r(b->ranking, (size_t)b->count, sizeof *b->ranking, compare_groups,
	        b->groups);
	for (int i = 0; i < b->count; i++)
		b->groups[b->ranking[i]].rank = i + 1;
	return true;
}

static bool read_formats(struct baseline *b, const cJSON *entry,
                         struct scored_group *group, error *err)
{
	const cJSON *formats = json_array(&b->doc, entry, "formats", err);
	const cJSON *scores = formats ? json_array(&b->doc, entry, "scores", err) : NULL;
	const cJSON *costs = scores ? json_array(&b->doc, entry, "costs", err) : NULL;
	if (!costs)
		return false;
	int count = cJSON_GetArraySize(formats);
	if (count < 1 || count > MAX_FORMATS || cJSON_GetArraySize(scores) != count ||
	    cJSON_GetArraySize(costs) != count)
		return json_fail(&b->doc, entry, err,
		                 "expected formats, scores and costs of one length from 1 to %d, "
		                 "found %d, %d and %d", MAX_FORMATS, count,
		                 cJSON_GetArraySize(scores), cJSON_GetArraySize(costs));
	group->format_count = count;
	const cJSON *f = formats->child, *s = scores->child, *c = costs->child;
	for (int i = 0; i < count; i++, f = f->next, s = s->next, c = c->next) {
		if (!cJSON_IsString(f) || !cJSON_IsNumber(s) || !cJSON_IsNumber(c) ||
		    !(s->valuedouble >= 0 && s->valuedouble <= DBL_MAX) ||
		    !(c->valuedouble >= 0 && c->valuedouble <= DBL_MAX))
			return json_fail(&b->doc, entry, err,
			                 "expected a format name, a score >= 0 and a cost >= 0 at "
			                 "index %d", i);
		group->formats[i] = f->valuestring;
		group->scores[i] = s->valuedouble;
		group->costs[i] = c->valuedouble;
	}
	return true;
}

static bool read_groups(struct baseline *b, error *err)
{
	const cJSON *table = json_object(&b->doc, b->doc.root, "layer_sensitivity", err);
	if (!table)
		return false;
	b->count = cJSON_GetArraySize(table);
	if (b->count == 0)
		return json_fail(&b->doc, table, err, "expected at least one group, found none");
	b->groups = arena_alloc(&b->memory, (size_t)b->count, sizeof *b->groups, err);
	if (!b->groups)
		return false;
	struct scored_group *group = b->groups;
	for (const cJSON *entry = table->child; entry; entry = entry->next, group++) {
		group->name = entry->string;
		if (!cJSON_IsObject(entry))
			return json_fail(&b->doc, entry, err, "expected an object");
		if (!read_formats(b, entry, group, err))
			return false;
		group->importance = group->scores[0];
	}
	return true;
}

bool baseline_read(struct baseline *b, const char *path, error *err)
{
	const char *name;
	*b = (struct baseline){ 0 };
	if (!json_load(&b->doc, path, MAX_MANIFEST_BYTES, err))
		return false;
	const cJSON *scheme = json_object(&b->doc, b->doc.root, "scheme", err);
	if (scheme && json_text(&b->doc, scheme, "name", &name, err) &&
	    (b->name = arena_text(&b->memory, name, strlen(name), err)) &&
	    read_groups(b, err) && rank_groups(b, err))
		return true;
	baseline_free(b);
	return false;
}

void baseline_free(struct baseline *b)
{
	json_free(&b->doc);
	arena_free(&b->memory);
	*b = (struct baseline){ 0 };
}

void add_sensitivity(struct json_tree *tree, cJSON *manifest, const struct baseline *b)
{
	cJSON *table = tree_object(tree, manifest, "layer_sensitivity");
	for (int i = 0; i < b->count; i++) {
		const struct scored_group *group = &b->groups[i];
		cJSON *entry = tree_object(tree, table, group->name);
		cJSON *formats = tree_array(tree, entry, "formats");
		cJSON *scores = tree_array(tree, entry, "scores");
		cJSON *costs = tree_array(tree, entry, "costs");
		for (int f = 0; f < group->format_count; f++) {
			tree_text(tree, formats, NULL, group->formats[f]);
			tree_number(tree, scores, NULL, group->scores[f]);
			tree_number(tree, costs, NULL, group->costs[f]);
		}
		tree_number(tree, entry, "importance", group->importance);
		tree_number(tree, entry, "rank", group->rank);
	}
	cJSON *ranking = tree_array(tree, manifest, "sensitivity_ranking");
	for (int i = 0; i < b->count; i++) {
		const struct scored_group *group = &b->groups[b->ranking[i]];
		cJSON *entry = tree_object(tree, ranking, NULL);
		tree_text(tree, entry, "name", group->name);
		tree_number(tree, entry, "importance", group->importance);
	}
}
