/* What a number format is to the rest of quern: how weights and inputs of a linear
 * come back after they were quantised, what that costs, and which shapes it takes.
 *
 * One file of this folder a format, each giving one `const struct format`; formats.c
 * lists them. Nothing outside this folder names a format, so a new one is a file and
 * a line here. Which linears get it, and under which name, is the catalog's say. */
#ifndef QUERN_QUANT_FORMATS_FORMAT_H
#define QUERN_QUANT_FORMATS_FORMAT_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/quant/numerics.h"

/* What an input amax becomes; what the two numbers mean is the format's own. */
struct input_step {
	float encode, decode;
};

struct format {
	const char *element, *granularity; /* as the catalog spells it */

	/* Bits a weight as budgets count them: those of the element, and for blocks that
	 * carry a scale of their own its share (ModelOpt's compression * 16). */
	double bits;

	/* Columns that share a scale; a linear's `in` must be a multiple. 1: any. */
	int group;

	/* Whether the checkpoint writer, verification and the servers' configurations know
	 * the format. One that they do not can be calibrated, scored, ranked and sliced. */
	bool exportable;

	/* Whether lib/gpu scores it. */
	bool on_gpu;

	/* values[out][in] = what comes back of w[out][in]. amax: the largest magnitude of
	 * this weight, or with shared scales of its group. values may be w. */
	void (*round_weight)(enum numerics n, const float *w, int out, int in, float amax,
	                     float *values);

	/* Inputs. NULL: they stay as they are. y must not be x. */
	struct input_step (*input_step)(enum numerics n, float amax);
	void (*round_input)(enum numerics n, struct input_step step, const float *x, int rows,
	                    int in, float *y);
};

/* NULL when there is none. */
const struct format *format_find(const char *element, const char *granularity);

/* All of them; NULL past the last. */
const struct format *format_at(int index);

static inline bool format_takes(const struct format *f, int in)
{
	return in % f->group == 0;
}

#endif
