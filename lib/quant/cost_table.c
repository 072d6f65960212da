/* Reading measured costs; see cost_table.h. */
#include "lib/quant/cost_table.h"

#include <float.h>
#include <stdio.h>
#include <string.h>

enum { MAX_COSTS_BYTES = 64 << 20 };

/* The member of `object` whose name is name up to `end`, or name itself. */
static const cJSON *find_entry(const cJSON *object, const char *name, const char *end)
{
	char shorter[NAME_BYTES];
	const char *cut = strstr(name, end);
	const cJSON *entry = cJSON_GetObjectItemCaseSensitive(object, name);
	if (entry || !cut)
		return entry;
	snprintf(shorter, sizeof shorter, "%.*s", (int)(cut - name), name);
	return cJSON_GetObjectItemCaseSensitive(object, shorter);
}

static bool read_group(struct cost_table *t, const json_doc *doc, const cJSON *groups,
                       const struct scored_group *group, int index, error *err)
{
	const cJSON *entry = find_entry(groups, group->name, ".quant_recipe");
	if (!entry)
		return json_fail(doc, groups, err, "expected the costs of %s", group->name);
	for (int f = 0; f < group->format_count; f++) {
		const cJSON *cost = find_entry(entry, group->formats[f], "(");
		if (!cJSON_IsNumber(cost) || !(cost->valuedouble >= 0 &&
		                               cost->valuedouble <= DBL_MAX))
			return json_fail(doc, cost ? cost : entry, err,
			                 "expected a cost >= 0 of %s in %s", group->name,
			                 group->formats[f]);
		t->costs[index][f] = cost->valuedouble;
	}
	return true;
}

static bool read_table(struct cost_table *t, const struct baseline *b, const json_doc *doc,
                       error *err)
{
	const char *unit;
	const cJSON *groups = json_object(doc, doc->root, "groups", err);
	if (!groups || !json_text(doc, doc->root, "unit", &unit, err) ||
	    !(t->unit = arena_text(&t->memory, unit, strlen(unit), err)) ||
	    !(t->costs = arena_alloc(&t->memory, (size_t)b->count, sizeof *t->costs, err)))
		return false;
	for (int g = 0; g < b->count; g++)
		if (!read_group(t, doc, groups, &b->groups[g], g, err))
			return false;
	return true;
}

bool cost_table_read(struct cost_table *t, const struct baseline *b, const char *path,
                     error *err)
{
	json_doc doc;
	*t = (struct cost_table){ 0 };
	if (!json_load(&doc, path, MAX_COSTS_BYTES, err))
		return false;
	bool ok = read_table(t, b, &doc, err);
	json_free(&doc);
	if (!ok)
		cost_table_free(t);
	return ok;
}

void cost_table_free(struct cost_table *t)
{
	arena_free(&t->memory);
	*t = (struct cost_table){ 0 };
}
