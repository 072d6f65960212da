/* The golden folders (tests/golden/demo, and coco where it is present): what the
 * reference computed for given token ids and images. Failures fail the test. */
#ifndef QUERN_TESTS_SUPPORT_GOLDEN_H
#define QUERN_TESTS_SUPPORT_GOLDEN_H

#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/checkpoint/config.h"
#include "lib/data/prompt.h"

#define DEMO_MODEL "demo/tiny-qwen2_5-vl"
#define DEMO_GOLDEN "tests/golden/demo"

/* folder/name, parsed. */
void golden_load(json_doc *doc, const char *folder, const char *name);

/* A list of numbers as integers into out[count]; the list must have as many. */
void golden_integers(const cJSON *list, int32_t *out, int count);

/* The image of that name as the reference resized it. patches_free it. */
void golden_patches(struct patches *out, const char *folder, const char *file,
                    const struct vision_config *v);

/* The sample of item's `ids_field` and, unless its "file" is null, the image of
 * that name as the reference resized it. Nothing is graded. sample_free it. */
void golden_sample(struct sample *s, const char *folder, const cJSON *item,
                   const char *ids_field, const struct model_config *config);

#endif
