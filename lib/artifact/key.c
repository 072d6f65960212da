/* Key texts; see key.h. */
#include "lib/artifact/key.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Adds string with backslashes, control characters and, for names, spaces
 * escaped. */
static void add_escaped(text *t, const char *string, bool is_name)
{
	for (; *string; string++) {
		unsigned char c = (unsigned char)*string;
		if (c == '\n')
			text_puts(t, "\\n");
		else if (c == '\\')
			text_puts(t, "\\\\");
		else if (c < ' ' || c == 127 || (c == ' ' && is_name))
			text_printf(t, "\\x%02x", c);
		else
			text_add(t, string, 1);
	}
}

void key_add(struct key *key, const char *name, const char *value)
{
	add_escaped(&key->text, name, true);
	text_puts(&key->text, " ");
	add_escaped(&key->text, value, false);
	text_puts(&key->text, "\n");
}

void key_begin(struct key *key, const char *tool, const struct digest *tool_sources)
{
	key_add(key, "tool", tool);
	key_add(key, "tool_sources", tool_sources->hex);
}

void key_addf(struct key *key, const char *name, const char *format, ...)
{
	char *value = NULL;
	va_list args;
	va_start(args, format);
	if (vasprintf(&value, format, args) < 0) {
		value = NULL;
		key->text.failed = true;
	}
	va_end(args);
	if (value)
		key_add(key, name, value);
	free(value);
}

void key_input(struct key *key, const char *name, const struct digest *digest)
{
	text_puts(&key->text, "input ");
	add_escaped(&key->text, name, true);
	text_printf(&key->text, " %s\n", digest->hex);
}

bool key_digest(const struct key *key, struct digest *out, error *err)
{
	return text_ok(&key->text, err) &&
	       digest_bytes(key->text.data, key->text.length, out, err);
}

void key_free(struct key *key)
{
	text_free(&key->text);
}
