/* What the files of the profile writer share; see profile.h. */
#ifndef QUERN_CHECKPOINT_PROFILE_PARTS_H
#define QUERN_CHECKPOINT_PROFILE_PARTS_H

#include "lib/base/json_tree.h"
#include "lib/checkpoint/profile.h"

#define VISION "visual."

enum { MAX_FORMS = 8 };

/* The forms that some linear has, in the order of the first such linears. Where none is
 * quantised there is one all the same, that of the first: a config must name a format. */
struct form_list {
	const struct linear_form *forms[MAX_FORMS];
	int count;
};

/* Every linear of the model. */
struct model_decisions {
	const struct module_decision *modules;
	int count;
	struct form_list forms;
	bool fp8_cache; /* keys and values are kept in static per-tensor FP8 */
};

/* What both languages say of such a cache. */
extern const struct number_form FP8_CACHE;

bool starts_with(const char *name, const char *prefix);

/* No linear of the vision tower is quantised. */
bool vision_is_whole(const struct model_decisions *d);

/* The value of quantization_config. */
void build_modelopt(struct json_tree *tree, const struct model_decisions *d);
void build_compressed(struct json_tree *tree, const struct model_decisions *d);

/* hf_quant_config.json, ModelOpt's nested shape. */
void build_nested(struct json_tree *tree, const struct model_decisions *d);

#endif
