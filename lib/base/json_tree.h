/* Building JSON: cJSON nodes with "out of memory" remembered and asked about
 * once, when the tree is printed. */
#ifndef QUERN_BASE_JSON_TREE_H
#define QUERN_BASE_JSON_TREE_H

#include <cjson/cJSON.h>

#include "lib/base/error.h"
#include "lib/base/text.h"

struct json_tree {
	cJSON *root; /* owned; free with tree_free */
	bool failed;
};

/* Starts a tree whose root is an object. */
struct json_tree tree_new(void);

/* Adds to parent (of this tree): under `name` if parent is an object, at the end
 * (name NULL) if it is an array. A parent of NULL, from an addition that failed,
 * is let pass. */
cJSON *tree_object(struct json_tree *tree, cJSON *parent, const char *name);
cJSON *tree_array(struct json_tree *tree, cJSON *parent, const char *name);
void tree_text(struct json_tree *tree, cJSON *parent, const char *name, const char *value);
void tree_number(struct json_tree *tree, cJSON *parent, const char *name, double value);
void tree_boolean(struct json_tree *tree, cJSON *parent, const char *name, bool value);
void tree_null(struct json_tree *tree, cJSON *parent, const char *name);

/* Adds a deep copy of an item of another tree. */
void tree_copy(struct json_tree *tree, cJSON *parent, const char *name, const cJSON *item);

/* Prints (json_print of json.h) and frees the tree. */
bool tree_finish(struct json_tree *tree, text *out, error *err);
void tree_free(struct json_tree *tree);

#endif
