/* Command lines: one table says what a tool accepts, and is its --help too. */
#ifndef QUERN_BASE_OPTIONS_H
#define QUERN_BASE_OPTIONS_H

#include <stdint.h>

#include "lib/base/error.h"

enum option_kind {
	OPTION_TEXT,    /* const char ** */
	OPTION_INTEGER, /* int64_t *, >= 0 */
	OPTION_FLAG,    /* bool * */
	OPTION_LIST     /* struct option_list *: may be given several times */
};

struct option_list {
	const char **values; /* pointing into argv; owned array, freed by options_free */
	int count;
};

struct option {
	const char *name; /* without the dashes */
	enum option_kind kind;
	void *value; /* keeps what it holds when the option is not given */
	const char *argument; /* what --help calls the value; NULL for flags */
	const char *help;
	bool required;
};

struct command {
	const char *tool;
	const char *purpose; /* what it does, a sentence or two, for --help */
	const char *operands; /* what follows the options, or NULL for none */
	const struct option *options; /* ended by an entry with name NULL */
};

enum parse_outcome { PARSE_OK, PARSE_HELP, PARSE_FAILED };

/* Fills the options; operands (argv entries after the options) go to *operands.
 * On --help prints it on stdout and returns PARSE_HELP: the caller exits 0. */
enum parse_outcome parse_options(const struct command *command, int argc, char **argv,
                                 struct option_list *operands, error *err);
void options_free(struct option_list *list);

#endif
