/* The manifest of decoded images as JSON; see pixels.h. */
#include <stdlib.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/base/json_tree.h"
#include "lib/data/pixels.h"

enum { MAX_LIST_BYTES = 1 << 30, MAX_SIDE = IMAGE_MAX_PIXELS };

static const int64_t MOST_PIXELS = INT64_C(1) << 40; /* of a bound */

bool pixel_list_print(const struct pixel_list *list, text *out, error *err)
{
	struct json_tree tree = tree_new();
	tree_text(&tree, tree.root, "kind", "pixels");
	tree_number(&tree, tree.root, "unit", list->bounds.unit);
	tree_number(&tree, tree.root, "min_pixels", (double)list->bounds.min_pixels);
	tree_number(&tree, tree.root, "max_pixels", (double)list->bounds.max_pixels);
	cJSON *images = tree_array(&tree, tree.root, "images");
	for (int i = 0; i < list->count; i++) {
		const struct pixels *p = &list->images[i];
		cJSON *item = tree_object(&tree, images, NULL);
		tree_text(&tree, item, "image", p->image);
		if (p->unreadable) {
			tree_boolean(&tree, item, "unreadable", true);
			continue;
		}
		tree_text(&tree, item, "source", p->source.hex);
		tree_text(&tree, item, "object", p->object.hex);
		tree_number(&tree, item, "width", p->width);
		tree_number(&tree, item, "height", p->height);
	}
	return tree_finish(&tree, out, err);
}

static bool read_digest(const json_doc *doc, const cJSON *item, const char *field,
                        struct digest *out, error *err)
{
	const char *hex;
	return json_text(doc, item, field, &hex, err) &&
	       (digest_parse(hex, strlen(hex), out) ||
	        json_fail(doc, item, err, "%s: expected 64 hexadecimal digits", field));
}

static bool read_side(const json_doc *doc, const cJSON *item, const char *field, int *out,
                      error *err)
{
	int64_t value = 0;
	bool ok = json_integer(doc, item, field, 1, MAX_SIDE, &value, err);
	*out = (int)value;
	return ok;
}

static bool read_image(struct pixel_list *list, const json_doc *doc, const cJSON *item,
                       error *err)
{
	struct pixels *p = &list->images[list->count];
	const char *image;
	if (!cJSON_IsObject(item))
		return json_fail(doc, item, err, "expected an image, an object");
	if (!json_text(doc, item, "image", &image, err) ||
	    !json_boolean_or(doc, item, "unreadable", &p->unreadable, err) ||
	    !(p->image = arena_text(&list->memory, image, strlen(image), err)))
		return false;
	if (!p->unreadable && !(read_digest(doc, item, "source", &p->source, err) &&
	                        read_digest(doc, item, "object", &p->object, err) &&
	                        read_side(doc, item, "width", &p->width, err) &&
	                        read_side(doc, item, "height", &p->height, err)))
		return false;
	if ((int64_t)p->width * p->height > IMAGE_MAX_PIXELS)
		return json_fail(doc, item, err, "expected at most %d pixels, found %d x %d",
		                 IMAGE_MAX_PIXELS, p->width, p->height);
	if (list->count && strcmp(p[-1].image, image) >= 0)
		return json_fail(doc, item, err, "expected images sorted by path, each once");
	list->count++;
	return true;
}

static bool read_list(struct pixel_list *list, const json_doc *doc, error *err)
{
	const char *kind;
	struct pixel_bounds *b = &list->bounds;
	if (!json_text(doc, doc->root, "kind", &kind, err))
		return false;
	if (strcmp(kind, "pixels") != 0)
		return json_fail(doc, doc->root, err, "expected a list of pixels, found \"%s\"",
		                 kind);
	const cJSON *images = json_array(doc, doc->root, "images", err);
	if (!images || !read_side(doc, doc->root, "unit", &b->unit, err) ||
	    !json_integer(doc, doc->root, "min_pixels", 1, MOST_PIXELS, &b->min_pixels, err) ||
	    !json_integer(doc, doc->root, "max_pixels", 1, MOST_PIXELS, &b->max_pixels, err))
		return false;
	list->images = arena_alloc(&list->memory, (size_t)cJSON_GetArraySize(images) + 1,
	                           sizeof *list->images, err);
	bool ok = list->images != NULL;
	for (const cJSON *item = images->child; ok && item; item = item->next)
		ok = read_image(list, doc, item, err);
	return ok;
}

bool pixel_list_read(struct pixel_list *list, const char *path, error *err)
{
	json_doc doc;
	*list = (struct pixel_list){ 0 };
	if (!json_load(&doc, path, MAX_LIST_BYTES, err))
		return false;
	bool ok = read_list(list, &doc, err);
	json_free(&doc);
	if (!ok)
		pixel_list_free(list);
	return ok;
}

void pixel_list_free(struct pixel_list *list)
{
	arena_free(&list->memory);
	*list = (struct pixel_list){ 0 };
}

static int compare_paths(const void *key, const void *element)
{
	return strcmp(key, ((const struct pixels *)element)->image);
}

const struct pixels *pixel_list_find(const struct pixel_list *list, const char *image)
{
	return list->count ? bsearch(image, list->images, (size_t)list->count,
	                             sizeof *list->images, compare_paths) : NULL;
}
