/* Errors as values.
 *
 * A function that can fail returns bool and takes a trailing `error *`: on
 * failure it fills the error and returns false, and its caller passes both on,
 * up to main, which prints one line and exits with the error's code. The text
 * names, as far as they apply: the file, the place in it, what was expected and
 * what was found. */
#ifndef QUERN_BASE_ERROR_H
#define QUERN_BASE_ERROR_H

#include <stdbool.h>

enum exit_code {
	EXIT_OK = 0,
	EXIT_USAGE = 1,       /* the command line is wrong */
	EXIT_BAD_INPUT = 2,   /* a file given to us is wrong */
	EXIT_ENVIRONMENT = 3, /* disk full, no permission, no memory, no device */
	EXIT_INTERNAL = 4     /* a bug of quern's */
};

typedef struct error {
	enum exit_code code;
	char text[1024]; /* one line, no newline at the end */
} error;

/* Fills *err and returns false, so that `return fail(...)` reads as it acts. */
bool fail(error *err, enum exit_code code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* As fail, with ": <strerror(saved_errno)>" appended; code EXIT_ENVIRONMENT,
 * or EXIT_BAD_INPUT when the errno says that something named does not exist. */
bool fail_errno(error *err, int saved_errno, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Out of memory while getting `bytes` for `what`. */
bool fail_memory(error *err, const char *what, unsigned long long bytes);

/* Prints "tool: text" on stderr and returns the exit status for main. */
int error_report(const char *tool, const error *err);

#endif
