/* See format.h. */
#include "lib/report/format.h"

#include <stdio.h>
#include <string.h>

const char *show(char out[SHOWN_BYTES], const char *format, double value)
{
	if (is_missing(value))
		return NOT_THERE;
	snprintf(out, SHOWN_BYTES, format, value);
	if (value == 0 && strchr(format, 'e'))
		strcpy(out, "0");
	return out;
}

const char *show_estimate(char out[SHOWN_BYTES], const char *format, struct estimate e)
{
	char error[SHOWN_BYTES];
	if (show(out, format, e.mean) != out || !(e.error >= 0) || (e.mean == 0 && e.error == 0))
		return is_missing(e.mean) ? NOT_THERE : out;
	size_t length = strlen(out);
	show(error, strchr(format, 'e') ? "%.0e" : format, e.error);
	snprintf(out + length, SHOWN_BYTES - length, " ± %.20s", error);
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

void short_scheme(char *out, size_t size, const struct findings *f,
                  const struct found_scheme *s)
{
	char other[256];
	short_name(out, size, s->name);
	for (int i = 0; i < f->scheme_count; i++) {
		short_name(other, sizeof other, f->schemes[i].name);
		if (&f->schemes[i] == s || strcmp(other, out) != 0)
			continue;
		const char *start = strstr(s->name, other);
		snprintf(out, size, "%s", start ? start : s->name);
		return;
	}
}

int group_length(const char *group)
{
	const char *suffix = strstr(group, ".quant_recipe");
	return (int)(suffix ? suffix - group : (long)strlen(group));
}

/* Up to "(effective-bits: 8.0)". */
static int format_length(const char *format)
{
	return (int)strcspn(format, "(");
}

static const char *format_kept(const struct found_scheme *s, int group)
{
	const struct scored_group *g = &s->baseline->ranked.groups[group];
	return s->coverage.keeps[group] ? g->formats[s->coverage.choice[group]] : NULL;
}

static int count_format(const struct found_scheme *s, const char *format, int end)
{
	int count = 0;
	for (int g = 0; g < end; g++)
		count += format_kept(s, g) && strcmp(format_kept(s, g), format) == 0;
	return count;
}

void add_formats(text *out, const struct found_scheme *s)
{
	int listed = 0;
	if (!s->coverage.total)
		text_puts(out, NOT_THERE);
	for (int g = 0; g < s->coverage.total; g++) {
		const char *format = format_kept(s, g);
		if (format && count_format(s, format, g) == 0)
			text_printf(out, "%s%.*s %d", listed++ ? ", " : "", format_length(format),
			            format, count_format(s, format, s->coverage.total));
	}
	if (s->coverage.total && !listed)
		text_puts(out, "none");
	if (s->coverage.kv_cache.name)
		text_printf(out, ", cache %s", s->coverage.kv_cache.name);
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
