/* Changing fields of the catalog by path; see catalog_set.h. */
#include "lib/quant/catalog_set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* If "schemes.NAME" is a family's member, moves it into the schemes section so
 * that it can be changed by itself. */
static bool detach_from_family(const struct catalog *c, cJSON *root, const char *name)
{
	const struct scheme *member = NULL;
	for (int i = 0; i < c->scheme_count; i++)
		if (c->schemes[i].family && strcmp(c->schemes[i].name, name) == 0)
			member = &c->schemes[i];
	if (!member)
		return true;
	cJSON *schemes = cJSON_GetObjectItemCaseSensitive(root, "schemes");
	if (cJSON_GetObjectItemCaseSensitive(schemes, name))
		return true; /* an earlier --set has moved it */
	cJSON *family = cJSON_GetObjectItemCaseSensitive(
		cJSON_GetObjectItemCaseSensitive(root, "families"), member->family);
	cJSON *percents = cJSON_GetObjectItemCaseSensitive(family, "percent");
	int index = 0;
	for (cJSON *p = percents ? percents->child : NULL; p; p = p->next, index++) {
		if (p->valuedouble == member->rule.percent) {
			cJSON_DeleteItemFromArray(percents, index);
			break;
		}
	}
	cJSON *own = cJSON_AddObjectToObject(schemes, name);
	return own && cJSON_AddStringToObject(own, "baseline", member->baseline->name) &&
	       (!member->kv_cache ||
	        cJSON_AddStringToObject(own, "kv_cache", member->kv_cache->name)) &&
	       cJSON_AddNumberToObject(own, "percent", member->rule.percent);
}

/* Sets the field that path (cut up in the doing) leads to from root; takes value
 * over. Every step but the last must exist. */
static bool set_field(cJSON *root, char *path, cJSON *value, const char *whole, error *err)
{
	cJSON *at = root;
	char *dot;
	while (at && (dot = strchr(path, '.'))) {
		*dot = '\0';
		at = cJSON_GetObjectItemCaseSensitive(at, path);
		path = dot + 1;
	}
	if (!cJSON_IsObject(at) || !*path) {
		cJSON_Delete(value);
		return fail(err, EXIT_USAGE, "--set %s: the catalog has no such field", whole);
	}
	bool ok = cJSON_GetObjectItemCaseSensitive(at, path)
	                  ? cJSON_ReplaceItemInObjectCaseSensitive(at, path, value)
	                  : cJSON_AddItemToObject(at, path, value);
	if (!ok)
		cJSON_Delete(value);
	return ok || fail_memory(err, "--set", 0);
}

/* What stands after the "=": JSON, or else text. NULL when memory is out. */
static cJSON *parse_value(const char *value)
{
	json_doc doc;
	error no_json;
	if (!json_parse(&doc, "--set", value, strlen(value), &no_json))
		return no_json.code == EXIT_ENVIRONMENT ? NULL : cJSON_CreateString(value);
	cJSON *parsed = doc.root;
	doc.root = NULL;
	json_free(&doc);
	return parsed;
}

static bool apply_set(const struct catalog *c, cJSON *root, const char *set, error *err)
{
	const char *equals = strchr(set, '=');
	if (!equals || equals == set)
		return fail(err, EXIT_USAGE, "--set: expected PATH=VALUE, found \"%s\"", set);
	cJSON *value = parse_value(equals + 1);
	char *path = strndup(set, (size_t)(equals - set));
	if (!value || !path) {
		cJSON_Delete(value);
		free(path);
		return fail_memory(err, "--set", strlen(set));
	}
	char *rest = strncmp(path, "schemes.", 8) == 0 ? strrchr(path + 8, '.') : NULL;
	bool ok = true;
	if (rest) {
		*rest = '\0';
		ok = detach_from_family(c, root, path + 8) || fail_memory(err, "--set", 0);
		*rest = '.';
	}
	if (ok)
		ok = set_field(root, path, value, set, err);
	else
		cJSON_Delete(value);
	free(path);
	return ok;
}

bool catalog_apply_sets(const struct catalog *c, const struct option_list *sets,
                        json_doc *changed, error *err)
{
	text printed = { 0 }, name = { 0 };
	cJSON *root = cJSON_Duplicate(c->doc.root, true);
	bool ok = root || fail_memory(err, "--set", c->doc.size);
	text_printf(&name, "%s with", c->doc.name);
	for (int i = 0; ok && i < sets->count; i++) {
		ok = apply_set(c, root, sets->values[i], err);
		text_printf(&name, " --set %s", sets->values[i]);
	}
	ok = ok && json_print(root, &printed, err) && text_ok(&name, err) &&
	     text_ok(&printed, err) &&
	     json_parse(changed, name.data, printed.data, printed.length, err);
	cJSON_Delete(root);
	text_free(&printed);
	text_free(&name);
	return ok;
}
