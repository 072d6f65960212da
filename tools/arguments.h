/* Options that several tools take, in one spelling. */
#ifndef QUERN_TOOLS_ARGUMENTS_H
#define QUERN_TOOLS_ARGUMENTS_H

#include "lib/base/options.h"
#include "lib/quant/groups.h"
#include "lib/quant/numerics.h"
#include "lib/quant/block_run.h"
#include "lib/quant/source.h"

/* Where samples come from and how much of them this process does. */
struct data_arguments {
	struct source_settings source;
	const char *part; /* "i/n" */
	const char *tree, *out;
	struct device_wish device;
};

enum { DATA_OPTIONS = 15, FORMAT_OPTIONS = 4 };

/* Defaults, then DATA_OPTIONS entries of a table of options. */
void data_options(struct data_arguments *a, struct option *options);
/* Tells on standard output why a build with CUDA computes on the CPU, if it does; always
 * true. */
bool say_device(const struct device_choice *device, const char *tool);

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


#endif
