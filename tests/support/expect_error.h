/* Errors are part of the interface: their code, and that they name the file, the
 * place and what was found. */
#ifndef QUERN_TESTS_SUPPORT_EXPECT_ERROR_H
#define QUERN_TESTS_SUPPORT_EXPECT_ERROR_H

#include "lib/base/error.h"

/* Fails the test unless err has this code and its text holds every piece of the
 * NULL-terminated list. */
void expect_error(const error *err, enum exit_code code, ...)
	__attribute__((sentinel));

#endif
