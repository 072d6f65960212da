/* Options that several tools take, in one spelling. */
#ifndef QUERN_TOOLS_ARGUMENTS_H
#define QUERN_TOOLS_ARGUMENTS_H

#include "lib/base/options.h"
#include "lib/quant/fold_file.h"
#include "lib/quant/formats/format.h"
#include "lib/quant/damage_file.h"
#include "lib/quant/groups.h"
#include "lib/quant/material.h"
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

enum { DATA_OPTIONS = 16, FORMAT_OPTIONS = 8 };

/* Defaults, then DATA_OPTIONS entries of a table of options. */
void data_options(struct data_arguments *a, struct option *options);
/* Tells on standard output why a build with CUDA computed on the CPU, if it did. */
void say_device(const struct device_choice *device, const char *tool);

bool part_parse(const char *share, int *part, int *parts, error *err);

/* Which linears take which format, and how. */
struct format_arguments {
	const char *name, *element, *granularity;
	const char *numerics_text;
	const struct format *format; /* set by format_check, as is numerics */
	enum numerics numerics;
	bool scale_per_member;
	bool skip_bad_shapes;
	struct option_list include, exclude;
	const char *fold_path; /* of fold_option */
	struct folds folds;    /* read by format_folds */
};

/* --tree of the cheap tools: where a step is logged, NULL for nowhere. */
struct option tree_option(const char **tree);

void format_options(struct format_arguments *a, struct option *options);
bool format_check(struct format_arguments *a, error *err);
void format_free(struct format_arguments *a);

/* --fold: what tools/fold.c wrote, for tools that quantise. Given and read exactly for
 * formats that have channel scales. */
struct option fold_option(struct format_arguments *a);
bool format_folds(struct format_arguments *a, const struct linear_shape *linears,
                  int count, error *err);

/* choose_device for these formats: a GPU knows some; with any other everything is computed
 * on the CPU, unless the GPU was asked for by name. */
bool choose_format_device(const struct format *const *formats, int count,
                          const struct device_wish *wish, struct device_choice *device,
                          error *err);

/* The groups that get the format: those that an --include (if there is one) and no
 * --exclude matches and, with
 * --skip-bad-shapes, that have no member of a shape that the format does not take.
 * Such a member is an error otherwise. */
bool format_groups(const struct format_arguments *a, const struct linear_shape *linears,
                   int count, arena *memory, struct group_list *out, error *err);

/* What measures schemes, and on which set. */
struct evaluation_arguments {
	struct data_arguments data;
	struct damage_facts facts;
	const char *amax, *manifest;
	struct option_list folds; /* paths */
};

/* A program that measures choices of groups and prints what it found. `measure` gets a
 * job that lacks only the choices. */
struct evaluation_tool {
	const char *name, *purpose;
	const char *operands; /* NULL: takes none */
	bool (*measure)(struct evaluation *job, struct material *m,
	                const struct option_list *operands, const struct damage_facts *facts,
	                text *printed, error *err);
};

/* The whole of main: reads the arguments and all that they name, measures, writes the
 * file of --out. Returns the exit code. */
int run_evaluation(const struct evaluation_tool *tool, int argc, char **argv);

#endif
