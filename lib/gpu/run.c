/* A batch through the model and back; see gpu.h. The order of steps is lib/model's.
 *
 * Per layer the forward pass keeps the residual stream before attention and before the
 * MLP, q/k/v after the rotary embedding, the attention's output and the gate and up
 * products; norms and activations are made again when the backward pass needs them, which
 * costs one pass over memory instead of keeping them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/gpu/batch.h"

/* What a layer keeps for its backward pass. */
enum { MOST_SAMPLES = 16 }; /* of a batch: beyond, the products do not get faster */

struct layer_tape {
	float *input, *middle;   /* [rows][hidden] */
	bf16_bits *qkv;          /* [rows][q + 2 kv], before the rotary embedding */
	bf16_bits *attended;     /* [rows][q] */
	float *lse;              /* [rows][heads] */
	bf16_bits *gate_up;      /* [rows][2 * intermediate] */
};

struct tower_pass {
	struct device_model *g;
	const struct gpu_tower *tower;
	const struct tower_rows *rows; /* on the device */
	struct layer_tape *tapes;      /* [depth]; host array */
	float *output;                 /* [rows][hidden], of the last layer */
	int q_width, kv_width, qkv_width;
	int active_row; /* of the down projection's input, padding included */

	/* Scratch, shared by all layers. */
	bf16_bits *turned;  /* [rows][q + 2 kv]: qkv after the rotary embedding */
	bf16_bits *normed;  /* [rows][hidden] */
	bf16_bits *active;  /* [rows][intermediate, padded] */
	bf16_bits *narrow;  /* [rows][hidden]: BF16 of a gradient */
	bf16_bits *dqkv, *dattended, *dgate_up;
	float *dnormed;     /* [rows][hidden] */
	float *delta;       /* [rows][heads] */
};

struct run_state {
	struct device_model *g;
	const struct batch *batch; /* on the device */
	bool gradient;
	struct tower_pass text, vision;
	int linear_count, samples;

	/* Results. */
	float *amax;    /* [samples][linear_count] */
	double *score;  /* [samples][linear_count] */
	float *per_row; /* scratch, also used as doubles */

	/* Scratch of a perturbation. */
	uint8_t *codes;
	bf16_bits *wide_codes, *wide_weight; /* codes as BF16, where there is no FP8 */
	float *difference; /* or BF16 */
	int perturbed_rows;
};

/* ---- measuring a matrix ---- */

static void observe(struct run_state *r, const struct matrix *x, const bf16_bits *input,
                    int rows, const int32_t *starts)
{
	if (r->gradient || !rows)
		return;
	gpu_amax(r->amax + x->members[0], r->linear_count, r->per_row, input, x->row, rows, x->in,
	         starts, r->samples, r->g->device.stream);
}

/* What a layer gave, for the perturbed product to be held against: BF16 numbers, or a
 * float32 sum and what it was added to. */
struct plain_output {
	const bf16_bits *narrow; /* [rows][out] */
	const float *sum, *addend;
};

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

static void weigh(struct run_state *r, const struct matrix *x, const bf16_bits *input,
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
		gpu_score(r->score + x->members[m], r->linear_count, (double *)r->per_row, gradient,
		          x->out, &off, x->first[m], x->width[m], rows, starts, r->samples,
		          r->g->device.stream);
	r->g->flops += 2.0 * rows * x->out * x->in;
}

static void count_product(struct device_model *g, int rows, const struct matrix *x)
{
	g->flops += 2.0 * rows * x->out * x->in;
}

/* ---- a tower ---- */

static bool prepare_tower(struct run_state *r, struct tower_pass *p,
                          const struct gpu_tower *tower, const struct tower_rows *rows,
                          error *err)
{
	const struct tower *t = tower->tower;
	struct device_model *g = r->g;
	size_t n = (size_t)rows->rows, hidden = (size_t)t->hidden;
	*p = (struct tower_pass){ .g = g, .tower = tower, .rows = rows,
		.q_width = t->heads * t->head_dim, .kv_width = t->kv_heads * t->head_dim };
	p->qkv_width = p->q_width + 2 * p->kv_width;
	p->active_row = tower->blocks[0].down.row;
	p->tapes = calloc((size_t)t->depth, sizeof *p->tapes);
	if (!p->tapes)
		return fail_memory(err, "tapes", (size_t)t->depth * sizeof *p->tapes);
	for (int i = 0; i < t->depth; i++) {
		struct layer_tape *tape = &p->tapes[i];
		if (i > 0 && !r->gradient) {
			*tape = p->tapes[0];
			continue;
		}
		tape->input = arena_take(g, n * hidden, sizeof(float));
		tape->middle = arena_take(g, n * hidden, sizeof(float));
		tape->qkv = arena_take(g, n * (size_t)p->qkv_width, sizeof(bf16_bits));
		tape->attended = arena_take(g, n * (size_t)p->q_width, sizeof(bf16_bits));
		tape->lse = arena_take(g, n * (size_t)t->heads, sizeof(float));
		tape->gate_up = arena_take(g, n * 2 * (size_t)t->intermediate, sizeof(bf16_bits));
	}
	p->output = r->gradient ? arena_take(g, n * hidden, sizeof(float)) : p->tapes[0].input;
	p->normed = arena_take(g, n * hidden, sizeof(bf16_bits));
	p->active = arena_take(g, n * (size_t)p->active_row, sizeof(bf16_bits));
	p->turned = arena_take(g, n * (size_t)p->qkv_width, sizeof(bf16_bits));
	if (r->gradient) {
		p->narrow = arena_take(g, n * hidden, sizeof(bf16_bits));
		p->dqkv = arena_take(g, n * (size_t)p->qkv_width, sizeof(bf16_bits));
		p->dattended = arena_take(g, n * (size_t)p->q_width, sizeof(bf16_bits));
		p->dgate_up = arena_take(g, n * 2 * (size_t)t->intermediate, sizeof(bf16_bits));
		p->dnormed = arena_take(g, n * hidden, sizeof(float));
		p->delta = arena_take(g, n * (size_t)t->heads, sizeof(float));
	}
	return arena_ok(g, err);
}

static struct attention_shape attention_of(const struct tower_pass *p)
{
	const struct tower *t = p->tower->tower;
	return (struct attention_shape){ .heads = t->heads, .kv_heads = t->kv_heads,
		.head_dim = t->head_dim, .stride = p->qkv_width, .causal = t->causal,
		.scale = 1.0f / sqrtf((float)t->head_dim) };
}

/* Windows, unless the layer or the tower knows none. */
static const struct attention_tile *tiles_of(const struct tower_pass *p,
                                             const struct gpu_block *b, int *count)
{
	bool full = b->full_attention || p->tower->tower->causal;
	*count = full ? p->rows->tiles : p->rows->window_tiles;
	return full ? p->rows->full : p->rows->windows;
}

/* q, k and v of the layer after the rotary embedding, for the attention to read. */
static void turn_heads(struct run_state *r, struct tower_pass *p, const struct layer_tape *tape)
{
	const struct tower *t = p->tower->tower;
	gpu_rope_copy(p->turned, tape->qkv, p->qkv_width, p->rows->cosine, p->rows->sine,
	              p->rows->rows, t->heads + t->kv_heads, t->head_dim, r->g->device.stream);
}

static void layer_forward(struct run_state *r, struct tower_pass *p, int layer, float *output)
{
	struct device_model *g = r->g;
	struct device *d = &g->device;
	const struct tower *t = p->tower->tower;
	const struct gpu_block *b = &p->tower->blocks[layer];
	struct layer_tape *tape = &p->tapes[layer];
	struct attention_shape shape = attention_of(p);
	int rows = p->rows->rows, tile_count, k = p->q_width, v = k + p->kv_width;
	const struct attention_tile *tiles = tiles_of(p, b, &tile_count);
	gpu_rmsnorm_forward(p->normed, tape->input, b->norm1, rows, t->hidden, t->eps, d->stream);
	observe(r, &b->qkv, p->normed, rows, p->rows->starts);
	product_forward(d, tape->qkv, p->qkv_width, p->normed, b->qkv.weight, b->qkv.bias, rows,
	                b->qkv.out, b->qkv.row);
	turn_heads(r, p, tape);
	gpu_attention_forward(tape->attended, tape->lse, p->turned, p->turned + k, p->turned + v,
	                      tiles, tile_count, &shape, d->stream);
	observe(r, &b->o, tape->attended, rows, p->rows->starts);
	product_add(d, tape->middle, tape->input, tape->attended, b->o.weight, b->o.bias_float,
	            rows, b->o.out, b->o.row);
	gpu_rmsnorm_forward(p->normed, tape->middle, b->norm2, rows, t->hidden, t->eps,
	                    d->stream);
	observe(r, &b->gate_up, p->normed, rows, p->rows->starts);
	product_forward(d, tape->gate_up, b->gate_up.out, p->normed, b->gate_up.weight,
	                b->gate_up.bias, rows, b->gate_up.out, b->gate_up.row);
	gpu_swiglu_forward(p->active, p->active_row, tape->gate_up, rows, t->intermediate,
	                   d->stream);
	observe(r, &b->down, p->active, rows, p->rows->starts);
	product_add(d, output, tape->middle, p->active, b->down.weight, b->down.bias_float, rows,
	            b->down.out, b->down.row);
	count_product(g, rows, &b->qkv);
	count_product(g, rows, &b->o);
	count_product(g, rows, &b->gate_up);
	count_product(g, rows, &b->down);
}

static void tower_forward_pass(struct run_state *r, struct tower_pass *p)
{
	int depth = p->tower->tower->depth;
	for (int i = 0; i < depth; i++)
		layer_forward(r, p, i, i + 1 < depth ? p->tapes[i + 1].input : p->output);
}

static float *output_of(struct tower_pass *p, int layer)
{
	return layer + 1 < p->tower->tower->depth ? p->tapes[layer + 1].input : p->output;
}

static void mlp_backward(struct run_state *r, struct tower_pass *p, int layer, float *dx)
{
	struct device *d = &r->g->device;
	const struct tower *t = p->tower->tower;
	const struct gpu_block *b = &p->tower->blocks[layer];
	struct layer_tape *tape = &p->tapes[layer];
	const struct plain_output down = { .sum = output_of(p, layer), .addend = tape->middle };
	const struct plain_output gate_up = { .narrow = tape->gate_up };
	int rows = p->rows->rows;
	gpu_swiglu_forward(p->active, p->active_row, tape->gate_up, rows, t->intermediate,
	                   d->stream);
	weigh(r, &b->down, p->active, &down, p->narrow, rows, p->rows->starts);
	product_backward(d, p->active, p->narrow, b->down.weight, rows, b->down.out,
	                 b->down.row);
	gpu_swiglu_backward(p->dgate_up, p->active, p->active_row, tape->gate_up, rows,
	                    t->intermediate, d->stream);
	gpu_rmsnorm_forward(p->normed, tape->middle, b->norm2, rows, t->hidden, t->eps,
	                    d->stream);
	weigh(r, &b->gate_up, p->normed, &gate_up, p->dgate_up, rows, p->rows->starts);
	product_backward_float(d, p->dnormed, p->dgate_up, b->gate_up.weight, rows,
	                       b->gate_up.out, b->gate_up.row);
	gpu_rmsnorm_backward(dx, p->narrow, p->dnormed, tape->middle, b->norm2, rows, t->hidden,
	                     t->eps, d->stream);
	count_product(r->g, rows, &b->down);
	count_product(r->g, rows, &b->gate_up);
}

static void attention_backward(struct run_state *r, struct tower_pass *p, int layer,
                               float *dx, bool input_wanted)
{
	struct device *d = &r->g->device;
	const struct tower *t = p->tower->tower;
	const struct gpu_block *b = &p->tower->blocks[layer];
	struct layer_tape *tape = &p->tapes[layer];
	struct attention_shape shape = attention_of(p);
	const struct plain_output o = { .sum = tape->middle, .addend = tape->input };
	const struct plain_output qkv = { .narrow = tape->qkv };
	int rows = p->rows->rows, tile_count, k = p->q_width, v = k + p->kv_width;
	const struct attention_tile *tiles = tiles_of(p, b, &tile_count);
	weigh(r, &b->o, tape->attended, &o, p->narrow, rows, p->rows->starts);
	product_backward(d, p->dattended, p->narrow, b->o.weight, rows, b->o.out, b->o.row);
	turn_heads(r, p, tape);
	gpu_attention_backward(p->dqkv, p->dqkv + k, p->dqkv + v, p->delta, p->dattended,
	                       tape->attended, tape->lse, p->turned, p->turned + k,
	                       p->turned + v, tiles, tile_count, rows, &shape, d->stream);
	gpu_rope(p->dqkv, p->qkv_width, p->rows->cosine, p->rows->sine, rows,
	         t->heads + t->kv_heads, t->head_dim, 1, d->stream);
	gpu_rmsnorm_forward(p->normed, tape->input, b->norm1, rows, t->hidden, t->eps, d->stream);
	weigh(r, &b->qkv, p->normed, &qkv, p->dqkv, rows, p->rows->starts);
	count_product(r->g, rows, &b->o);
	if (!input_wanted)
		return;
	product_backward_float(d, p->dnormed, p->dqkv, b->qkv.weight, rows, b->qkv.out,
	                       b->qkv.row);
	gpu_rmsnorm_backward(dx, p->narrow, p->dnormed, tape->input, b->norm1, rows, t->hidden,
	                     t->eps, d->stream);
	count_product(r->g, rows, &b->qkv);
}

/* dx[rows][hidden]: the gradient of the output becomes that of the input. */
static void tower_backward_pass(struct run_state *r, struct tower_pass *p, float *dx,
                                bool input_wanted)
{
	gpu_to_bf16(p->narrow, dx, (int64_t)p->rows->rows * p->tower->tower->hidden,
	            r->g->device.stream);
	for (int i = p->tower->tower->depth - 1; i >= 0; i--) {
		mlp_backward(r, p, i, dx);
		attention_backward(r, p, i, dx, input_wanted || i > 0);
	}
}

/* ---- vision ---- */

struct merger_tape {
	bf16_bits *merged;   /* [vision rows][hidden], as cells */
	bf16_bits *expanded; /* [cells][merged width] */
	bf16_bits *active;
	float *features;     /* [cells][out] */
	bf16_bits *dfeatures, *dactive;
};

static bool prepare_merger(struct run_state *r, struct merger_tape *m, error *err)
{
	struct device_model *g = r->g;
	size_t cells = (size_t)r->batch->cells, width = (size_t)g->merger_in.in;
	*m = (struct merger_tape){
		.merged = arena_take(g, cells * width, sizeof(bf16_bits)),
		.expanded = arena_take(g, cells * width, sizeof(bf16_bits)),
		.active = arena_take(g, cells * width, sizeof(bf16_bits)),
		.features = arena_take(g, cells * (size_t)g->merger_out.out, sizeof(float)),
	};
	if (r->gradient) {
		m->dfeatures = arena_take(g, cells * (size_t)g->merger_out.out, sizeof(bf16_bits));
		m->dactive = arena_take(g, cells * width, sizeof(bf16_bits));
	}
	return arena_ok(g, err);
}

static void vision_forward_pass(struct run_state *r, struct merger_tape *m)
{
	struct device_model *g = r->g;
	struct device *d = &g->device;
	const struct batch *b = r->batch;
	const struct tower *t = g->vision.tower;
	const int32_t *cells = b->cell_starts;
	observe(r, &g->patch_embed, b->patches, b->vision.rows, b->vision.starts);
	product_float(d, r->vision.tapes[0].input, b->patches, g->patch_embed.weight, NULL,
	              b->vision.rows, g->patch_embed.out, g->patch_embed.row);
	tower_forward_pass(r, &r->vision);
	gpu_rmsnorm_forward(m->merged, r->vision.output, g->merger_norm, b->vision.rows,
	                    t->hidden, t->eps, d->stream);
	observe(r, &g->merger_in, m->merged, b->cells, cells);
	product_forward(d, m->expanded, g->merger_in.out, m->merged, g->merger_in.weight,
	                g->merger_in.bias, b->cells, g->merger_in.out, g->merger_in.row);
	gpu_gelu_forward(m->active, m->expanded, (int64_t)b->cells * g->merger_in.out, d->stream);
	observe(r, &g->merger_out, m->active, b->cells, cells);
	product_float(d, m->features, m->active, g->merger_out.weight, g->merger_out.bias_float,
	              b->cells, g->merger_out.out, g->merger_out.row);
	count_product(g, b->vision.rows, &g->patch_embed);
	count_product(g, b->cells, &g->merger_in);
	count_product(g, b->cells, &g->merger_out);
}

static void vision_backward_pass(struct run_state *r, struct merger_tape *m, float *dtext,
                                 float *dvision, float *dmerged)
{
	struct device_model *g = r->g;
	struct device *d = &g->device;
	const struct batch *b = r->batch;
	const struct tower *t = g->vision.tower;
	int64_t wide = (int64_t)b->cells * g->merger_in.out;
	gpu_gather_features(m->dfeatures, dtext, b->source, b->text.rows, g->merger_out.out,
	                    d->stream);
	const struct plain_output features = { .sum = m->features };
	const struct plain_output expanded = { .narrow = m->expanded };
	const struct plain_output embedded = { .sum = r->vision.tapes[0].input };
	weigh(r, &g->merger_out, m->active, &features, m->dfeatures, b->cells, b->cell_starts);
	product_backward(d, m->dactive, m->dfeatures, g->merger_out.weight, b->cells,
	                 g->merger_out.out, g->merger_out.row);
	gpu_gelu_backward(m->dactive, m->dactive, m->expanded, wide, d->stream);
	weigh(r, &g->merger_in, m->merged, &expanded, m->dactive, b->cells, b->cell_starts);
	product_backward_float(d, dmerged, m->dactive, g->merger_in.weight, b->cells,
	                       g->merger_in.out, g->merger_in.row);
	cudaMemsetAsync(dvision, 0, (size_t)b->vision.rows * (size_t)t->hidden * sizeof(float),
	                d->stream);
	gpu_rmsnorm_backward(dvision, NULL, dmerged, r->vision.output, g->merger_norm,
	                     b->vision.rows, t->hidden, t->eps, d->stream);
	tower_backward_pass(r, &r->vision, dvision, true);
	weigh(r, &g->patch_embed, b->patches, &embedded, r->vision.narrow, b->vision.rows,
	      b->vision.starts);
	count_product(g, b->cells, &g->merger_out);
	count_product(g, b->cells, &g->merger_in);
}

/* ---- the whole ---- */

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
static void take_perturbation(struct run_state *r)
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

static bool prepare_run(struct run_state *r, error *err)
{
	struct device_model *g = r->g;
	const struct batch *b = r->batch;
	size_t results = (size_t)r->samples * (size_t)r->linear_count;
	size_t rows = (size_t)(b->vision.rows > b->text.rows ? b->vision.rows : b->text.rows);
	g->device.most_rows = 8192;
	r->amax = arena_take(g, results, sizeof *r->amax);
	r->score = arena_take(g, results, sizeof *r->score);
	r->per_row = arena_take(g, rows, sizeof(double));
	if (r->gradient)
		take_perturbation(r);
	if (!arena_ok(g, err))
		return false;
	cudaMemsetAsync(r->amax, 0, results * sizeof *r->amax, g->device.stream);
	cudaMemsetAsync(r->score, 0, results * sizeof *r->score, g->device.stream);
	return true;
}

/* Loss and gradient of the head; dx becomes the gradient of the text tower's output. */
static bool run_head(struct run_state *r, float *dx, float **losses, error *err)
{
	struct device_model *g = r->g;
	struct device *d = &g->device;
	const struct batch *b = r->batch;
	int hidden = g->text.tower->hidden, vocab = g->head.out;
	size_t n = (size_t)b->graded;
	float *picked = arena_take(g, n * (size_t)hidden, sizeof *picked);
	bf16_bits *normed = arena_take(g, n * (size_t)hidden, sizeof *normed);
	float *logits = arena_take(g, n * (size_t)vocab, sizeof *logits);
	bf16_bits *dlogits = arena_take(g, n * (size_t)vocab, sizeof *dlogits);
	float *dnormed = arena_take(g, n * (size_t)hidden, sizeof *dnormed);
	float *dpicked = arena_take(g, n * (size_t)hidden, sizeof *dpicked);
	*losses = arena_take(g, n, sizeof **losses);
	if (!arena_ok(g, err))
		return false;
	gpu_pick_rows(picked, r->text.output, b->graded_rows, b->graded, hidden, d->stream);
	gpu_rmsnorm_forward(normed, picked, g->final_norm, b->graded, hidden,
	                    g->text.tower->eps, d->stream);
	product_float(d, logits, normed, g->head.weight, NULL, b->graded, vocab, hidden);
	gpu_cross_entropy(*losses, dlogits, logits, b->targets, b->graded_scale, b->graded,
	                  vocab, d->stream);
	const struct plain_output plain = { .sum = logits };
	weigh(r, &g->head, normed, &plain, dlogits, b->graded, b->graded_starts);
	product_backward_float(d, dnormed, dlogits, g->head.weight, b->graded, vocab, hidden);
	cudaMemsetAsync(dpicked, 0, n * (size_t)hidden * sizeof *dpicked, d->stream);
	gpu_rmsnorm_backward(dpicked, NULL, dnormed, picked, g->final_norm, b->graded, hidden,
	                     g->text.tower->eps, d->stream);
	gpu_put_rows(dx, dpicked, b->graded_rows, b->graded, b->text.rows, hidden, d->stream);
	g->flops += 4.0 * b->graded * (double)vocab * hidden;
	return true;
}

static bool run_forward(struct run_state *r, struct merger_tape *merger, error *err)
{
	struct device_model *g = r->g;
	const struct batch *b = r->batch;
	bool images = b->cells > 0;
	if (!prepare_run(r, err) ||
	    (images && (!prepare_tower(r, &r->vision, &g->vision, &b->vision, err) ||
	                !prepare_merger(r, merger, err))) ||
	    !prepare_tower(r, &r->text, &g->text, &b->text, err))
		return false;
	if (images)
		vision_forward_pass(r, merger);
	gpu_embed(r->text.tapes[0].input, g->embedding, b->ids, merger->features,
	          images ? b->source : NULL, b->text.rows, g->text.tower->hidden,
	          g->device.stream);
	tower_forward_pass(r, &r->text);
	return true;
}

static bool run_backward(struct run_state *r, struct merger_tape *merger, float **losses,
                         error *err)
{
	struct device_model *g = r->g;
	const struct batch *b = r->batch;
	size_t text = (size_t)b->text.rows * (size_t)g->text.tower->hidden;
	size_t vision = (size_t)b->vision.rows * (size_t)g->vision.tower->hidden;
	float *dx = arena_take(g, text, sizeof *dx);
	float *dvision = arena_take(g, vision, sizeof *dvision);
	float *dmerged = arena_take(g, vision, sizeof *dmerged);
	if (!arena_ok(g, err) || !run_head(r, dx, losses, err))
		return false;
	tower_backward_pass(r, &r->text, dx, b->cells > 0);
	if (b->cells > 0)
		vision_backward_pass(r, merger, dx, dvision, dmerged);
	return true;
}

/* ---- submitting and collecting ---- */

/* All members of a matrix see the input that was observed for the first. */
static void share_amax(const struct device_model *g, double *values, int samples)
{
	size_t linears = (size_t)g->model->linear_count;
	for (int i = 0; i < g->matrix_count; i++) {
		const struct matrix *x = g->matrices[i];
		for (int m = 1; m < x->member_count; m++)
			for (size_t s = 0; s < (size_t)samples; s++)
				values[s * linears + (size_t)x->members[m]] =
					values[s * linears + (size_t)x->members[0]];
	}
}

static bool prepare_slot(struct gpu_slot *slot, size_t bytes, error *err)
{
	if (!slot->done && cudaEventCreateWithFlags(&slot->done, cudaEventDisableTiming) !=
	                           cudaSuccess)
		return fail(err, EXIT_ENVIRONMENT, "CUDA: cannot make an event");
	if (bytes <= slot->results_bytes)
		return true;
	cudaFreeHost(slot->results);
	slot->results = NULL;
	slot->results_bytes = 0;
	if (cudaHostAlloc(&slot->results, bytes, cudaHostAllocDefault) != cudaSuccess)
		return fail_memory(err, "a batch's results", bytes);
	slot->results_bytes = bytes;
	return true;
}

/* The results' way home: scores or amax first, then losses. */
static void send_results(struct run_state *r, struct gpu_slot *slot, const float *losses)
{
	size_t count = (size_t)r->samples * (size_t)r->linear_count;
	cudaStream_t stream = r->g->device.stream;
	if (slot->work == GPU_CALIBRATE)
		cudaMemcpyAsync(slot->results, r->amax, count * sizeof *r->amax,
		                cudaMemcpyDeviceToHost, stream);
	else
		cudaMemcpyAsync(slot->results, r->score, count * sizeof *r->score,
		                cudaMemcpyDeviceToHost, stream);
	if (losses)
		cudaMemcpyAsync((double *)slot->results + count, losses,
		                (size_t)slot->graded * sizeof *losses, cudaMemcpyDeviceToHost,
		                stream);
	cudaEventRecord(slot->done, stream);
}

bool device_submit(struct gpu_model *handle, int index, enum gpu_work work,
                   const struct sample *const *samples, int count, error *err)
{
	struct device_model *g = (struct device_model *)handle;
	struct gpu_slot *slot = &g->slots[index];
	struct batch host, device;
	struct merger_tape merger = { 0 };
	float *losses = NULL;
	struct run_state r = { .g = g, .batch = &device, .samples = count,
		.gradient = work == GPU_SCORE, .linear_count = g->model->linear_count };
	if (!batch_pack(&host, g->model, samples, count, &slot->packed, &slot->packed_bytes,
	                err))
		return false;
	slot->work = work;
	slot->samples = count;
	slot->graded = host.graded;
	slot->graded_starts = host.graded_starts;
	arena_reset(g);
	size_t bytes = (size_t)count * (size_t)r.linear_count * sizeof(double) +
	               (size_t)host.graded * sizeof(float);
	bool ok = prepare_slot(slot, bytes, err) && batch_upload(&device, &host, g, err) &&
	          run_forward(&r, &merger, err) &&
	          (!r.gradient || run_backward(&r, &merger, &losses, err));
	if (ok)
		send_results(&r, slot, losses);
	slot->busy = ok;
	free(r.text.tapes);
	free(r.vision.tapes);
	return ok;
}

static void mean_losses(const struct gpu_slot *slot, const float *losses, double *loss)
{
	for (int s = 0; s < slot->samples; s++) {
		int first = slot->graded_starts[s], end = slot->graded_starts[s + 1];
		double sum = 0;
		for (int i = first; i < end; i++)
			sum += losses[i];
		loss[s] = end > first ? sum / (end - first) : 0;
	}
}

bool device_collect(struct gpu_model *handle, int index, double *values, double *loss,
                    error *err)
{
	struct device_model *g = (struct device_model *)handle;
	struct gpu_slot *slot = &g->slots[index];
	size_t count = (size_t)slot->samples * (size_t)g->model->linear_count;
	cudaError_t status = cudaEventSynchronize(slot->done);
	slot->busy = false;
	if (!device_check(&g->device, status, err))
		return false;
	for (int s = 0; s < slot->samples; s++)
		loss[s] = 0;
	if (slot->work == GPU_SCORE) {
		memcpy(values, slot->results, count * sizeof *values);
		mean_losses(slot, (const float *)((const double *)slot->results + count), loss);
		return true;
	}
	for (size_t i = 0; i < count; i++)
		values[i] = ((const float *)slot->results)[i];
	share_amax(g, values, slot->samples);
	return true;
}

/* ---- how much fits ---- */

static size_t tower_bytes(const struct tower *t, size_t rows, bool gradient)
{
	size_t q = (size_t)t->heads * (size_t)t->head_dim;
	size_t kv = (size_t)t->kv_heads * (size_t)t->head_dim;
	size_t hidden = (size_t)t->hidden, wide = (size_t)t->intermediate;
	size_t layer = 2 * hidden * 4 + (q + 2 * kv) * 2 + q * 2 + (size_t)t->heads * 4 +
	               2 * wide * 2;
	size_t scratch = hidden * 2 + wide * 2 +
	                 (gradient ? hidden * 14 + (q + 2 * kv) * 2 + q * 2 +
	                             (size_t)t->heads * 4 : 0);
	return rows * ((gradient ? (size_t)t->depth : 1) * layer + scratch);
}

/* What a sample takes of the arena, generously. */
static size_t sample_bytes(const struct device_model *g, const struct sample *s, bool gradient)
{
	const struct model_config *c = &g->model->config;
	size_t text = (size_t)s->tokens;
	size_t vision = s->patches.values
	                ? (size_t)s->patches.grid_h * (size_t)s->patches.grid_w : 0;
	size_t bytes = tower_bytes(g->text.tower, text, gradient) +
	               tower_bytes(g->vision.tower, vision, gradient) +
	               vision * (size_t)c->vision.patch_values * 2 +
	               vision * (size_t)c->vision.hidden * 12;
	if (gradient) {
		size_t graded = 0, widest = 0;
		for (int i = 1; i < s->tokens; i++)
			graded += s->graded[i] != 0;
		for (int i = 0; i < g->matrix_count; i++)
			if ((size_t)g->matrices[i]->padded_out > widest)
				widest = (size_t)g->matrices[i]->padded_out;
		size_t rows = vision > text ? vision : text;
		bytes += graded * (size_t)c->text.vocab * 6 + graded * (size_t)c->text.hidden * 16;
		bytes += rows * (widest * 4 + (size_t)g->text.tower->intermediate * 3);
	}
	return bytes + (1 << 20);
}

int device_batch_fits(const struct gpu_model *handle, const struct sample *const *samples,
                      int count, bool gradient)
{
	const struct device_model *g = (const struct device_model *)handle;
	size_t used = (size_t)64 << 20;
	int fits = 0;
	while (fits < count && fits < MOST_SAMPLES) {
		used += sample_bytes(g, samples[fits], gradient);
		if (used > g->arena_bytes)
			break;
		fits++;
	}
	return fits ? fits : 1;
}
