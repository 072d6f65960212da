/* Selections:
 *
 *   { "formats": { GROUP: FORMAT }, "kv_cache": { ... } }
 *
 * groups in module order, which no score moves. See selection.h. */
#include "lib/quant/selection.h"

enum { MAX_SELECTION_BYTES = 64 << 20 };

bool print_selection(const struct coverage *c, const struct baseline *b, text *out,
                     error *err)
{
	struct json_tree tree = tree_new();
	cJSON *formats = tree_object(&tree, tree.root, "formats");
	for (int g = 0; g < b->count; g++)
		if (c->keeps[g])
			tree_text(&tree, formats, b->groups[g].name,
			          b->groups[g].formats[c->choice[g]]);
	kv_format_add(&tree, tree.root, &c->kv_cache);
	return tree_finish(&tree, out, err);
}

static bool check_formats(const struct selection *s, error *err)
{
	for (const cJSON *format = s->formats->child; format; format = format->next)
		if (!cJSON_IsString(format))
			return json_fail(&s->doc, format, err, "expected the name of a format");
	return true;
}

bool selection_read(struct selection *s, const char *path, error *err)
{
	*s = (struct selection){ 0 };
	if (!json_load(&s->doc, path, MAX_SELECTION_BYTES, err))
		return false;
	if ((s->formats = json_object(&s->doc, s->doc.root, "formats", err)) &&
	    check_formats(s, err) && kv_format_read(&s->kv_cache, &s->doc, &s->memory, err))
		return true;
	selection_free(s);
	return false;
}

void selection_free(struct selection *s)
{
	json_free(&s->doc);
	arena_free(&s->memory);
	*s = (struct selection){ 0 };
}

const char *selected_format(const struct selection *s, const char *group)
{
	return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(s->formats, group));
}
