/* Options that several tools take, in one spelling. */
#ifndef QUERN_TOOLS_ARGUMENTS_H
#define QUERN_TOOLS_ARGUMENTS_H

#include "lib/base/options.h"
#include "lib/quant/damage_file.h"
#include "lib/quant/groups.h"
#include "lib/quant/material.h"
#include "lib/quant/numerics.h"
#include "lib/quant/source.h"

/* Where samples come from and how much of them this process does. */
struct data_arguments {
	struct source_settings source;
	const char *part; /* "i/n" */
	const char *tree, *out;
};

enum { DATA_OPTIONS = 13, FORMAT_OPTIONS = 4 };

/* Defaults, then DATA_OPTIONS entries of a table of options. */
void data_options(struct data_arguments *a, struct option *options);
bool part_parse(const char *share, int *part, int *parts, error *err);

/* Which linears take which format, and how. */
struct format_arguments {
	const char *name;
	const char *numerics_text;
	enum numerics numerics; /* set by format_check */
	bool scale_per_member;
	struct option_list exclude;
};

void format_options(struct format_arguments *a, struct option *options);
bool format_check(struct format_arguments *a, error *err);

/* What measures schemes, and on which set. */
struct evaluation_arguments {
	struct data_arguments data;
	struct format_arguments format;
	struct damage_facts facts;
	const char *amax, *manifest;
};

enum { EVALUATION_OPTIONS = DATA_OPTIONS + FORMAT_OPTIONS + 8 };

void evaluation_options(struct evaluation_arguments *a, struct option *options);

/* Checks and reads all that was named; *job lacks only the choices. */
bool evaluation_begin(struct evaluation_arguments *a, struct material *m,
                      struct evaluation *job, const char *tool, error *err);

#endif
