/* quantize.json: which pieces there are; see variants.h. */
#include <math.h>
#include <string.h>

#include "lib/base/json_tree.h"
#include "lib/quant/variants.h"

enum { MAX_VARIANTS_BYTES = 64 << 20 };

static void add_output(struct json_tree *tree, cJSON *parent, const struct output *o)
{
	cJSON *entry = tree_object(tree, parent, o->name);
	tree_text(tree, entry, "object", o->digest.hex);
	tree_number(tree, entry, "bytes", (double)o->bytes);
}

bool print_variants(const struct variant_set *set, text *out, error *err)
{
	struct json_tree tree = tree_new();
	cJSON *format = tree_object(&tree, tree.root, "format");
	tree_text(&tree, format, "name", set->format_name);
	tree_text(&tree, format, "element", set->format->element);
	tree_text(&tree, format, "granularity", set->format->granularity);
	tree_text(&tree, tree.root, "profile", profile_name(set->profile));
	cJSON *groups = tree_object(&tree, tree.root, "groups");
	for (int i = 0; i < set->count; i++) {
		const struct variant_pair *pair = &set->pairs[i];
		cJSON *entry = tree_object(&tree, groups, pair->group);
		cJSON *members = tree_array(&tree, entry, "members");
		for (int m = 0; m < pair->member_count; m++)
			tree_text(&tree, members, NULL, pair->members[m]);
		add_output(&tree, entry, &pair->plain);
		if (!pair->quantised.bytes)
			continue;
		add_output(&tree, entry, &pair->quantised);
		cJSON *scales = tree_array(&tree, entry, "weight_scales");
		for (int m = 0; m < pair->member_count; m++)
			tree_number(&tree, scales, NULL, (double)pair->weight_scales[m]);
	}
	add_output(&tree, tree.root, &set->rest);
	if (set->norms.bytes) {
		add_output(&tree, tree.root, &set->norms);
		add_output(&tree, tree.root, &set->folded);
	}
	return tree_finish(&tree, out, err);
}

static bool read_output(const json_doc *doc, const cJSON *parent, const char *name,
                        struct output *out, error *err)
{
	const cJSON *entry = json_object(doc, parent, name, err);
	const char *hex;
	int64_t bytes;
	if (!entry || !json_text(doc, entry, "object", &hex, err) ||
	    !json_integer(doc, entry, "bytes", 1, INT64_MAX, &bytes, err))
		return false;
	if (!digest_parse(hex, strlen(hex), &out->digest))
		return json_fail(doc, entry, err, "expected a SHA-256, found \"%.80s\"", hex);
	out->name = name;
	out->bytes = (uint64_t)bytes;
	return true;
}

static bool read_members(struct variant_set *set, const json_doc *doc, const cJSON *entry,
                         struct variant_pair *pair, error *err)
{
	const cJSON *members = json_array(doc, entry, "members", err);
	if (!members)
		return false;
	for (const cJSON *item = members->child; item; item = item->next) {
		if (!cJSON_IsString(item) || pair->member_count == MAX_MEMBERS)
			return json_fail(doc, item, err, "expected at most %d members' names",
			                 MAX_MEMBERS);
		const char *name = arena_text(&set->memory, item->valuestring,
		                              strlen(item->valuestring), err);
		if (!name)
			return false;
		pair->members[pair->member_count++] = name;
	}
	return true;
}

static bool read_scales(const json_doc *doc, const cJSON *entry, struct variant_pair *pair,
                        error *err)
{
	const cJSON *scales = json_array(doc, entry, "weight_scales", err);
	int count = 0;
	if (!scales)
		return false;
	for (const cJSON *item = scales->child; item; item = item->next) {
		float scale = cJSON_IsNumber(item) ? (float)item->valuedouble : 0;
		if (!(scale > 0) || !isfinite(scale) || count == pair->member_count)
			return json_fail(doc, item, err, "expected %d finite scales above 0",
			                 pair->member_count);
		pair->weight_scales[count++] = scale;
	}
	return count == pair->member_count ||
	       json_fail(doc, scales, err, "expected %d scales, found %d", pair->member_count,
	                 count);
}

static bool read_pair(struct variant_set *set, const json_doc *doc, const cJSON *entry,
                      struct variant_pair *pair, error *err)
{
	pair->group = arena_text(&set->memory, entry->string, strlen(entry->string), err);
	if (!pair->group || !read_members(set, doc, entry, pair, err) ||
	    !read_output(doc, entry, "plain.safetensors", &pair->plain, err))
		return false;
	if (!cJSON_HasObjectItem(entry, "quantised.safetensors"))
		return true;
	return read_output(doc, entry, "quantised.safetensors", &pair->quantised, err) &&
	       read_scales(doc, entry, pair, err);
}

static bool read_format(struct variant_set *set, const json_doc *doc, error *err)
{
	const char *name, *element, *granularity, *profile;
	const cJSON *format = json_object(doc, doc->root, "format", err);
	if (!format || !json_text(doc, format, "name", &name, err) ||
	    !json_text(doc, format, "element", &element, err) ||
	    !json_text(doc, format, "granularity", &granularity, err) ||
	    !json_text(doc, doc->root, "profile", &profile, err))
		return false;
	set->format = format_find(element, granularity);
	if (!set->format || !profile_from_name(profile, &set->profile))
		return json_fail(doc, format, err, "no format \"%.40s\", \"%.40s\" in profile "
		                 "\"%.40s\"", element, granularity, profile);
	set->format_name = arena_text(&set->memory, name, strlen(name), err);
	return set->format_name != NULL;
}

/* There exactly where the format has channel scales. */
static bool read_norms(struct variant_set *set, const json_doc *doc, error *err)
{
	return !set->format->channel_scales ||
	       (read_output(doc, doc->root, "norms.safetensors", &set->norms, err) &&
	        read_output(doc, doc->root, "folded.safetensors", &set->folded, err));
}

static bool read_set(struct variant_set *set, const json_doc *doc, error *err)
{
	const cJSON *groups = json_object(doc, doc->root, "groups", err);
	if (!groups || !read_format(set, doc, err) ||
	    !read_output(doc, doc->root, "rest.safetensors", &set->rest, err) ||
	    !read_norms(set, doc, err))
		return false;
	set->pairs = arena_alloc(&set->memory, (size_t)cJSON_GetArraySize(groups),
	                         sizeof *set->pairs, err);
	if (!set->pairs)
		return false;
	for (const cJSON *entry = groups->child; entry; entry = entry->next)
		if (!read_pair(set, doc, entry, &set->pairs[set->count++], err))
			return false;
	return true;
}

bool variants_read(struct variant_set *set, const char *path, error *err)
{
	json_doc doc;
	*set = (struct variant_set){ 0 };
	if (!json_load(&doc, path, MAX_VARIANTS_BYTES, err))
		return false;
	bool ok = read_set(set, &doc, err);
	json_free(&doc);
	if (!ok)
		variants_free(set);
	return ok;
}

void variants_free(struct variant_set *set)
{
	arena_free(&set->memory);
	*set = (struct variant_set){ 0 };
}
