/* JSON documents: the strict scanner first, then cJSON's tree, then fields taken
 * out of it with their type and range checked. */
#include "lib/base/json.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/base/json_scan.h"

/* ---- Documents ---- */

/* Takes over doc->name and doc->text, either of which may be NULL. */
static bool parse_owned(json_doc *doc, error *err)
{
	if (!doc->name || !doc->text) {
		fail_memory(err, "a JSON text", doc->size);
	} else if (json_scan_check(doc->name, doc->text, doc->size, err)) {
		/* The scanner accepts less than cJSON, so cJSON can only lack memory. */
		doc->root = cJSON_ParseWithLength(doc->text, doc->size);
		if (doc->root)
			return true;
		fail_memory(err, doc->name, doc->size);
	}
	json_free(doc);
	return false;
}

bool json_load(json_doc *doc, const char *path, size_t max_bytes, error *err)
{
	*doc = (json_doc){ 0 };
	if (!read_file(path, max_bytes, &doc->text, &doc->size, err))
		return false;
	doc->name = strdup(path);
	return parse_owned(doc, err);
}

bool json_parse(json_doc *doc, const char *name, const char *text, size_t size,
                error *err)
{
	*doc = (json_doc){ .name = strdup(name), .text = malloc(size + 1), .size = size };
	if (doc->text) {
		memcpy(doc->text, text, size);
		doc->text[size] = '\0';
	}
	return parse_owned(doc, err);
}

void json_free(json_doc *doc)
{
	cJSON_Delete(doc->root);
	free(doc->text);
	free(doc->name);
	*doc = (json_doc){ 0 };
}

/* ---- Places ---- */

/* The items from the root (chain[0]) down to one item. */
struct chain {
	const cJSON *items[JSON_MAX_DEPTH + 1];
	int count;
};

static bool find_chain(const cJSON *from, const cJSON *item, struct chain *chain)
{
	if (chain->count > JSON_MAX_DEPTH)
		return false;
	chain->items[chain->count++] = from;
	if (from == item)
		return true;
	const cJSON *child;
	cJSON_ArrayForEach(child, from) {
		if (find_chain(child, item, chain))
			return true;
	}
	chain->count--;
	return false;
}

static int index_in_parent(const cJSON *parent, const cJSON *item)
{
	int index = 0;
	for (const cJSON *child = parent->child; child != item; child = child->next)
		index++;
	return index;
}

/* The scanner has just opened parent: reads on to the first token of child and
 * sets *place, or returns false when the source has no such child. */
static bool scan_to_child(struct json_scan *s, const cJSON *parent, const cJSON *child,
                          size_t *place, error *err)
{
	bool in_object = s->token == JSON_OBJECT_OPEN;
	int left = index_in_parent(parent, child);
	if (!in_object && s->token != JSON_ARRAY_OPEN)
		return false;
	while (json_scan_next(s, err)) {
		if (s->token == JSON_OBJECT_CLOSE || s->token == JSON_ARRAY_CLOSE)
			return false;
		size_t start = s->start;
		bool found = in_object ? child->string && json_scan_is(s, child->string)
		                       : left-- == 0;
		if (in_object && !json_scan_next(s, err))
			return false;
		if (found) {
			*place = start;
			return true;
		}
		if (!json_scan_skip(s, err))
			return false;
	}
	return false;
}

void json_place(const json_doc *doc, const cJSON *item, int *line, int *column)
{
	struct chain chain = { .count = 0 };
	struct json_scan s;
	error ignored; /* the text was scanned before: only memory can be lacking */
	size_t place = 0;
	find_chain(doc->root, item, &chain);
	json_scan_begin(&s, doc->name, doc->text, doc->size);
	if (json_scan_next(&s, &ignored))
		place = s.start;
	for (int i = 1; i < chain.count; i++)
		if (!scan_to_child(&s, chain.items[i - 1], chain.items[i], &place, &ignored))
			break;
	json_scan_free(&s);
	json_line_column(doc->text, place, line, column);
}

void json_path(const json_doc *doc, const cJSON *item, char *out, size_t size)
{
	struct chain chain = { .count = 0 };
	size_t used = 0;
	find_chain(doc->root, item, &chain);
	if (size)
		out[0] = '\0';
	for (int i = 1; i < chain.count && used < size; i++) {
		const cJSON *parent = chain.items[i - 1], *child = chain.items[i];
		int n = cJSON_IsArray(parent)
		            ? snprintf(out + used, size - used, "[%d]",
		                       index_in_parent(parent, child))
		            : snprintf(out + used, size - used, "%s%s", i > 1 ? "." : "",
		                       child->string);
		used += n > 0 ? (size_t)n : 0;
	}
}

bool json_fail(const json_doc *doc, const cJSON *item, error *err, const char *format,
               ...)
{
	char message[sizeof err->text], path[256];
	int line, column;
	va_list args;
	va_start(args, format);
	vsnprintf(message, sizeof message, format, args);
	va_end(args);
	json_place(doc, item, &line, &column);
	json_path(doc, item, path, sizeof path);
	return fail(err, EXIT_BAD_INPUT, "%s:%d:%d: %s%s%s", doc->name, line, column, path,
	            *path ? ": " : "", message);
}

/* ---- Fields ---- */

/* What an item is, for "expected ..., found ...". */
static const char *describe(const cJSON *item, char out[80])
{
	if (cJSON_IsNumber(item))
		json_format_number(item->valuedouble, out);
	else if (cJSON_IsString(item))
		snprintf(out, 80, "\"%.60s\"", item->valuestring);
	else
		snprintf(out, 80, "%s",
		         cJSON_IsObject(item)  ? "an object"
		         : cJSON_IsArray(item) ? "an array"
		         : cJSON_IsTrue(item)  ? "true"
		         : cJSON_IsFalse(item) ? "false"
		                               : "null");
	return out;
}

static bool fail_type(const json_doc *doc, const cJSON *item, const char *expected,
                      error *err)
{
	char found[80];
	return json_fail(doc, item, err, "expected %s, found %s", expected,
	                 describe(item, found));
}

/* The field, or NULL when it is absent or null. */
static const cJSON *find_field(const cJSON *object, const char *field)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, field);
	return cJSON_IsNull(item) ? NULL : item;
}

/* The field, or NULL with an error that it is missing. */
static const cJSON *need_field(const json_doc *doc, const cJSON *object,
                               const char *field, const char *expected, error *err)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, field);
	if (!item && !cJSON_IsObject(object))
		fail_type(doc, object, "an object", err);
	else if (!item)
		json_fail(doc, object, err, "lacks the field \"%s\" (%s)", field, expected);
	return item;
}

const cJSON *json_object(const json_doc *doc, const cJSON *object, const char *field,
                         error *err)
{
	const cJSON *item = need_field(doc, object, field, "an object", err);
	if (!item || cJSON_IsObject(item))
		return item;
	fail_type(doc, item, "an object", err);
	return NULL;
}

const cJSON *json_array(const json_doc *doc, const cJSON *object, const char *field,
                        error *err)
{
	const cJSON *item = need_field(doc, object, field, "an array", err);
	if (!item || cJSON_IsArray(item))
		return item;
	fail_type(doc, item, "an array", err);
	return NULL;
}

static bool take_text(const json_doc *doc, const cJSON *item, const char **out,
                      error *err)
{
	if (!cJSON_IsString(item))
		return fail_type(doc, item, "a text", err);
	*out = item->valuestring;
	return true;
}

static bool take_integer(const json_doc *doc, const cJSON *item, int64_t low,
                         int64_t high, int64_t *out, error *err)
{
	static const int64_t exact = 9007199254740991; /* 2^53 - 1 */
	low = low < -exact ? -exact : low;
	high = high > exact ? exact : high;
	double value = item->valuedouble;
	if (cJSON_IsNumber(item) && value == floor(value) && value >= (double)low &&
	    value <= (double)high) {
		*out = (int64_t)value;
		return true;
	}
	char expected[80];
	snprintf(expected, sizeof expected, "an integer from %lld to %lld", (long long)low,
	         (long long)high);
	return fail_type(doc, item, expected, err);
}

static bool take_number(const json_doc *doc, const cJSON *item, double low, double high,
                        double *out, error *err)
{
	if (cJSON_IsNumber(item) && item->valuedouble >= low && item->valuedouble <= high) {
		*out = item->valuedouble;
		return true;
	}
	char expected[100], low_text[JSON_NUMBER_TEXT], high_text[JSON_NUMBER_TEXT];
	json_format_number(low, low_text);
	json_format_number(high, high_text);
	snprintf(expected, sizeof expected, "a number from %s to %s", low_text, high_text);
	return fail_type(doc, item, expected, err);
}

static bool take_boolean(const json_doc *doc, const cJSON *item, bool *out, error *err)
{
	if (!cJSON_IsBool(item))
		return fail_type(doc, item, "true or false", err);
	*out = cJSON_IsTrue(item);
	return true;
}

bool json_text(const json_doc *doc, const cJSON *object, const char *field,
               const char **out, error *err)
{
	const cJSON *item = need_field(doc, object, field, "a text", err);
	return item && take_text(doc, item, out, err);
}

bool json_integer(const json_doc *doc, const cJSON *object, const char *field,
                  int64_t low, int64_t high, int64_t *out, error *err)
{
	const cJSON *item = need_field(doc, object, field, "an integer", err);
	return item && take_integer(doc, item, low, high, out, err);
}

bool json_number(const json_doc *doc, const cJSON *object, const char *field,
                 double low, double high, double *out, error *err)
{
	const cJSON *item = need_field(doc, object, field, "a number", err);
	return item && take_number(doc, item, low, high, out, err);
}

bool json_boolean(const json_doc *doc, const cJSON *object, const char *field, bool *out,
                  error *err)
{
	const cJSON *item = need_field(doc, object, field, "true or false", err);
	return item && take_boolean(doc, item, out, err);
}

bool json_text_or(const json_doc *doc, const cJSON *object, const char *field,
                  const char **out, error *err)
{
	const cJSON *item = find_field(object, field);
	return !item || take_text(doc, item, out, err);
}

bool json_integer_or(const json_doc *doc, const cJSON *object, const char *field,
                     int64_t low, int64_t high, int64_t *out, error *err)
{
	const cJSON *item = find_field(object, field);
	return !item || take_integer(doc, item, low, high, out, err);
}

bool json_number_or(const json_doc *doc, const cJSON *object, const char *field,
                    double low, double high, double *out, error *err)
{
	const cJSON *item = find_field(object, field);
	return !item || take_number(doc, item, low, high, out, err);
}

bool json_boolean_or(const json_doc *doc, const cJSON *object, const char *field,
                     bool *out, error *err)
{
	const cJSON *item = find_field(object, field);
	return !item || take_boolean(doc, item, out, err);
}

/* ---- Unknown fields ---- */

enum { COMPARED_BYTES = 64 };

/* Levenshtein's distance, of names short enough to be compared. */
static size_t edit_distance(const char *a, const char *b)
{
	size_t row[COMPARED_BYTES + 1], length_a = strlen(a), length_b = strlen(b);
	if (length_a > COMPARED_BYTES || length_b > COMPARED_BYTES)
		return SIZE_MAX;
	for (size_t j = 0; j <= length_b; j++)
		row[j] = j;
	for (size_t i = 1; i <= length_a; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= length_b; j++) {
			size_t replace = diagonal + (a[i - 1] != b[j - 1]);
			size_t insert = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
			diagonal = row[j];
			row[j] = replace < insert ? replace : insert;
		}
	}
	return row[length_b];
}

/* The known name that `name` may be a slip of, or NULL. */
static const char *nearest_name(const char *name, const char *const *known)
{
	const char *nearest = NULL;
	size_t least = strlen(name) / 3 + 2; /* farther is no slip */
	for (; *known; known++) {
		size_t distance = edit_distance(name, *known);
		if (distance < least) {
			least = distance;
			nearest = *known;
		}
	}
	return nearest;
}

static bool is_known(const char *name, const char *const *known)
{
	while (*known && strcmp(*known, name) != 0)
		known++;
	return *known != NULL;
}

bool json_only_fields(const json_doc *doc, const cJSON *object,
                      const char *const *known, error *err)
{
	const cJSON *item;
	if (!cJSON_IsObject(object))
		return fail_type(doc, object, "an object", err);
	cJSON_ArrayForEach(item, object) {
		if (is_known(item->string, known))
			continue;
		const char *nearest = nearest_name(item->string, known);
		if (nearest)
			return json_fail(doc, item, err, "unknown field, did you mean \"%s\"?",
			                 nearest);
		return json_fail(doc, item, err, "unknown field");
	}
	return true;
}
