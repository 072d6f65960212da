/* The search for channel scales; see fold.h. By itself, since it multiplies matrices: programs
 * that only fold start without a library for that. */
#include <stdlib.h>
#include <string.h>

#include "kernels/matmul.h"
#include "lib/model/expand.h"
#include "lib/quant/fold.h"

enum { STRETCH = 1 << 20 }; /* weights in float32 at once */

/* Room of one search. */
struct room {
	float *scales, *tried; /* [in] of a candidate, and the norm it gives */
	float *weights;  /* [stretch][in] as they are */
	float *rounded;  /* [stretch][in], then how far from that */
	float *outputs;  /* [rows][stretch] */
	int stretch;     /* rows of weights */
};

static bool take_room(const struct fold_search *s, struct room *r, error *err)
{
	size_t in = (size_t)s->in;
	r->stretch = s->in < STRETCH ? STRETCH / s->in : 1;
	size_t weights = (size_t)r->stretch * in;
	float *all = malloc((2 * in + 2 * weights + (size_t)s->rows * (size_t)r->stretch) *
	                    sizeof *all);
	*r = (struct room){ all, all + in, all + 2 * in, all + 2 * in + weights,
		all + 2 * in + 2 * weights, r->stretch };
	return all || fail_memory(err, "a search for channel scales", weights);
}

/* Over s->x, of some rows of a weight: sum((x (Q(W s) / s - W)^T)^2). */
static double stretch_error(const struct fold_search *s, const struct room *r, int rows)
{
	size_t count = (size_t)rows * (size_t)s->in, outputs = (size_t)rows * (size_t)s->rows;
	double sum = 0;
	memcpy(r->rounded, r->weights, count * sizeof *r->rounded);
	scale_columns(r->rounded, rows, s->in, r->scales);
	s->format->round_weight(s->numerics, r->rounded, rows, s->in, 0, r->rounded);
	unscale_columns(r->rounded, rows, s->in, r->scales);
	for (size_t i = 0; i < count; i++)
		r->rounded[i] -= r->weights[i];
	matmul_forward(r->outputs, rows, s->x, r->rounded, NULL, s->rows, rows, s->in);
	for (size_t i = 0; i < outputs; i++)
		sum += (double)r->outputs[i] * (double)r->outputs[i];
	return sum;
}

static double group_error(const struct fold_search *s, const struct room *r)
{
	double sum = 0;
	for (int m = 0; s->rows && m < s->member_count; m++) {
		const struct tensor *t = s->weights[m];
		int out = (int)(t->elements / s->in);
		for (int first = 0; first < out; first += r->stretch) {
			int rows = out - first < r->stretch ? out - first : r->stretch;
			size_t start = (size_t)first * (size_t)s->in;
			expand_values(r->weights, t->dtype,
			              (const char *)t->data + start * dtype_bytes(t->dtype),
			              (size_t)rows * (size_t)s->in);
			sum += stretch_error(s, r, rows);
		}
	}
	return sum;
}

bool search_fold(const struct fold_search *s, float *folded, struct fold_choice *out,
                 error *err)
{
	struct room r;
	if (!take_room(s, &r, err))
		return false;
	*out = (struct fold_choice){ .candidate = -1 };
	for (int c = 0; s->format->channel_scales(c, s->mean, s->in, r.scales); c++) {
		fold_norm(s->norm, r.scales, s->in, r.tried);
		if (fold_scales(s->norm, r.tried, s->in, r.scales) < s->in)
			continue;
		double error = group_error(s, &r);
		if (c == 0)
			out->plain_error = error;
		if (out->candidate >= 0 && !(error < out->error))
			continue;
		out->candidate = c;
		out->error = error;
		memcpy(folded, r.tried, (size_t)s->in * sizeof *folded);
	}
	free(r.scales);
	return out->candidate >= 0 ||
	       fail(err, EXIT_BAD_INPUT, "%s: expected a norm of finite numbers before it",
	            s->weights[0]->name);
}
