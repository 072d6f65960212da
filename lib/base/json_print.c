/* Printing JSON: the same tree gives the same bytes everywhere. cJSON's own
 * printer rounds some doubles to 15 digits and follows the locale. */
#include "lib/base/json.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/json_scan.h"

void json_format_number(double value, char out[JSON_NUMBER_TEXT])
{
	static const double exact = 9007199254740992.0; /* 2^53 */
	locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	locale_t kept = uselocale(plain);
	if (value == floor(value) && fabs(value) <= exact) {
		snprintf(out, JSON_NUMBER_TEXT, "%.0f", value);
	} else {
		int digits = 0;
		do
			snprintf(out, JSON_NUMBER_TEXT, "%.*g", ++digits, value);
		while (digits < 17 && strtod(out, NULL) != value);
	}
	uselocale(kept);
	freelocale(plain);
}

bool json_quote(text *out, const char *string, size_t length)
{
	static const char named[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
	text_add(out, "\"", 1);
	for (size_t i = 0; i < length;) {
		size_t bytes = utf8_sequence(string + i, length - i);
		const char *found = memchr(named, string[i], sizeof named - 1);
		if (bytes == 0)
			return false;
		if (found)
			text_printf(out, "\\%c", names[found - named]);
		else if (bytes == 1 && (unsigned char)string[i] < ' ')
			text_printf(out, "\\u%04x", (unsigned char)string[i]);
		else
			text_add(out, string + i, bytes);
		i += bytes;
	}
	text_add(out, "\"", 1);
	return true;
}

static bool print_text(const char *string, text *out, error *err)
{
	return json_quote(out, string, strlen(string)) ||
	       fail(err, EXIT_BAD_INPUT, "cannot write as JSON, not UTF-8: %.200s", string);
}

static bool print_number(double value, text *out, error *err)
{
	char number[JSON_NUMBER_TEXT];
	if (!isfinite(value))
		return fail(err, EXIT_INTERNAL, "cannot write %f as JSON", value);
	json_format_number(value, number);
	text_puts(out, number);
	return true;
}

static bool print_value(const cJSON *item, int depth, text *out, error *err);

static void print_line(text *out, int depth)
{
	text_add(out, "\n", 1);
	for (int i = 0; i < depth; i++)
		text_add(out, "  ", 2);
}

static bool print_container(const cJSON *container, int depth, text *out, error *err)
{
	bool object = cJSON_IsObject(container);
	if (depth == JSON_MAX_DEPTH)
		return fail(err, EXIT_INTERNAL, "cannot write JSON nested deeper than %d",
		            JSON_MAX_DEPTH);
	text_puts(out, object ? "{" : "[");
	const cJSON *item;
	cJSON_ArrayForEach(item, container) {
		if (item != container->child)
			text_add(out, ",", 1);
		print_line(out, depth + 1);
		if (object) {
			if (!print_text(item->string, out, err))
				return false;
			text_add(out, ": ", 2);
		}
		if (!print_value(item, depth + 1, out, err))
			return false;
	}
	if (container->child)
		print_line(out, depth);
	text_puts(out, object ? "}" : "]");
	return true;
}

static bool print_value(const cJSON *item, int depth, text *out, error *err)
{
	if (cJSON_IsObject(item) || cJSON_IsArray(item))
		return print_container(item, depth, out, err);
	if (cJSON_IsString(item))
		return print_text(item->valuestring, out, err);
	if (cJSON_IsNumber(item))
		return print_number(item->valuedouble, out, err);
	if (cJSON_IsBool(item) || cJSON_IsNull(item)) {
		text_puts(out, cJSON_IsNull(item) ? "null" : cJSON_IsTrue(item) ? "true" : "false");
		return true;
	}
	return fail(err, EXIT_INTERNAL, "cannot write a cJSON item of no JSON type");
}

bool json_print(const cJSON *root, text *out, error *err)
{
	if (!print_value(root, 0, out, err))
		return false;
	text_add(out, "\n", 1);
	return text_ok(out, err);
}
