/* A batch through the model and back; see gpu.h. The order of steps is lib/model's.
 *
 * Per layer the forward pass keeps the residual stream before attention and before the
 * MLP, q/k/v after the rotary embedding, the attention's output and the gate and up
 * products; norms and activations are made again when the backward pass needs them, which
 * costs one pass over memory instead of keeping them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/gpu/run.h"

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
	observe_cache(r, p, layer);
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
	if (!input_wanted)
		return;
	product_backward_float(d, p->dnormed, p->dqkv, b->qkv.weight, rows, b->qkv.out,
	                       b->qkv.row);
	gpu_rmsnorm_backward(dx, p->narrow, p->dnormed, tape->input, b->norm1, rows, t->hidden,
	                     t->eps, d->stream);
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
}

/* ---- the whole ---- */

static bool prepare_run(struct run_state *r, error *err)
{
	struct device_model *g = r->g;
	const struct batch *b = r->batch;
	size_t results = (size_t)r->samples * (size_t)r->places;
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

bool run_batch(struct run_state *r, float **losses, error *err)
{
	struct merger_tape merger = { 0 };
	bool ok = run_forward(r, &merger, err) &&
	          (!r->gradient || run_backward(r, &merger, losses, err));
	free(r->text.tapes);
	free(r->vision.tapes);
	return ok;
}
