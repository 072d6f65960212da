/* Finding a format's channel scales: calibration samples are run through the model, the
 * inputs of every group that has a norm before it are watched, and the scales searched
 * for that do the least damage to its outputs. */
#ifndef QUERN_QUANT_FOLD_RUN_H
#define QUERN_QUANT_FOLD_RUN_H

#include "lib/base/text.h"
#include "lib/quant/fold_file.h"
#include "lib/quant/source.h"

struct fold_job {
	const struct source_settings *data;
	const struct linear_shape *linears;
	int linear_count;
	const struct group_list *groups; /* that the format is meant for */
	const struct format *format;
	enum numerics numerics;
	const char *tree, *target; /* as of an edge */
};

/* Prints fold.json, from the store if it is there. Of the data no more rows are used than
 * a search needs: its first 128. The result does not depend on the number of threads. */
bool run_folds(const struct fold_job *job, text *out, error *err);

#endif
