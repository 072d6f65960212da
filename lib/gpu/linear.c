/* What happens at a matrix: its product, plain or with weights and inputs quantised; its
 * largest input (calibration); how much a quantised product differs and what that is worth
 * (scoring); see run.h. */
#include "lib/gpu/run.h"

/* ---- products of codes ---- */

/* One scale for the whole matrix, FP8 products. The padded rows of the codes would write
 * behind the matrix, so only real columns are asked for where out is aligned. */
static void multiply_native(struct run_state *r, const struct matrix *x,
                            const struct codes_product *q, int rows)
{
	product_fp8(&r->g->device, q, r->codes, x->codes,
	            x->weight_scale[0] * x->input_decode, rows, x->out, x->padded_in);
}

/* Codes are exact in 16 bits; each member may have a scale of its own. */
static void multiply_wide(struct run_state *r, const struct matrix *x,
                          const struct codes_product *q, int rows)
{
	struct device *d = &r->g->device;
	gpu_fp8_decode(r->wide_codes, r->codes, (int64_t)rows * x->padded_in, d->number,
	               d->stream);
	gpu_fp8_decode(r->wide_weight, x->codes, (int64_t)x->padded_out * x->padded_in,
	               d->number, d->stream);
	for (int m = 0; m < x->member_count; m++) {
		struct codes_product part = *q;
		int first = x->first[m];
		if (part.narrow) {
			part.narrow += first;
			part.narrow_before = part.narrow_before ? part.narrow_before + first : NULL;
		} else {
			part.wide += first;
			part.wide_before = part.wide_before ? part.wide_before + first : NULL;
		}
		if (part.bias)
			part.bias = part.narrow ? (const void *)((const bits16 *)part.bias + first)
			                        : (const void *)((const float *)part.bias + first);
		product_codes(d, &part, r->wide_codes,
		              r->wide_weight + (size_t)first * (size_t)x->padded_in,
		              x->weight_scale[m] * x->input_decode, rows, x->width[m],
		              x->padded_in);
	}
}

/* FP8 products want rows 16 bytes apart; the inner side is padded to that. */
bool runs_native(const struct device_model *g, const struct matrix *x, enum gpu_work work)
{
	return work == GPU_SCORE && g->native_fp8 && x->one_scale && x->out % 8 == 0;
}

void encode_input(struct run_state *r, const struct matrix *x, const bits16 *input, int rows)
{
	if (x->scored && rows)
		gpu_fp8_encode(r->codes, x->padded_in, input, x->row, rows, x->input_encode,
		               r->g->device.number, r->g->device.stream);
}

/* ---- forward ---- */

static void serve(struct run_state *r, const struct matrix *x, const struct codes_product *q,
                  const bits16 *input, int rows)
{
	if (!rows)
		return;
	encode_input(r, x, input, rows);
	multiply_wide(r, x, q, rows);
}

void run_linear(struct run_state *r, const struct matrix *x, bits16 *y, const bits16 *input,
                int rows)
{
	const struct codes_product q = { .narrow = y, .bias = x->bias, .stride = x->out };
	if (x->served)
		serve(r, x, &q, input, rows);
	else
		product_forward(&r->g->device, y, x->out, input, x->weight, x->bias, rows, x->out,
		                x->row);
}

void run_linear_float(struct run_state *r, const struct matrix *x, float *y,
                      const bits16 *input, int rows)
{
	const struct codes_product q = { .wide = y, .bias = x->bias_float, .stride = x->out };
	if (x->served)
		serve(r, x, &q, input, rows);
	else
		product_float(&r->g->device, y, input, x->weight, x->bias_float, rows, x->out,
		              x->row);
}

void run_linear_add(struct run_state *r, const struct matrix *x, float *sum,
                    const float *before, const bits16 *input, int rows)
{
	const struct codes_product q = { .wide = sum, .wide_before = before, .beta = 1,
		.bias = x->bias_float, .stride = x->out };
	if (x->served)
		serve(r, x, &q, input, rows);
	else
		product_add(&r->g->device, sum, before, input, x->weight, x->bias_float, rows,
		            x->out, x->row);
}

/* ---- calibration ---- */

struct row_extras extras_to_observe(const struct run_state *r)
{
	return (struct row_extras){ .amax = r->work == GPU_CALIBRATE ? r->per_row : NULL };
}

void observe_noted(struct run_state *r, const struct matrix *x, int rows,
                   const int32_t *starts)
{
	if (r->work == GPU_CALIBRATE && rows)
		gpu_amax_samples(r->amax + x->members[0], r->places, r->per_row, starts,
		                 r->samples, r->g->device.stream);
}

void observe(struct run_state *r, const struct matrix *x, const bits16 *input, int rows,
             const int32_t *starts)
{
	if (r->work != GPU_CALIBRATE || !rows)
		return;
	gpu_amax_rows(r->per_row, input, x->row, x->row, rows, r->g->device.number,
	              r->g->device.stream);
	observe_noted(r, x, rows, starts);
}

/* ---- the key/value cache ---- */

static bits16 *cache_part(const struct tower_pass *p, int part)
{
	return p->turned + p->q_width + part * p->kv_width;
}

void observe_cache(struct run_state *r, const struct tower_pass *p, int layer)
{
	const struct device *d = &r->g->device;
	if (r->work != GPU_CALIBRATE || !p->tower->tower->causal)
		return;
	float *amax = r->amax + r->g->model->linear_count + 2 * layer;
	for (int part = 0; part < 2; part++) {
		gpu_amax_rows(r->per_row, cache_part(p, part), p->qkv_width, p->kv_width,
		              p->rows->rows, d->number, d->stream);
		gpu_amax_samples(amax + part, r->places, r->per_row, p->rows->starts, r->samples,
		                 d->stream);
	}
}

void serve_cache(struct run_state *r, const struct tower_pass *p, int layer)
{
	const struct device *d = &r->g->device;
	if (!r->cache_scales || !p->tower->tower->causal)
		return;
	for (int part = 0; part < 2; part++)
		gpu_fp8_round(cache_part(p, part), p->qkv_width, p->kv_width, p->rows->rows,
		              r->cache_scales[2 * layer + part], d->number, d->stream);
}

/* ---- scoring ---- */

struct row_extras extras_to_weigh(const struct run_state *r, const struct matrix *x)
{
	return (struct row_extras){ .codes = r->codes, .padded = x->padded_in,
		.multiplier = x->input_encode };
}

void weigh(struct run_state *r, const struct matrix *x, const struct plain_output *plain,
           const bits16 *gradient, int rows, const int32_t *starts)
{
	if (!x->scored || !rows)
		return;
	bool native = runs_native(r->g, x, r->work);
	struct codes_product q = { .stride = x->out, .beta = -1 };
	struct difference off = { .stride = x->out, .plus_stride = x->out };
	struct score_part parts[MOST_MEMBERS];
	if (plain->narrow) {
		q.narrow = (bits16 *)r->difference;
		q.narrow_before = plain->narrow;
		q.bias = x->bias;
		off.narrow = q.narrow;
		off.rounded = plain->narrow;
	} else {
		q.wide = r->difference;
		q.wide_before = plain->sum;
		q.bias = native ? (const void *)x->bias_bf16 : (const void *)x->bias_float;
		off.wide = q.wide;
		off.plus = plain->addend;
	}
	if (native)
		multiply_native(r, x, &q, rows);
	else
		multiply_wide(r, x, &q, rows);
	for (int m = 0; m < x->member_count; m++)
		parts[m] = (struct score_part){ x->first[m], x->width[m], x->members[m] };
	gpu_score(r->score, r->places, r->per_row_scores, gradient, x->out, &off, parts,
	          x->member_count, rows, starts, r->samples, r->g->device.number,
	          r->g->device.stream);
}

/* ---- scratch ---- */

/* How many rows go through a matrix. */
static size_t rows_through(const struct run_state *r, const struct matrix *x)
{
	const struct device_model *g = r->g;
	const struct gpu_block *text = g->text.blocks;
	const struct batch *b = r->batch;
	if (x == &g->head)
		return (size_t)(r->work == GPU_COMPARE ? b->text.rows : b->graded);
	if (x == &g->merger_in || x == &g->merger_out)
		return (size_t)b->cells;
	bool in_text = (const char *)x >= (const char *)text &&
	               (const char *)x < (const char *)(text + g->text.tower->depth);
	return (size_t)(in_text ? b->text.rows : b->vision.rows);
}

static size_t more_of(size_t a, size_t b)
{
	return a > b ? a : b;
}

void take_codes(struct run_state *r)
{
	struct device_model *g = r->g;
	size_t codes = 0, differences = 0, weights = 0;
	for (int i = 0; i < g->matrix_count; i++) {
		const struct matrix *x = g->matrices[i];
		if (!x->scored)
			continue;
		size_t rows = rows_through(r, x);
		codes = more_of(codes, rows * (size_t)x->padded_in);
		differences = more_of(differences, rows * (size_t)x->padded_out);
		if (!runs_native(g, x, r->work))
			weights = more_of(weights, (size_t)x->padded_out * (size_t)x->padded_in);
	}
	r->codes = arena_take(g, codes, 1);
	if (r->work == GPU_SCORE)
		r->difference = arena_take(g, differences, sizeof *r->difference);
	if (weights) {
		r->wide_codes = arena_take(g, codes, sizeof(bits16));
		r->wide_weight = arena_take(g, weights, sizeof(bits16));
	}
}
