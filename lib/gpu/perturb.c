/* What is measured at a matrix: its input (calibration), or how much a quantised product
 * differs and what that is worth (scoring); see run.h. */
#include "lib/gpu/run.h"

void observe(struct run_state *r, const struct matrix *x, const bf16_bits *input,
                    int rows, const int32_t *starts)
{
	if (r->gradient || !rows)
		return;
	gpu_amax(r->amax + x->members[0], r->places, r->per_row, input, x->row, rows, x->in,
	         starts, r->samples, r->g->device.stream);
}

void observe_cache(struct run_state *r, const struct tower_pass *p, int layer)
{
	if (r->gradient || !p->tower->tower->causal)
		return;
	float *amax = r->amax + r->g->model->linear_count + 2 * layer;
	for (int part = 0; part < 2; part++)
		gpu_amax(amax + part, r->places, r->per_row,
		         p->turned + p->q_width + part * p->kv_width, p->qkv_width,
		         p->rows->rows, p->kv_width, p->rows->starts, r->samples,
		         r->g->device.stream);
}

/* One scale for the whole matrix, FP8 products. The padded rows of the codes would write
 * behind the matrix, so only real columns are asked for where out is aligned. */
static void perturb_native(struct run_state *r, const struct matrix *x,
                           const struct perturbed *q)
{
	product_fp8(&r->g->device, q, r->codes, x->codes,
	            x->weight_scale[0] * x->input_decode, r->perturbed_rows, x->out,
	            x->padded_in);
}

/* Codes are exact in BF16; each member may have a scale of its own. */
static void perturb_wide(struct run_state *r, const struct matrix *x,
                         const struct perturbed *q)
{
	struct device *d = &r->g->device;
	gpu_fp8_to_bf16(r->wide_codes, r->codes, (int64_t)r->perturbed_rows * x->padded_in,
	                d->stream);
	gpu_fp8_to_bf16(r->wide_weight, x->codes, (int64_t)x->padded_out * x->padded_in,
	                d->stream);
	for (int m = 0; m < x->member_count; m++) {
		struct perturbed part = *q;
		int first = x->first[m];
		if (part.narrow) {
			part.narrow += first;
			part.narrow_before += first;
		} else {
			part.wide += first;
			part.wide_before += first;
		}
		if (part.bias)
			part.bias = part.narrow ? (const void *)((const bf16_bits *)part.bias + first)
			                        : (const void *)((const float *)part.bias + first);
		product_codes(d, &part, r->wide_codes,
		              r->wide_weight + (size_t)first * (size_t)x->padded_in,
		              x->weight_scale[m] * x->input_decode, r->perturbed_rows, x->width[m],
		              x->padded_in);
	}
}

/* FP8 products want rows 16 bytes apart; the inner side is padded to that. */
static bool can_run_native(const struct run_state *r, const struct matrix *x)
{
	return r->g->native_fp8 && x->one_scale && x->out % 8 == 0;
}

void weigh(struct run_state *r, const struct matrix *x, const bf16_bits *input,
                  const struct plain_output *plain, const bf16_bits *gradient, int rows,
                  const int32_t *starts)
{
	if (!x->scored || !rows)
		return;
	bool native = can_run_native(r, x);
	struct perturbed q = { .stride = x->out };
	struct difference off = { .stride = x->out, .plus_stride = x->out };
	if (plain->narrow) {
		q.narrow = (bf16_bits *)r->difference;
		q.narrow_before = plain->narrow;
		q.bias = x->bias;
		off.narrow = q.narrow;
	} else {
		q.wide = r->difference;
		q.wide_before = plain->sum;
		q.bias = native ? (const void *)x->bias : (const void *)x->bias_float;
		off.wide = q.wide;
		off.plus = plain->addend;
	}
	r->perturbed_rows = rows;
	gpu_fp8_encode(r->codes, x->padded_in, input, x->row, rows, x->in, x->input_encode,
	               r->g->device.stream);
	if (native)
		perturb_native(r, x, &q);
	else
		perturb_wide(r, x, &q);
	for (int m = 0; m < x->member_count; m++)
		gpu_score(r->score + x->members[m], r->places, (double *)r->per_row, gradient,
		          x->out, &off, x->first[m], x->width[m], rows, starts, r->samples,
		          r->g->device.stream);
}

/* How many rows go through a matrix. */
static size_t rows_through(const struct run_state *r, const struct matrix *x)
{
	const struct device_model *g = r->g;
	const struct gpu_block *text = g->text.blocks;
	const struct batch *b = r->batch;
	if (x == &g->head)
		return (size_t)b->graded;
	if (x == &g->merger_in || x == &g->merger_out)
		return (size_t)b->cells;
	bool in_text = (const char *)x >= (const char *)text &&
	               (const char *)x < (const char *)(text + g->text.tower->depth);
	return (size_t)(in_text ? b->text.rows : b->vision.rows);
}

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

/* Scratch for the largest perturbation of the batch. */
void take_perturbation(struct run_state *r)
{
	struct device_model *g = r->g;
	size_t codes = 0, differences = 0, weights = 0;
	for (int i = 0; i < g->matrix_count; i++) {
		const struct matrix *x = g->matrices[i];
		if (!x->scored)
			continue;
		size_t rows = rows_through(r, x);
		codes = larger(codes, rows * (size_t)x->padded_in);
		differences = larger(differences, rows * (size_t)x->padded_out);
		if (!can_run_native(r, x))
			weights = larger(weights, (size_t)x->padded_out * (size_t)x->padded_in);
	}
	r->codes = arena_take(g, codes, 1);
	r->difference = arena_take(g, differences, sizeof *r->difference);
	if (weights) {
		r->wide_codes = arena_take(g, codes, sizeof(bf16_bits));
		r->wide_weight = arena_take(g, weights, sizeof(bf16_bits));
	}
}
