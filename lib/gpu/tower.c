/* The layers of a tower, forward and back; see run.h. The order of steps is lib/model's.
 *
 * Per layer the forward pass keeps the residual stream before attention and before the
 * MLP, q/k/v before the rotary embedding, the attention's output and the gate and up
 * products; norms and activations are made again when the backward pass needs them, which
 * costs one pass over memory instead of keeping them. */
#include <math.h>
#include <stdlib.h>

#include "lib/gpu/run.h"

static void take_tape(struct device_model *g, struct layer_tape *tape, size_t n,
                      const struct tower *t, size_t qkv_width, size_t q_width)
{
	tape->middle = arena_take(g, n * (size_t)t->hidden, sizeof(float));
	tape->qkv = arena_take(g, n * qkv_width, sizeof(bits16));
	tape->attended = arena_take(g, n * q_width, sizeof(bits16));
	tape->lse = arena_take(g, n * (size_t)t->heads, sizeof(float));
	tape->gate_up = arena_take(g, n * 2 * (size_t)t->intermediate, sizeof(bits16));
}

static void take_backward_scratch(struct tower_pass *p, size_t n, const struct tower *t)
{
	struct device_model *g = p->g;
	size_t hidden = (size_t)t->hidden, q = (size_t)p->q_width;
	p->narrow = arena_take(g, n * hidden, sizeof(bits16));
	p->dqkv = arena_take(g, n * (size_t)p->qkv_width, sizeof(bits16));
	p->dattended = arena_take(g, n * q, sizeof(bits16));
	p->dgate_up = arena_take(g, n * 2 * (size_t)t->intermediate, sizeof(bits16));
	p->dnormed = arena_take(g, n * hidden, sizeof(bits16));
	p->delta = arena_take(g, n * (size_t)t->heads, sizeof(float));
	if (t->heads != t->kv_heads)
		p->parts = arena_take(g, 2 * n * q, sizeof(float));
}

bool prepare_tower(struct run_state *r, struct tower_pass *p, const struct gpu_tower *tower,
                   const struct tower_rows *rows, error *err)
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
		if (i > 0)
			*tape = p->tapes[0];
		if (i == 0 || r->work == GPU_SCORE)
			take_tape(g, tape, n, t, (size_t)p->qkv_width, (size_t)p->q_width);
		if (i == 0 || r->work != GPU_CALIBRATE)
			tape->input = arena_take(g, n * hidden, sizeof(float));
	}
	p->output = r->work == GPU_CALIBRATE ? p->tapes[0].input
	                                     : arena_take(g, n * hidden, sizeof(float));
	for (int i = 0; r->work == GPU_COMPARE && i < 2; i++)
		p->again[i] = arena_take(g, n * hidden, sizeof(float));
	p->normed = arena_take(g, n * hidden, sizeof(bits16));
	p->active = arena_take(g, n * (size_t)p->active_row, sizeof(bits16));
	p->turned = arena_take(g, n * (size_t)p->qkv_width, sizeof(bits16));
	if (r->work == GPU_SCORE)
		take_backward_scratch(p, n, t);
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
static void turn_heads(struct run_state *r, struct tower_pass *p,
                       const struct layer_tape *tape)
{
	const struct tower *t = p->tower->tower;
	gpu_rope_forward(p->turned, tape->qkv, p->qkv_width, p->rows->cosine, p->rows->sine,
	                 p->rows->rows, t->heads + t->kv_heads, t->head_dim,
	                 r->g->device.number, r->g->device.stream);
}

/* ---- forward ---- */

/* The norm in 16 bits; what else is wanted of it is in `extras`. */
static void norm(struct run_state *r, struct tower_pass *p, bits16 *out,
                 const struct row_extras *extras, const float *x, const bits16 *weight)
{
	const struct tower *t = p->tower->tower;
	gpu_rmsnorm_forward(out, extras, x, weight, p->rows->rows, t->hidden, t->eps,
	                    r->g->device.number, r->g->device.stream);
}

static void layer_forward(struct run_state *r, struct tower_pass *p, int layer,
                          const struct layer_tape *tape, float *output)
{
	struct device *d = &r->g->device;
	const struct gpu_block *b = &p->tower->blocks[layer];
	const struct row_extras watched = extras_to_observe(r);
	const int32_t *starts = p->rows->starts;
	struct attention_shape shape = attention_of(p);
	int rows = p->rows->rows, tile_count, k = p->q_width, v = k + p->kv_width;
	const struct attention_tile *tiles = tiles_of(p, b, &tile_count);
	norm(r, p, p->normed, &watched, tape->input, b->norm1);
	observe_noted(r, &b->qkv, rows, starts);
	run_linear(r, &b->qkv, tape->qkv, p->normed, rows);
	turn_heads(r, p, tape);
	observe_cache(r, p, layer);
	serve_cache(r, p, layer);
	gpu_attention_forward(tape->attended, tape->lse, p->turned, p->turned + k, p->turned + v,
	                      tiles, tile_count, &shape, d->number, d->stream);
	observe(r, &b->o, tape->attended, rows, starts);
	run_linear_add(r, &b->o, tape->middle, tape->input, tape->attended, rows);
	norm(r, p, p->normed, &watched, tape->middle, b->norm2);
	observe_noted(r, &b->gate_up, rows, starts);
	run_linear(r, &b->gate_up, tape->gate_up, p->normed, rows);
	gpu_swiglu_forward(p->active, p->active_row, &watched, tape->gate_up, rows,
	                   p->tower->tower->intermediate, d->number, d->stream);
	observe_noted(r, &b->down, rows, starts);
	run_linear_add(r, &b->down, output, tape->middle, p->active, rows);
}

static float *output_of(struct tower_pass *p, int layer)
{
	return layer + 1 < p->tower->tower->depth ? p->tapes[layer + 1].input : p->output;
}

void tower_forward_pass(struct run_state *r, struct tower_pass *p)
{
	for (int i = 0; i < p->tower->tower->depth; i++)
		layer_forward(r, p, i, &p->tapes[i], output_of(p, i));
}

float *tower_forward_again(struct run_state *r, struct tower_pass *p, int layer,
                           float *input)
{
	struct layer_tape tape = p->tapes[0];
	int turn = input == p->again[0];
	for (tape.input = input; layer < p->tower->tower->depth; layer++, turn = !turn) {
		layer_forward(r, p, layer, &tape, p->again[turn]);
		tape.input = p->again[turn];
	}
	return tape.input;
}

/* ---- backward ---- */

static void mlp_backward(struct run_state *r, struct tower_pass *p, int layer, float *dx)
{
	struct device *d = &r->g->device;
	const struct tower *t = p->tower->tower;
	const struct gpu_block *b = &p->tower->blocks[layer];
	struct layer_tape *tape = &p->tapes[layer];
	const struct plain_output down = { .sum = output_of(p, layer), .addend = tape->middle };
	const struct plain_output gate_up = { .narrow = tape->gate_up };
	int rows = p->rows->rows;
	if (b->down.scored) {
		const struct row_extras codes = extras_to_weigh(r, &b->down);
		gpu_swiglu_forward(NULL, p->active_row, &codes, tape->gate_up, rows,
		                   t->intermediate, d->number, d->stream);
		weigh(r, &b->down, &down, p->narrow, rows, p->rows->starts);
	}
	product_backward(d, p->active, p->narrow, b->down.weight, rows, b->down.out,
	                 b->down.row);
	gpu_swiglu_backward(p->dgate_up, p->active, p->active_row, tape->gate_up, rows,
	                    t->intermediate, d->number, d->stream);
	if (b->gate_up.scored) {
		const struct row_extras codes = extras_to_weigh(r, &b->gate_up);
		norm(r, p, NULL, &codes, tape->middle, b->norm2);
		weigh(r, &b->gate_up, &gate_up, p->dgate_up, rows, p->rows->starts);
	}
	product_backward(d, p->dnormed, p->dgate_up, b->gate_up.weight, rows, b->gate_up.out,
	                 b->gate_up.row);
	gpu_rmsnorm_backward(dx, p->narrow, p->dnormed, tape->middle, b->norm2, rows, t->hidden,
	                     t->eps, d->number, d->stream);
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
	encode_input(r, &b->o, tape->attended, rows);
	weigh(r, &b->o, &o, p->narrow, rows, p->rows->starts);
	product_backward(d, p->dattended, p->narrow, b->o.weight, rows, b->o.out, b->o.row);
	turn_heads(r, p, tape);
	gpu_attention_backward(p->dqkv, p->dqkv + k, p->dqkv + v, p->delta, p->parts,
	                       p->dattended, tape->attended, tape->lse, p->turned,
	                       p->turned + k, p->turned + v, tiles, tile_count, rows, &shape,
	                       d->number, d->stream);
	gpu_rope_backward(p->dqkv, p->qkv_width, p->rows->cosine, p->rows->sine, rows,
	                  t->heads + t->kv_heads, t->head_dim, d->number, d->stream);
	if (b->qkv.scored) {
		const struct row_extras codes = extras_to_weigh(r, &b->qkv);
		norm(r, p, NULL, &codes, tape->input, b->norm1);
		weigh(r, &b->qkv, &qkv, p->dqkv, rows, p->rows->starts);
	}
	if (!input_wanted)
		return;
	product_backward(d, p->dnormed, p->dqkv, b->qkv.weight, rows, b->qkv.out, b->qkv.row);
	gpu_rmsnorm_backward(dx, p->narrow, p->dnormed, tape->input, b->norm1, rows, t->hidden,
	                     t->eps, d->number, d->stream);
}

void tower_backward_pass(struct run_state *r, struct tower_pass *p, float *dx,
                         bool input_wanted)
{
	gpu_narrow(p->narrow, dx, (int64_t)p->rows->rows * p->tower->tower->hidden,
	           r->g->device.number, r->g->device.stream);
	for (int i = p->tower->tower->depth - 1; i >= 0; i--) {
		mlp_backward(r, p, i, dx);
		attention_backward(r, p, i, dx, input_wanted || i > 0);
	}
}
