/* Formatting of error values; see error.h for the convention. */
#include "lib/base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A file name may hold anything; the report stays one line all the same. */
static void keep_one_line(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 127)
			*text = '?';
}

bool fail(error *err, enum exit_code code, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(err->text, sizeof err->text, format, args);
	va_end(args);
	keep_one_line(err->text);
	err->code = code;
	return false;
}

bool fail_errno(error *err, int saved_errno, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int used = vsnprintf(err->text, sizeof err->text, format, args);
	va_end(args);
	if (used >= 0 && (size_t)used < sizeof err->text)
		snprintf(err->text + used, sizeof err->text - (size_t)used, ": %s",
		         strerror(saved_errno));
	keep_one_line(err->text);
	bool names_nothing = saved_errno == ENOENT || saved_errno == ENOTDIR ||
	                     saved_errno == EISDIR;
	err->code = names_nothing ? EXIT_BAD_INPUT : EXIT_ENVIRONMENT;
	return false;
}

bool fail_memory(error *err, const char *what, unsigned long long bytes)
{
	return fail(err, EXIT_ENVIRONMENT, "out of memory: %llu bytes for %s", bytes,
	            what);
}

int error_report(const char *tool, const error *err)
{
	fprintf(stderr, "%s: %s\n", tool, err->text);
	return err->code;
}
