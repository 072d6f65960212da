/* Printing, reading and merging blocks; see block_file.h. */
#include "lib/quant/block_file.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "lib/artifact/digest.h"
#include "lib/base/json.h"
#include "lib/base/json_tree.h"

enum { MAX_PART_BYTES = 1 << 30, MAX_BLOCKS = 1 << 24 };

const char *block_kind_name(enum block_kind kind)
{
	static const char *const names[] = { "amax", "gradient", "kl_div" };
	return names[kind];
}

static bool kind_from_name(const char *name, enum block_kind *out)
{
	for (enum block_kind kind = BLOCK_AMAX; kind <= BLOCK_KL; kind++) {
		if (strcmp(block_kind_name(kind), name) != 0)
			continue;
		*out = kind;
		return true;
	}
	return false;
}

bool score_kind_from_name(const char *name, enum block_kind *out)
{
	return kind_from_name(name, out) && *out != BLOCK_AMAX;
}

bool print_block(const struct block *b, enum block_kind kind, text *out, error *err)
{
	struct json_tree tree = tree_new();
	tree_text(&tree, tree.root, "kind", block_kind_name(kind));
	tree_text(&tree, tree.root, "key", b->key);
	if (b->device)
		tree_text(&tree, tree.root, "device", b->device);
	tree_number(&tree, tree.root, "index", (double)b->index);
	tree_number(&tree, tree.root, "samples", (double)b->samples);
	tree_number(&tree, tree.root, "cut", (double)b->cut);
	tree_number(&tree, tree.root, "loss", b->loss);
	cJSON *skipped = tree_array(&tree, tree.root, "skipped");
	for (int i = 0; i < b->skipped_count; i++)
		tree_text(&tree, skipped, NULL, b->skipped[i]);
	cJSON *values = tree_object(&tree, tree.root, "values");
	for (int i = 0; i < b->count; i++)
		tree_number(&tree, values, b->names[i], b->values[i]);
	return tree_finish(&tree, out, err);
}

/* "name": "value" as JSON. */
static void add_word(text *out, const char *name, const char *value)
{
	text_printf(out, "\"%s\": ", name);
	out->failed |= !json_quote(out, value, strlen(value));
}

bool print_part(const text *blocks, int count, enum block_kind kind,
                const struct part_format *format, text *out, error *err)
{
	text_printf(out, "{\n\"kind\": \"%s\",\n", block_kind_name(kind));
	if (format) {
		text_puts(out, "\"format\": {");
		add_word(out, "name", format->name);
		text_puts(out, ", ");
		add_word(out, "element", format->element);
		text_puts(out, ", ");
		add_word(out, "granularity", format->granularity);
		text_puts(out, "},\n");
	}
	text_puts(out, "\"blocks\": [\n");
	for (int i = 0; i < count; i++)
		text_printf(out, "%.*s%s\n", (int)blocks[i].length - 1, blocks[i].data,
		            i + 1 < count ? "," : "");
	text_puts(out, "]\n}\n");
	return text_ok(out, err);
}

/* Keeps a text of a document that is about to be freed. */
static const char *keep(arena *memory, const char *string, error *err)
{
	return arena_text(memory, string, strlen(string), err);
}

static bool read_values(struct block *b, const json_doc *doc, const cJSON *item,
                        arena *memory, error *err)
{
	const cJSON *values = json_object(doc, item, "values", err);
	if (!values)
		return false;
	size_t count = (size_t)cJSON_GetArraySize(values);
	b->names = arena_alloc(memory, count, sizeof *b->names, err);
	b->values = b->names ? arena_alloc(memory, count, sizeof *b->values, err) : NULL;
	if (!b->values)
		return false;
	for (const cJSON *value = values->child; value; value = value->next) {
		if (!cJSON_IsNumber(value) || !(value->valuedouble >= 0))
			return json_fail(doc, value, err, "expected a number >= 0");
		if (!(b->names[b->count] = keep(memory, value->string, err)))
			return false;
		b->values[b->count++] = value->valuedouble;
	}
	return true;
}

static bool read_block(struct block *b, const json_doc *doc, const cJSON *item,
                       arena *memory, error *err)
{
	if (!cJSON_IsObject(item))
		return json_fail(doc, item, err, "expected a block, an object");
	const cJSON *skipped = json_array(doc, item, "skipped", err);
	const char *key, *device = "cpu float32";
	if (!skipped || !json_text(doc, item, "key", &key, err) ||
	    !json_text_or(doc, item, "device", &device, err) ||
	    !(b->key = keep(memory, key, err)) || !(b->device = keep(memory, device, err)) ||
	    !json_integer(doc, item, "index", 0, MAX_BLOCKS, &b->index, err) ||
	    !json_integer(doc, item, "samples", 0, MAX_BLOCKS, &b->samples, err) ||
	    !json_integer(doc, item, "cut", 0, MAX_BLOCKS, &b->cut, err) ||
	    !json_number(doc, item, "loss", 0, DBL_MAX, &b->loss, err))
		return false;
	b->skipped = arena_alloc(memory, (size_t)cJSON_GetArraySize(skipped),
	                         sizeof *b->skipped, err);
	if (!b->skipped)
		return false;
	for (const cJSON *name = skipped->child; name; name = name->next) {
		if (!cJSON_IsString(name))
			return json_fail(doc, name, err, "expected a sample's name");
		if (!(b->skipped[b->skipped_count++] = keep(memory, name->valuestring, err)))
			return false;
	}
	return read_values(b, doc, item, memory, err);
}

static bool read_part(struct block_list *list, int room, const json_doc *doc,
                      const cJSON *blocks, enum block_kind kind, error *err)
{
	const char *found;
	if (!json_text(doc, doc->root, "kind", &found, err))
		return false;
	if (strcmp(found, block_kind_name(kind)) != 0)
		return json_fail(doc, doc->root, err, "expected blocks of kind \"%s\", found \"%s\"",
		                 block_kind_name(kind), found);
	for (const cJSON *item = blocks->child; item && list->count < room; item = item->next)
		if (!read_block(&list->blocks[list->count++], doc, item, &list->memory, err))
			return false;
	return true;
}

static bool read_format(const json_doc *doc, struct part_format *format, arena *memory,
                        error *err)
{
	const cJSON *item = json_object(doc, doc->root, "format", err);
	const char *name, *element, *granularity;
	return item && json_text(doc, item, "name", &name, err) &&
	       json_text(doc, item, "element", &element, err) &&
	       json_text(doc, item, "granularity", &granularity, err) &&
	       (format->name = keep(memory, name, err)) &&
	       (format->element = keep(memory, element, err)) &&
	       (format->granularity = keep(memory, granularity, err));
}

bool read_part_head(const char *path, enum block_kind *kind, struct part_format *format,
                    arena *memory, error *err)
{
	json_doc doc;
	const char *name;
	*format = (struct part_format){ 0 };
	if (!json_load(&doc, path, MAX_PART_BYTES, err))
		return false;
	bool ok = json_text(&doc, doc.root, "kind", &name, err) &&
	          (kind_from_name(name, kind) ||
	           json_fail(&doc, doc.root, err, "expected a kind of block, found \"%s\"",
	                     name)) &&
	          (*kind == BLOCK_AMAX || read_format(&doc, format, memory, err));
	json_free(&doc);
	return ok;
}

static int compare_index(const void *a, const void *b)
{
	const struct block *left = a, *right = b;
	return left->index < right->index ? -1 : left->index > right->index;
}

static bool same_names(const struct block *a, const struct block *b)
{
	if (a->count != b->count)
		return false;
	for (int i = 0; i < a->count; i++)
		if (strcmp(a->names[i], b->names[i]) != 0)
			return false;
	return true;
}

static bool check_blocks(const struct block_list *list, const char *first_path, error *err)
{
	for (int i = 0; i < list->count; i++) {
		if (list->blocks[i].index != i)
			return fail(err, EXIT_BAD_INPUT,
			            "%s and its other parts: expected block %d, found block %lld",
			            first_path, i, (long long)list->blocks[i].index);
		if (!same_names(&list->blocks[0], &list->blocks[i]))
			return fail(err, EXIT_BAD_INPUT,
			            "%s and its other parts: block %d measured other layers than "
			            "block 0", first_path, i);
	}
	return list->count > 0 ||
	       fail(err, EXIT_BAD_INPUT, "%s: expected at least one block", first_path);
}

static bool load_parts(json_doc *docs, const cJSON **blocks, int *total,
                       const char *const *paths, int count, error *err)
{
	*total = 0;
	for (int i = 0; i < count; i++) {
		if (!json_load(&docs[i], paths[i], MAX_PART_BYTES, err) ||
		    !(blocks[i] = json_array(&docs[i], docs[i].root, "blocks", err)))
			return false;
		*total += cJSON_GetArraySize(blocks[i]);
	}
	return true;
}

bool read_parts(struct block_list *list, const char *const *paths, int path_count,
                enum block_kind kind, error *err)
{
	*list = (struct block_list){ 0 };
	json_doc *docs = calloc((size_t)path_count + 1, sizeof *docs);
	const cJSON **blocks = calloc((size_t)path_count + 1, sizeof *blocks);
	int total;
	bool ok = (docs && blocks) || fail_memory(err, "the parts", 0);
	ok = ok && load_parts(docs, blocks, &total, paths, path_count, err) &&
	     (list->blocks = arena_alloc(&list->memory, (size_t)total, sizeof *list->blocks,
	                                 err));
	for (int i = 0; ok && i < path_count; i++)
		ok = read_part(list, total, &docs[i], blocks[i], kind, err);
	for (int i = 0; docs && i < path_count; i++)
		json_free(&docs[i]);
	free(docs);
	free(blocks);
	if (ok) {
		qsort(list->blocks, (size_t)list->count, sizeof *list->blocks, compare_index);
		ok = check_blocks(list, path_count ? paths[0] : "no part", err);
	}
	if (!ok)
		block_list_free(list);
	return ok;
}

void block_list_free(struct block_list *list)
{
	arena_free(&list->memory);
	*list = (struct block_list){ 0 };
}

static bool merge_keys(struct block_list *list, struct block *out, error *err)
{
	struct digester digester;
	struct digest digest;
	digester_begin(&digester);
	for (int i = 0; i < list->count; i++)
		digester_add(&digester, list->blocks[i].key, strlen(list->blocks[i].key));
	return digester_end(&digester, &digest, err) &&
	       (out->key = keep(&list->memory, digest.hex, err));
}

bool merge_blocks(struct block_list *list, enum block_kind kind, struct block *out,
                  error *err)
{
	const struct block *first = &list->blocks[0];
	int skipped = 0;
	*out = (struct block){ .device = first->device, .count = first->count,
		.names = first->names };
	for (int i = 0; i < list->count; i++)
		skipped += list->blocks[i].skipped_count;
	out->values = arena_alloc(&list->memory, (size_t)out->count, sizeof *out->values, err);
	out->skipped = arena_alloc(&list->memory, (size_t)skipped, sizeof *out->skipped, err);
	if (!out->values || !out->skipped || !merge_keys(list, out, err))
		return false;
	for (int i = 0; i < list->count; i++) {
		const struct block *b = &list->blocks[i];
		out->samples += b->samples;
		out->cut += b->cut;
		out->loss += b->loss;
		for (int s = 0; s < b->skipped_count; s++)
			out->skipped[out->skipped_count++] = b->skipped[s];
		for (int v = 0; v < b->count; v++)
			if (kind != BLOCK_AMAX)
				out->values[v] += b->values[v];
			else if (b->values[v] > out->values[v])
				out->values[v] = b->values[v];
	}
	return out->samples > 0 ||
	       fail(err, EXIT_BAD_INPUT, "expected at least one sample in all blocks together, "
	            "found %d skipped", skipped);
}
