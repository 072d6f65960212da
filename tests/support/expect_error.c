/* See expect_error.h. */
#include "tests/support/expect_error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

void expect_error(const error *err, enum exit_code code, ...)
{
	va_list pieces;
	if (err->code != code)
		fail_msg("expected exit code %d, found %d: %s", code, err->code, err->text);
	va_start(pieces, code);
	for (const char *piece; (piece = va_arg(pieces, const char *));)
		if (!strstr(err->text, piece))
			fail_msg("expected \"%s\" in the error: %s", piece, err->text);
	va_end(pieces);
}
