/* See format.h. */
#include "lib/report/format.h"

#include <stdio.h>
#include <string.h>

const char *show(char out[SHOWN_BYTES], const char *format, double value)
{
	if (is_missing(value))
		return NOT_THERE;
	snprintf(out, SHOWN_BYTES, format, value);
	return out;
}

const char *show_estimate(char out[SHOWN_BYTES], const char *format, struct estimate e)
{
	if (is_missing(e.mean))
		return NOT_THERE;
	int length = snprintf(out, SHOWN_BYTES, format, e.mean);
	if (e.error >= 0 && length > 0 && length < SHOWN_BYTES - 24)
		snprintf(out + length, (size_t)(SHOWN_BYTES - length), " ± %.1e", e.error);
	return out;
}

const char *show_text(const char *text)
{
	return text ? text : NOT_THERE;
}

void short_name(char *out, size_t size, const char *scheme)
{
	static const char prefix[] = "fp8_autoquant_", suffix[] = "_coco2017";
	size_t length;
	if (strncmp(scheme, prefix, strlen(prefix)) == 0)
		scheme += strlen(prefix);
	length = strlen(scheme);
	if (length > strlen(suffix) && strcmp(scheme + length - strlen(suffix), suffix) == 0)
		length -= strlen(suffix);
	snprintf(out, size, "%.*s", (int)length, scheme);
}

int group_length(const char *group)
{
	const char *suffix = strstr(group, ".quant_recipe");
	return (int)(suffix ? suffix - group : (long)strlen(group));
}

void add_escaped(text *out, const char *plain)
{
	for (const char *p = plain; *p; p++)
		if (*p == '<')
			text_puts(out, "&lt;");
		else if (*p == '>')
			text_puts(out, "&gt;");
		else if (*p == '&')
			text_puts(out, "&amp;");
		else if (*p == '"')
			text_puts(out, "&quot;");
		else
			text_add(out, p, 1);
}
