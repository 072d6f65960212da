/* Writing and reading fold.json; see fold_file.h. A norm's weights are one text of four
 * hexadecimal digits a channel, the bits of its BF16. */
#include "lib/quant/fold_file.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/json_tree.h"

enum { MAX_FOLD_BYTES = 256 << 20, DIGITS = 4 };

static void add_norm(struct json_tree *tree, cJSON *entry, const char *name,
                     const float *norm, int in)
{
	text hex = { 0 };
	for (int i = 0; i < in; i++) {
		uint32_t bits;
		memcpy(&bits, &norm[i], sizeof bits);
		text_printf(&hex, "%04x", (unsigned)(bits >> 16));
	}
	tree->failed |= hex.failed;
	tree_text(tree, entry, name, hex.data ? hex.data : "");
	text_free(&hex);
}

bool print_folds(const struct folds *f, const struct fold_facts *facts, text *out,
                 error *err)
{
	struct json_tree tree = tree_new();
	tree_text(&tree, tree.root, "key", facts->key);
	tree_text(&tree, tree.root, "element", facts->format->element);
	tree_text(&tree, tree.root, "granularity", facts->format->granularity);
	tree_number(&tree, tree.root, "samples", (double)facts->samples);
	cJSON *groups = tree_object(&tree, tree.root, "groups");
	for (int i = 0; i < f->count; i++) {
		const struct fold *fold = &f->folds[i];
		cJSON *entry = tree_object(&tree, groups, fold->group);
		tree_text(&tree, entry, "norm", fold->norm);
		tree_number(&tree, entry, "candidate", fold->choice.candidate);
		tree_number(&tree, entry, "error_without", fold->choice.plain_error);
		tree_number(&tree, entry, "error", fold->choice.error);
		add_norm(&tree, entry, "before", fold->before, fold->in);
		add_norm(&tree, entry, "after", fold->after, fold->in);
	}
	return tree_finish(&tree, out, err);
}

/* norm[in]; NULL on failure. */
static float *read_norm(struct folds *f, const json_doc *doc, const cJSON *entry,
                        const char *name, int in, error *err)
{
	const char *hex;
	if (!json_text(doc, entry, name, &hex, err))
		return NULL;
	size_t digits = 0;
	while (isxdigit((unsigned char)hex[digits]))
		digits++;
	if (hex[digits] || digits != (size_t)in * DIGITS) {
		json_fail(doc, cJSON_GetObjectItemCaseSensitive(entry, name), err,
		          "expected %d hexadecimal digits", in * DIGITS);
		return NULL;
	}
	float *norm = arena_alloc(&f->memory, (size_t)in, sizeof *norm, err);
	for (int i = 0; norm && i < in; i++) {
		char word[DIGITS + 1] = { 0 };
		memcpy(word, hex + (size_t)i * DIGITS, DIGITS);
		uint32_t bits = (uint32_t)strtoul(word, NULL, 16) << 16;
		memcpy(&norm[i], &bits, sizeof bits);
	}
	return norm;
}

/* Groups are called by their first member. */
static const struct linear_shape *find_first(const char *group,
                                             const struct linear_shape *linears, int count)
{
	for (int i = 0; i < count; i++) {
		size_t length = strlen(linears[i].name);
		if (strncmp(linears[i].name, group, length) == 0 &&
		    strcmp(group + length, ".quant_recipe") == 0)
			return &linears[i];
	}
	return NULL;
}

static bool read_fold(struct folds *f, const json_doc *doc, const cJSON *entry,
                      const struct format *format, const struct linear_shape *linear,
                      error *err)
{
	struct fold *fold = &f->folds[f->count++];
	const char *norm;
	*fold = (struct fold){ .format = format };
	if (!linear)
		return json_fail(doc, entry, err, "the model has no such group");
	fold->group = arena_text(&f->memory, entry->string, strlen(entry->string), err);
	fold->in = linear->in;
	if (!fold->group || !json_text(doc, entry, "norm", &norm, err))
		return false;
	if (!norm_of_linear(linear->name, fold->norm) || strcmp(norm, fold->norm) != 0)
		return json_fail(doc, entry, err, "expected the norm before it, found %.80s", norm);
	fold->before = read_norm(f, doc, entry, "before", fold->in, err);
	fold->after = fold->before ? read_norm(f, doc, entry, "after", fold->in, err) : NULL;
	fold->scales = fold->after ? arena_alloc(&f->memory, (size_t)fold->in,
	                                         sizeof *fold->scales, err) : NULL;
	if (!fold->scales)
		return false;
	int bad = fold_scales(fold->before, fold->after, fold->in, fold->scales);
	return bad == fold->in ||
	       json_fail(doc, entry, err, "channel %d: %g cannot be %g folded", bad,
	                 (double)fold->after[bad], (double)fold->before[bad]);
}

static const struct format *read_format(const json_doc *doc, const struct format *expected,
                                        error *err)
{
	const char *element, *granularity;
	if (!json_text(doc, doc->root, "element", &element, err) ||
	    !json_text(doc, doc->root, "granularity", &granularity, err))
		return NULL;
	const struct format *found = format_find(element, granularity);
	if (found && found->channel_scales && (!expected || found == expected))
		return found;
	json_fail(doc, doc->root, err, "expected channel scales of %s %s, found %.40s %.40s",
	          expected ? expected->element : "a format", expected ? expected->granularity
	                                                              : "that has such",
	          element, granularity);
	return NULL;
}

static bool read_folds(struct folds *f, const json_doc *doc, const struct format *expected,
                       const struct linear_shape *linears, int count, error *err)
{
	const cJSON *list = json_object(doc, doc->root, "groups", err);
	const struct format *format = list ? read_format(doc, expected, err) : NULL;
	if (!format)
		return false;
	size_t room = (size_t)f->count + (size_t)cJSON_GetArraySize(list);
	struct fold *folds = arena_alloc(&f->memory, room, sizeof *folds, err);
	if (folds && f->count)
		memcpy(folds, f->folds, (size_t)f->count * sizeof *folds);
	f->folds = folds;
	for (const cJSON *e = folds ? list->child : NULL; e; e = e->next)
		if (!read_fold(f, doc, e, format, find_first(e->string, linears, count), err))
			return false;
	return folds != NULL;
}

bool folds_read(struct folds *f, const char *path, const struct format *format,
                const struct linear_shape *linears, int count, error *err)
{
	json_doc doc;
	if (!json_load(&doc, path, MAX_FOLD_BYTES, err))
		return false;
	bool ok = read_folds(f, &doc, format, linears, count, err);
	json_free(&doc);
	return ok;
}

void folds_free(struct folds *f)
{
	arena_free(&f->memory);
	*f = (struct folds){ 0 };
}

const struct fold *find_fold(const struct folds *f, const struct format *format,
                             const char *group)
{
	for (int i = 0; f && i < f->count; i++)
		if (f->folds[i].format == format && strcmp(f->folds[i].group, group) == 0)
			return &f->folds[i];
	return NULL;
}

void fold_key(struct key *key, const struct folds *f, const struct format *format,
              const char *group)
{
	const struct fold *fold = find_fold(f, format, group);
	struct digester d;
	struct digest digest;
	error ignored;
	if (!fold)
		return;
	digester_begin(&d);
	digester_add(&d, fold->after, (size_t)fold->in * sizeof *fold->after);
	if (digester_end(&d, &digest, &ignored))
		key_addf(key, "folded", "%s %s", fold->norm, digest.hex);
	else
		key->text.failed = true;
}
