/* Parsing `--name value`, `--name=value` and flags from a table. */
#include "lib/base/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_help(const struct command *command)
{
	printf("usage: %s [OPTIONS]%s%s\n\n%s\n\noptions:\n", command->tool,
	       command->operands ? " " : "", command->operands ? command->operands : "",
	       command->purpose);
	for (const struct option *o = command->options; o->name; o++) {
		char left[64];
		snprintf(left, sizeof left, "--%s%s%s", o->name, o->argument ? " " : "",
		         o->argument ? o->argument : "");
		printf("  %-28s %s%s\n", left, o->help, o->required ? " (required)" : "");
	}
	printf("  %-28s %s\n", "--help", "print this and exit");
}

static bool append(struct option_list *list, const char *value, error *err)
{
	const char **values = realloc(list->values,
	                              (size_t)(list->count + 1) * sizeof *values);
	if (!values)
		return fail_memory(err, "the command line", 0);
	list->values = values;
	list->values[list->count++] = value;
	return true;
}

static bool set_integer(const struct option *o, const char *value, error *err)
{
	char *end;
	errno = 0;
	long long number = strtoll(value, &end, 10);
	if (errno || end == value || *end || number < 0)
		return fail(err, EXIT_USAGE, "--%s: expected a whole number >= 0, found \"%s\"",
		            o->name, value);
	*(int64_t *)o->value = number;
	return true;
}

static bool set_value(const struct option *o, const char *value, error *err)
{
	switch (o->kind) {
	case OPTION_TEXT:
		*(const char **)o->value = value;
		return true;
	case OPTION_INTEGER:
		return set_integer(o, value, err);
	case OPTION_LIST:
		return append(o->value, value, err);
	case OPTION_FLAG:
		break;
	}
	return fail(err, EXIT_USAGE, "--%s takes no value", o->name);
}

static const struct option *find_option(const struct command *command,
                                        const char *name, size_t length)
{
	for (const struct option *o = command->options; o->name; o++)
		if (strlen(o->name) == length && strncmp(o->name, name, length) == 0)
			return o;
	return NULL;
}

/* Handles argv[*at], which begins with "--"; moves *at past its value. */
static bool take_option(const struct command *command, int argc, char **argv, int *at,
                        bool *given, error *err)
{
	const char *name = argv[*at] + 2;
	const char *equals = strchr(name, '=');
	size_t length = equals ? (size_t)(equals - name) : strlen(name);
	const struct option *o = find_option(command, name, length);
	if (!o)
		return fail(err, EXIT_USAGE, "unknown option --%.*s (see --help)", (int)length,
		            name);
	given[o - command->options] = true;
	if (o->kind == OPTION_FLAG && !equals) {
		*(bool *)o->value = true;
		return true;
	}
	if (!equals && *at + 1 >= argc)
		return fail(err, EXIT_USAGE, "--%s: expected %s after it", o->name, o->argument);
	return set_value(o, equals ? equals + 1 : argv[++*at], err);
}

static bool check_required(const struct command *command, const bool *given, error *err)
{
	for (const struct option *o = command->options; o->name; o++)
		if (o->required && !given[o - command->options])
			return fail(err, EXIT_USAGE, "--%s %s is required (see --help)", o->name,
			            o->argument ? o->argument : "");
	return true;
}

enum parse_outcome parse_options(const struct command *command, int argc, char **argv,
                                 struct option_list *operands, error *err)
{
	enum { MOST_OPTIONS = 64 };
	bool given[MOST_OPTIONS] = { false };
	bool only_operands = false;
	for (int at = 1; at < argc; at++) {
		const char *word = argv[at];
		if (!only_operands && strcmp(word, "--help") == 0) {
			print_help(command);
			return PARSE_HELP;
		}
		if (!only_operands && strcmp(word, "--") == 0) {
			only_operands = true;
		} else if (!only_operands && word[0] == '-' && word[1] == '-') {
			if (!take_option(command, argc, argv, &at, given, err))
				return PARSE_FAILED;
		} else if (!command->operands) {
			fail(err, EXIT_USAGE, "unexpected \"%s\" (see --help)", word);
			return PARSE_FAILED;
		} else if (!append(operands, word, err)) {
			return PARSE_FAILED;
		}
	}
	return check_required(command, given, err) ? PARSE_OK : PARSE_FAILED;
}

void options_free(struct option_list *list)
{
	free(list->values);
	*list = (struct option_list){ 0 };
}
