/* Writing and reading amax.json; see amax_file.h. */
#include "lib/quant/amax_file.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/json_tree.h"
#include "lib/model/caches.h"
#include "lib/quant/numerics.h"

enum { MAX_AMAX_BYTES = 64 << 20 };

bool print_amax(const struct block *merged, text *out, error *err)
{
	struct json_tree tree = tree_new();
	tree_text(&tree, tree.root, "key", merged->key);
	tree_number(&tree, tree.root, "samples", (double)merged->samples);
	tree_number(&tree, tree.root, "cut", (double)merged->cut);
	cJSON *skipped = tree_array(&tree, tree.root, "skipped");
	for (int i = 0; i < merged->skipped_count; i++)
		tree_text(&tree, skipped, NULL, merged->skipped[i]);
	cJSON *amax = tree_object(&tree, tree.root, "amax");
	cJSON *cache = tree_object(&tree, tree.root, AMAX_CACHE);
	for (int i = 0; i < merged->count; i++)
		tree_number(&tree, find_cache(merged->names[i]) < 0 ? amax : cache,
		            merged->names[i], merged->values[i]);
	return tree_finish(&tree, out, err);
}

static int find_linear(const struct linear_shape *linears, int count, const char *name)
{
	for (int i = 0; i < count; i++)
		if (strcmp(linears[i].name, name) == 0)
			return i;
	return -1;
}

/* What manifests take from the document. */
static bool check_facts(const json_doc *doc, error *err)
{
	const char *key;
	int64_t samples, cut;
	return json_text(doc, doc->root, "key", &key, err) &&
	       json_integer(doc, doc->root, "samples", 1, INT64_MAX, &samples, err) &&
	       json_integer(doc, doc->root, "cut", 0, INT64_MAX, &cut, err) &&
	       json_array(doc, doc->root, "skipped", err);
}

static bool read_value(const json_doc *doc, const cJSON *value, float *amax, error *err)
{
	error cause;
	*amax = cJSON_IsNumber(value) ? (float)value->valuedouble : -1.0f;
	return check_amax(*amax, value->string, &cause) ||
	       json_fail(doc, value, err, "%s", cause.text);
}

static bool read_values(struct amax_table *table, const struct linear_shape *linears,
                        int count, error *err)
{
	const cJSON *values = json_object(&table->doc, table->doc.root, "amax", err);
	if (!values)
		return false;
	table->amax = arena_alloc(&table->memory, (size_t)count, sizeof *table->amax, err);
	if (!table->amax)
		return false;
	for (int i = 0; i < count; i++)
		table->amax[i] = -1;
	for (const cJSON *value = values->child; value; value = value->next) {
		int linear = find_linear(linears, count, value->string);
		if (linear < 0)
			return json_fail(&table->doc, value, err, "the model has no such linear");
		if (!read_value(&table->doc, value, &table->amax[linear], err))
			return false;
	}
	return true;
}

bool read_cache_amax(const json_doc *doc, arena *memory, float **amax, int *count,
                     error *err)
{
	*count = 0;
	if (!cJSON_HasObjectItem(doc->root, AMAX_CACHE))
		return true;
	const cJSON *parts = json_object(doc, doc->root, AMAX_CACHE, err);
	if (!parts)
		return false;
	int total = cJSON_GetArraySize(parts);
	if (!(*amax = arena_alloc(memory, (size_t)total, sizeof **amax, err)))
		return false;
	for (const cJSON *part = parts->child; part; part = part->next, ++*count) {
		char expected[NAME_BYTES];
		name_cache(*count, expected);
		if (strcmp(part->string, expected) != 0)
			return json_fail(doc, part, err, "expected %s", expected);
		if (!read_value(doc, part, &(*amax)[*count], err))
			return false;
	}
	return true;
}

bool amax_read(struct amax_table *table, const char *path,
               const struct linear_shape *linears, int count, error *err)
{
	*table = (struct amax_table){ 0 };
	if (!json_load(&table->doc, path, MAX_AMAX_BYTES, err))
		return false;
	if (check_facts(&table->doc, err) && read_values(table, linears, count, err) &&
	    read_cache_amax(&table->doc, &table->memory, &table->cache, &table->cache_count, err))
		return true;
	amax_free(table);
	return false;
}

void amax_free(struct amax_table *table)
{
	json_free(&table->doc);
	arena_free(&table->memory);
	*table = (struct amax_table){ 0 };
}
