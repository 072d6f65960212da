/* Fields of the catalog's entries; see catalog_fields.h. */
#include "lib/quant/catalog_fields.h"

#include <string.h>

/* A section of the catalog that must be an object of objects; NULL on failure.
 * *count is the number of its entries. */
const cJSON *open_section(struct catalog *c, const char *name, int *count,
                          error *err)
{
	const cJSON *section = json_object(&c->doc, c->doc.root, name, err);
	if (!section)
		return NULL;
	*count = 0;
	for (const cJSON *entry = section->child; entry; entry = entry->next) {
		if (!cJSON_IsObject(entry)) {
			json_fail(&c->doc, entry, err, "expected an object");
			return NULL;
		}
		++*count;
	}
	return section;
}

/* One of a NULL-terminated list of words. */
bool read_word(struct catalog *c, const cJSON *entry, const char *field,
               const char *const *words, const char **out, error *err)
{
	if (!json_text_or(&c->doc, entry, field, out, err))
		return false;
	text known = { 0 };
	for (int i = 0; words[i]; i++) {
		if (strcmp(words[i], *out) == 0) {
			text_free(&known);
			return true;
		}
		text_printf(&known, "%s\"%s\"", i ? ", " : "", words[i]);
	}
	json_fail(&c->doc, cJSON_GetObjectItemCaseSensitive(entry, field), err,
	          "expected one of %s, found \"%s\"", known.data ? known.data : "", *out);
	text_free(&known);
	return false;
}

/* A name becomes a folder, a target and a part of file names. `place` is what the
 * error points at. */
bool check_name(struct catalog *c, const cJSON *place, const char *name, error *err)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	                              "0123456789_-";
	size_t length = strlen(name);
	if (length == 0 || length > 150 || name[0] == '-' || strspn(name, allowed) != length)
		return json_fail(&c->doc, place, err,
		                 "expected a name of letters, digits, '_' and '-', found "
		                 "\"%.160s\"", name);
	return true;
}

/* Where an error about a field points that may be absent. */
const cJSON *place_of(const cJSON *entry, const char *field)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(entry, field);
	return item ? item : entry;
}

/* Texts end up in build.ninja, where a line ends a value. */
bool check_one_line(struct catalog *c, const cJSON *item, error *err)
{
	for (const char *p = item->valuestring; *p; p++)
		if ((unsigned char)*p < ' ')
			return json_fail(&c->doc, item, err,
			                 "expected a text without control characters, found \\x%02x",
			                 (unsigned char)*p);
	return true;
}

/* An optional list of globs. */
bool read_globs(struct catalog *c, const cJSON *e, const char *field,
                struct globs *out, error *err)
{
	if (!cJSON_HasObjectItem(e, field))
		return true;
	const cJSON *globs = json_array(&c->doc, e, field, err);
	if (!globs || !(out->values = arena_alloc(&c->memory,
	                                          (size_t)cJSON_GetArraySize(globs),
	                                          sizeof *out->values, err)))
		return false;
	for (const cJSON *glob = globs->child; glob; glob = glob->next) {
		if (!cJSON_IsString(glob))
			return json_fail(&c->doc, glob, err, "expected a glob on layer names");
		if (!check_one_line(c, glob, err))
			return false;
		out->values[out->count++] = glob->valuestring;
	}
	return true;
}

/* Finds the entry that field of e names in an array of structs whose first member
 * is the name. */
const void *read_reference(struct catalog *c, const cJSON *e, const char *field,
                           const void *entries, int count, size_t size, error *err)
{
	const char *name;
	if (!json_text(&c->doc, e, field, &name, err))
		return NULL;
	for (int i = 0; i < count; i++) {
		const void *entry = (const char *)entries + (size_t)i * size;
		if (strcmp(*(const char *const *)entry, name) == 0)
			return entry;
	}
	json_fail(&c->doc, cJSON_GetObjectItemCaseSensitive(e, field), err,
	          "the catalog has no %s \"%s\"", field, name);
	return NULL;
}
