/* Building JSON; see json_tree.h. */
#include "lib/base/json_tree.h"

#include "lib/base/json.h"

struct json_tree tree_new(void)
{
	cJSON *root = cJSON_CreateObject();
	return (struct json_tree){ .root = root, .failed = root == NULL };
}

/* Takes item over; returns it once it hangs in the tree, else NULL. */
static cJSON *hang(struct json_tree *tree, cJSON *parent, const char *name, cJSON *item)
{
	bool hung = item && parent &&
	            (name ? cJSON_AddItemToObject(parent, name, item)
	                  : cJSON_AddItemToArray(parent, item));
	if (hung)
		return item;
	cJSON_Delete(item);
	tree->failed = true;
	return NULL;
}

cJSON *tree_object(struct json_tree *tree, cJSON *parent, const char *name)
{
	return hang(tree, parent, name, cJSON_CreateObject());
}

cJSON *tree_array(struct json_tree *tree, cJSON *parent, const char *name)
{
	return hang(tree, parent, name, cJSON_CreateArray());
}

void tree_text(struct json_tree *tree, cJSON *parent, const char *name, const char *value)
{
	hang(tree, parent, name, cJSON_CreateString(value));
}

void tree_number(struct json_tree *tree, cJSON *parent, const char *name, double value)
{
	hang(tree, parent, name, cJSON_CreateNumber(value));
}

void tree_boolean(struct json_tree *tree, cJSON *parent, const char *name, bool value)
{
	hang(tree, parent, name, cJSON_CreateBool(value));
}

void tree_null(struct json_tree *tree, cJSON *parent, const char *name)
{
	hang(tree, parent, name, cJSON_CreateNull());
}

void tree_copy(struct json_tree *tree, cJSON *parent, const char *name, const cJSON *item)
{
	hang(tree, parent, name, cJSON_Duplicate(item, true));
}

bool tree_finish(struct json_tree *tree, text *out, error *err)
{
	bool ok = tree->failed ? fail_memory(err, "a JSON tree", 0)
	                       : json_print(tree->root, out, err);
	tree_free(tree);
	return ok;
}

void tree_free(struct json_tree *tree)
{
	cJSON_Delete(tree->root);
	*tree = (struct json_tree){ 0 };
}
