/* Scales of input channels, folded into the norm that makes the input.
 *
 * Where a norm's output x = normed * norm feeds linears and nothing else, W x is
 * (W s)(x / s) for any scales s of the channels, and x / s costs nothing: the norm becomes
 * norm / s. Its weights are BF16, though, so the norm is rounded first and the scales that
 * count are norm / folded: those the search judges, those scoring and quantising use, and
 * those that whoever has both norms finds again. Where no norm makes the input, s is 1. */
#ifndef QUERN_QUANT_FOLD_H
#define QUERN_QUANT_FOLD_H

#include "lib/base/error.h"
#include "lib/checkpoint/safetensors.h"
#include "lib/quant/formats/format.h"
#include "lib/quant/groups.h"

/* folded[in] = norm / scales, BF16; the norm's own value where that would be no normal
 * number. */
void fold_norm(const float *norm, const float *scales, int in, float *folded);

/* scales[in] that a folded norm stands for: norm / folded, 1 where both are 0. The first
 * channel where that is no normal number above 0, or `in` when there is none. */
int fold_scales(const float *norm, const float *folded, int in, float *scales);

/* w[rows][in], every column times its scale, or divided by it. */
void scale_columns(float *w, int rows, int in, const float *scales);
void unscale_columns(float *w, int rows, int in, const float *scales);

/* What a search works on: a group and inputs of it. */
struct fold_search {
	const struct format *format;
	enum numerics numerics;
	int in, member_count;
	const struct tensor *weights[MAX_MEMBERS]; /* each [its rows][in] */
	const float *norm; /* [in] */
	const float *mean; /* [in] magnitude of the input's channels */
	const float *x;    /* [rows][in] inputs */
	int rows;
};

struct fold_choice {
	int candidate;
	/* Squared error of the members' outputs over x, by candidate 0 and by the one taken. */
	double plain_error, error;
};

/* Takes the candidate of the format with the least error, the first of equals; its norm
 * goes to folded[in]. */
bool search_fold(const struct fold_search *s, float *folded, struct fold_choice *out,
                 error *err);

#endif
