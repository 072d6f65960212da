/* What a number format is to the rest of quern: how weights and inputs of a linear
 * come back after they were quantised, what that costs, which shapes it takes, and
 * which tensors stand for a weight in a checkpoint.
 *
 * One file of this folder a format, each giving one `const struct format`; formats.c
 * lists them. Nothing outside this folder names a format, so a new one is a file and
 * a line here. Which linears get it, and under which name, is the catalog's say. */
#ifndef QUERN_QUANT_FORMATS_FORMAT_H
#define QUERN_QUANT_FORMATS_FORMAT_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/checkpoint/form.h"
#include "lib/checkpoint/profile.h"
#include "lib/quant/numerics.h"

/* What an input amax becomes; what the two numbers mean is the format's own. */
struct input_step {
	float encode, decode;
};

enum { MAX_PACKED = 3 };

/* A tensor with one part of a quantised weight: codes, or scales of rows or blocks. */
struct packed_tensor {
	const char *suffix; /* its name after "<module>.": "weight_scale" */
	enum dtype dtype;
	int rank;
	int64_t shape[2];

	/* Writes what stands for w[rows][in] of the weight: its rows in order, an even
	 * number of them at a time but for the last time. whole: see weight_scale. NULL: the
	 * tensor holds the weight's two sides as I64. */
	void (*fill)(const struct packed_tensor *t, enum numerics n, const float *w, int rows,
	             int in, float whole, void *bytes);
};

/* A number that a checkpoint holds for a whole weight or input. */
struct packed_scalar {
	const char *suffix; /* NULL: there is none */
	enum dtype dtype;
	int rank;        /* every side is 1 */
	bool reciprocal; /* the file holds 1/scale */
};

/* The tensors of one weight, as `tensors` lists them. */
struct packed_weight {
	enum profile profile;
	int out, in;
	float whole;
	const void *data[MAX_PACKED];
};

struct format {
	const char *element, *granularity; /* as the catalog spells it */

	/* Bits a weight as budgets count them: those of the element, and for blocks that
	 * carry a scale of their own its share (ModelOpt's compression * 16). */
	double bits;

	/* Columns that share a scale; a linear's `in` must be a multiple. 1: any. */
	int group;

	/* Whether lib/gpu scores it. */
	bool on_gpu;

	/* What configurations say of a linear in this format. */
	struct linear_form form;

	/* values[out][in] = what comes back of w[out][in]. amax: the largest magnitude of
	 * this weight, or with shared scales of its group. values may be w. */
	void (*round_weight)(enum numerics n, const float *w, int out, int in, float amax,
	                     float *values);

	/* Scales of input channels, of which the best are searched for (lib/quant/fold.h);
	 * NULL: there are none. scales[in] of candidate number `candidate`, all above 0, from
	 * each channel's mean magnitude; false past the last one. Candidate 0 is all 1. Such
	 * a format sees weights that are scaled already, and heeds no amax of them. */
	bool (*channel_scales)(int candidate, const float *mean, int in, float *scales);

	/* Inputs. NULL: they stay as they are. y must not be x. */
	struct input_step (*input_step)(enum numerics n, float amax);
	void (*round_input)(enum numerics n, struct input_step step, const float *x, int rows,
	                    int in, float *y);

	/* ---- checkpoints, of the profiles that hold codes ---- */

	/* ModelOpt's tensors have bytes that two rows share. */
	bool paired_rows;

	/* The tensors of a weight [out][in]; how many. */
	int (*tensors)(enum profile p, int out, int in, struct packed_tensor *list);

	/* values[rows][in] from row `first` on: what comes back of a packed weight. Under
	 * NUMERICS_QUERN, of w it is what round_weight makes of w. */
	void (*unpack)(const struct packed_weight *p, int first, int rows, float *values);

	/* The first of w[rows][in] from row `first` on for which what comes back is further
	 * away than `steps` spacings of the element (0.5: no other code is nearer), or has a
	 * scale that is no finite number above 0; rows * in when there is none. */
	size_t (*find_far)(const struct packed_weight *p, int first, int rows, const float *w,
	                   float steps);

	/* By profile, the scales of the whole weight and of its input, which both come from
	 * an amax; and the step of round_input that a stored input scale means to a server. */
	struct packed_scalar weight_scalar[PROFILE_MODELOPT + 1];
	struct packed_scalar input_scalar[PROFILE_MODELOPT + 1];
	float (*weight_scale)(enum numerics n, float amax);
	float (*input_scale)(enum numerics n, float amax);
	struct input_step (*served_step)(float input_scale);
};

/* NULL when there is none. */
const struct format *format_find(const char *element, const char *granularity);

/* The one that a reader of a profile's language would take for this; NULL when there is
 * none. */
const struct format *format_of_form(enum profile p, const struct linear_form *form);

/* All of them; NULL past the last. */
const struct format *format_at(int index);

/* ModelOpt's scales of channels are not rounded to what a folded norm can hold. */
static inline bool format_computes(const struct format *f, enum numerics n)
{
	return !f->channel_scales || n == NUMERICS_QUERN;
}

static inline bool format_takes(const struct format *f, int in)
{
	return in % f->group == 0;
}

#endif
