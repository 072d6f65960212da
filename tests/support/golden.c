/* See golden.h. */
#include "tests/support/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_GOLDEN_BYTES = 64 << 20 };

void golden_load(json_doc *doc, const char *folder, const char *name)
{
	char path[PATH_BYTES];
	error err;
	if (!join_path(path, sizeof path, folder, name, &err) ||
	    !json_load(doc, path, MAX_GOLDEN_BYTES, &err))
		fail_msg("%s", err.text);
}

void golden_integers(const cJSON *list, int32_t *out, int count)
{
	const cJSON *item;
	int n = 0;
	assert_true(cJSON_IsArray(list));
	assert_int_equal(cJSON_GetArraySize(list), count);
	cJSON_ArrayForEach(item, list)
		out[n++] = (int32_t)item->valuedouble;
}

/* The entry of images/index.json for that file. */
void golden_patches(struct patches *out, const char *folder, const char *file,
                    const struct vision_config *v)
{
	json_doc index;
	char name[64], path[PATH_BYTES];
	struct image_processor processor;
	struct image image;
	error err;
	const cJSON *entry, *found = NULL;
	golden_load(&index, folder, "images/index.json");
	cJSON_ArrayForEach(entry, index.root)
		if (strcmp(cJSON_GetObjectItem(entry, "file")->valuestring, file) == 0)
			found = entry;
	assert_non_null(found);
	snprintf(name, sizeof name, "images/%s",
	         cJSON_GetObjectItem(found, "resized")->valuestring);
	if (!join_path(path, sizeof path, folder, name, &err) ||
	    !image_processor_load(&processor, DEMO_MODEL, &err) ||
	    !image_load(&image, path, &err))
		fail_msg("%s", err.text);
	if (!image_to_patches(&image, &processor, v, out, &err))
		fail_msg("%s: %s", path, err.text);
	image_free(&image);
	json_free(&index);
}

void golden_sample(struct sample *s, const char *folder, const cJSON *item,
                   const char *ids_field, const struct model_config *config)
{
	const cJSON *ids = cJSON_GetObjectItem(item, ids_field);
	const cJSON *file = cJSON_GetObjectItem(item, "file");
	*s = (struct sample){ .tokens = cJSON_GetArraySize(ids) };
	assert_true(s->tokens > 0);
	s->ids = calloc((size_t)s->tokens, sizeof *s->ids);
	s->graded = calloc((size_t)s->tokens, sizeof *s->graded);
	assert_true(s->ids && s->graded);
	golden_integers(ids, s->ids, s->tokens);
	if (cJSON_IsString(file))
		golden_patches(&s->patches, folder, file->valuestring, &config->vision);
}
