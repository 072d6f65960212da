/* Formats of the key/value cache in texts; see kv_format.h. */
#include "lib/quant/kv_format.h"

#include <string.h>

#define FIELD "kv_cache"

bool kv_format_known(const struct kv_format *f)
{
	return strcmp(f->element, "fp8_e4m3") == 0 && strcmp(f->granularity, "tensor") == 0;
}

void kv_format_print(const struct kv_format *f, text *out)
{
	text_printf(out, "%s:%s:%s", f->name, f->element, f->granularity);
}

static bool keep(struct kv_format *f, const char *name, const char *element,
                 const char *granularity, arena *memory, error *err)
{
	return (f->name = arena_text(memory, name, strlen(name), err)) &&
	       (f->element = arena_text(memory, element, strlen(element), err)) &&
	       (f->granularity = arena_text(memory, granularity, strlen(granularity), err));
}

bool kv_format_parse(struct kv_format *f, const char *word, arena *memory, error *err)
{
	char *copy = arena_text(memory, word, strlen(word), err);
	if (!copy)
		return false;
	char *element = strchr(copy, ':');
	char *granularity = element ? strchr(element + 1, ':') : NULL;
	if (granularity) {
		*element++ = *granularity++ = '\0';
		*f = (struct kv_format){ copy, element, granularity };
	}
	if (granularity && *copy && kv_format_known(f))
		return true;
	return fail(err, EXIT_USAGE, "--kv-cache: expected NAME:fp8_e4m3:tensor, found \"%s\"",
	            word);
}

void kv_format_add(struct json_tree *tree, cJSON *object, const struct kv_format *f)
{
	if (!f->name)
		return;
	cJSON *item = tree_object(tree, object, FIELD);
	tree_text(tree, item, "format", f->name);
	tree_text(tree, item, "element", f->element);
	tree_text(tree, item, "granularity", f->granularity);
	tree_boolean(tree, item, "symmetric", true);
}

bool kv_format_read(struct kv_format *f, const json_doc *doc, arena *memory, error *err)
{
	const char *name, *element, *granularity;
	bool symmetric = true;
	*f = (struct kv_format){ 0 };
	if (!cJSON_HasObjectItem(doc->root, FIELD))
		return true;
	const cJSON *item = json_object(doc, doc->root, FIELD, err);
	if (!item || !json_text(doc, item, "format", &name, err) ||
	    !json_text(doc, item, "element", &element, err) ||
	    !json_text(doc, item, "granularity", &granularity, err) ||
	    !json_boolean_or(doc, item, "symmetric", &symmetric, err) ||
	    !keep(f, name, element, granularity, memory, err))
		return false;
	return (kv_format_known(f) && symmetric) ||
	       json_fail(doc, item, err, "expected a symmetric fp8_e4m3 per tensor, found %s per "
	                 "%s", element, granularity);
}
