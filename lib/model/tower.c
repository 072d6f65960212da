/* Blocks run over whole matrices of rows; see parts.h for the formula and
 * tower.h for what is kept. */
#include "lib/model/tower.h"

#include <math.h>
#include <string.h>

#include "kernels/add.h"
#include "kernels/attention.h"
#include "kernels/rmsnorm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"

/* ---- memory ---- */

static size_t q_width(const struct tower *t)
{
	return (size_t)t->heads * (size_t)t->head_dim;
}

static size_t kv_width(const struct tower *t)
{
	return (size_t)t->kv_heads * (size_t)t->head_dim;
}

size_t tower_tape_bytes(const struct tower *t, size_t rows)
{
	size_t width = 2 * (size_t)t->hidden + q_width(t) + 2 * kv_width(t) +
	               2 * (size_t)t->intermediate;
	return (size_t)t->depth * rows * width * sizeof(float);
}

static void take_qkv(const struct tower_run *t, float **q, float **k, float **v)
{
	struct workspace *w = t->run->space;
	const struct tower *tower = t->tower;
	size_t rows = (size_t)t->rows;
	if (tower->fused) {
		float *row = workspace_floats(w, rows, 3 * q_width(tower));
		*q = row;
		*k = row ? row + q_width(tower) : NULL;
		*v = row ? row + 2 * q_width(tower) : NULL;
	} else {
		*q = workspace_floats(w, rows, q_width(tower));
		*k = workspace_floats(w, rows, kv_width(tower));
		*v = workspace_floats(w, rows, kv_width(tower));
	}
}

/* All of a tape but its input. */
static void take_activations(const struct tower_run *t, struct tape *tape)
{
	struct workspace *w = t->run->space;
	size_t rows = (size_t)t->rows;
	take_qkv(t, &tape->q, &tape->k, &tape->v);
	tape->middle = workspace_floats(w, rows, (size_t)t->tower->hidden);
	tape->gate = workspace_floats(w, rows, (size_t)t->tower->intermediate);
	tape->up = workspace_floats(w, rows, (size_t)t->tower->intermediate);
}

static void take_tapes(struct tower_run *t)
{
	struct workspace *w = t->run->space;
	int depth = t->tower->depth;
	struct tape shared;
	t->tapes = workspace_take(w, (size_t)depth, sizeof *t->tapes);
	if (!t->tapes)
		return;
	take_activations(t, &shared);
	shared.input = workspace_floats(w, (size_t)t->rows, (size_t)t->tower->hidden);
	for (int i = 0; i < depth; i++) {
		t->tapes[i] = shared;
		if (t->keeping != KEEP_NOTHING && i > 0)
			t->tapes[i].input = workspace_floats(w, (size_t)t->rows,
			                                     (size_t)t->tower->hidden);
		if (t->keeping == KEEP_EVERYTHING && i > 0)
			take_activations(t, &t->tapes[i]);
	}
	t->output = t->keeping == KEEP_NOTHING
	            ? shared.input
	            : workspace_floats(w, (size_t)t->rows, (size_t)t->tower->hidden);
}

static void take_scratch(struct tower_run *t)
{
	struct workspace *w = t->run->space;
	const struct tower *tower = t->tower;
	size_t rows = (size_t)t->rows;
	t->cosine = workspace_floats(w, rows, (size_t)tower->head_dim / 2);
	t->sine = workspace_floats(w, rows, (size_t)tower->head_dim / 2);
	t->normed = workspace_floats(w, rows, (size_t)tower->hidden);
	t->added = workspace_floats(w, rows, (size_t)tower->hidden);
	t->attended = workspace_floats(w, rows, q_width(tower));
	t->active = workspace_floats(w, rows, (size_t)tower->intermediate);
	t->scores = workspace_floats(w, attention_scratch(t->past + t->rows), 1);
	if (t->keeping == KEEP_NOTHING)
		return;
	take_qkv(t, &t->dq, &t->dk, &t->dv);
	t->dgate = workspace_floats(w, rows, (size_t)tower->intermediate);
	t->dup = workspace_floats(w, rows, (size_t)tower->intermediate);
}

bool tower_prepare(struct tower_run *t, struct run *run, const struct tower *tower,
                   int rows, int past, enum keeping keeping, error *err)
{
	*t = (struct tower_run){ .run = run, .tower = tower, .rows = rows, .past = past,
		.keeping = keeping };
	t->q_stride = (int)q_width(tower) * (tower->fused ? 3 : 1);
	t->kv_stride = tower->fused ? t->q_stride : (int)kv_width(tower);
	take_tapes(t);
	take_scratch(t);
	return workspace_ok(run->space, err);
}

/* ---- one block forward ---- */

static const struct segments *segments_of(const struct tower_run *t, const struct block *b)
{
	return b->full_attention ? &t->all : &t->windows;
}

static float attention_scale(const struct tower *t)
{
	return 1.0f / sqrtf((float)t->head_dim);
}

static bool project_qkv(struct tower_run *t, const struct block *b, struct tape *tape,
                        error *err)
{
	struct run *r = t->run;
	if (!linear_forward(r, b->q, false, t->normed, tape->q, t->rows, err))
		return false;
	return t->tower->fused ||
	       (linear_forward(r, b->k, true, t->normed, tape->k, t->rows, err) &&
	        linear_forward(r, b->v, true, t->normed, tape->v, t->rows, err));
}

/* Only the language model's tower keeps its keys and values, and its rows of both have
 * no gap. */
static bool show_cache(struct tower_run *t, const struct block *b, struct tape *tape,
                       error *err)
{
	const struct tap *tap = t->run->tap;
	if (!t->tower->causal || !t->run->shown || !tap->cache)
		return true;
	return tap->cache(tap->self, (int)(b - t->tower->blocks), tape->k, tape->v, t->rows,
	                  err);
}

static bool attend(struct tower_run *t, const struct block *b, struct tape *tape, error *err)
{
	const struct tower *tower = t->tower;
	const struct segments *s = segments_of(t, b);
	size_t past = (size_t)t->past * (size_t)t->kv_stride;
	rmsnorm_forward(t->normed, tape->input, b->norm1, t->rows, tower->hidden, tower->eps);
	if (!project_qkv(t, b, tape, err))
		return false;
	rope_forward(tape->q, t->q_stride, t->cosine, t->sine, t->rows, tower->heads,
	             tower->head_dim);
	rope_forward(tape->k, t->kv_stride, t->cosine, t->sine, t->rows, tower->kv_heads,
	             tower->head_dim);
	if (!show_cache(t, b, tape, err))
		return false;
	attention_forward(t->attended, t->scores, tape->q, t->q_stride, tape->k - past,
	                  tape->v - past, t->kv_stride, s->starts, s->count, t->past,
	                  tower->heads, tower->kv_heads, tower->head_dim,
	                  attention_scale(tower), tower->causal);
	if (!linear_forward(t->run, b->o, false, t->attended, t->added, t->rows, err))
		return false;
	add(tape->middle, tape->input, t->added, (size_t)t->rows * (size_t)tower->hidden);
	return true;
}

static bool block_forward(struct tower_run *t, const struct block *b, struct tape *tape,
                          float *output, error *err)
{
	const struct tower *tower = t->tower;
	size_t rows = (size_t)t->rows;
	if (!attend(t, b, tape, err))
		return false;
	rmsnorm_forward(t->normed, tape->middle, b->norm2, t->rows, tower->hidden, tower->eps);
	if (!linear_forward(t->run, b->gate, false, t->normed, tape->gate, t->rows, err) ||
	    !linear_forward(t->run, b->up, true, t->normed, tape->up, t->rows, err))
		return false;
	swiglu_forward(t->active, tape->gate, tape->up, rows * (size_t)tower->intermediate);
	if (!linear_forward(t->run, b->down, false, t->active, t->added, t->rows, err))
		return false;
	add(output, tape->middle, t->added, rows * (size_t)tower->hidden);
	return true;
}

/* ---- one block backward ---- */

static bool mlp_backward(struct tower_run *t, const struct block *b,
                         const struct tape *tape, float *dx, error *err)
{
	struct run *r = t->run;
	float *dactive = t->active, *dnormed = t->normed;
	if (!linear_backward(r, b->down, dx, dactive, t->rows, false, err))
		return false;
	swiglu_backward(t->dgate, t->dup, dactive, tape->gate, tape->up,
	                (size_t)t->rows * (size_t)t->tower->intermediate);
	if (!linear_backward(r, b->up, t->dup, dnormed, t->rows, false, err) ||
	    !linear_backward(r, b->gate, t->dgate, dnormed, t->rows, true, err))
		return false;
	rmsnorm_backward(dx, dnormed, tape->middle, b->norm2, t->rows, t->tower->hidden,
	                 t->tower->eps);
	return true;
}

/* dnormed NULL: only the taps want the gradients of q, k and v. */
static bool qkv_backward(struct tower_run *t, const struct block *b, float *dnormed,
                         error *err)
{
	struct run *r = t->run;
	if (t->tower->fused)
		return linear_backward(r, b->q, t->dq, dnormed, t->rows, false, err);
	return linear_backward(r, b->v, t->dv, dnormed, t->rows, false, err) &&
	       linear_backward(r, b->k, t->dk, dnormed, t->rows, true, err) &&
	       linear_backward(r, b->q, t->dq, dnormed, t->rows, true, err);
}

static bool attention_part_backward(struct tower_run *t, const struct block *b,
                                    const struct tape *tape, float *dx, bool input_wanted,
                                    error *err)
{
	const struct tower *tower = t->tower;
	const struct segments *s = segments_of(t, b);
	float *dattended = t->attended, *dnormed = input_wanted ? t->normed : NULL;
	if (!linear_backward(t->run, b->o, dx, dattended, t->rows, false, err))
		return false;
	attention_backward(t->dq, t->dk, t->dv, t->scores, dattended, tape->q, t->q_stride,
	                   tape->k, tape->v, t->kv_stride, s->starts, s->count, tower->heads,
	                   tower->kv_heads, tower->head_dim, attention_scale(tower),
	                   tower->causal);
	rope_backward(t->dq, t->q_stride, t->cosine, t->sine, t->rows, tower->heads,
	              tower->head_dim);
	rope_backward(t->dk, t->kv_stride, t->cosine, t->sine, t->rows, tower->kv_heads,
	              tower->head_dim);
	if (!qkv_backward(t, b, dnormed, err))
		return false;
	if (input_wanted)
		rmsnorm_backward(dx, dnormed, tape->input, b->norm1, t->rows, tower->hidden,
		                 tower->eps);
	return true;
}

/* ---- the stack ---- */

bool tower_forward(struct tower_run *t, error *err)
{
	const struct tower *tower = t->tower;
	const struct tap *tap = t->run->tap;
	t->run->shown = t->keeping != KEEP_INPUTS;
	for (int i = 0; i < tower->depth; i++) {
		const struct block *b = &tower->blocks[i];
		float *output = i + 1 < tower->depth ? t->tapes[i + 1].input : t->output;
		if (!block_forward(t, b, &t->tapes[i], output, err))
			return false;
		if (tap->block)
			tap->block(tap->self, b->name, output, t->rows, tower->hidden);
	}
	t->run->shown = true;
	return true;
}

bool tower_forward_again(struct tower_run *t, int first, const float *input, float *output,
                         error *err)
{
	size_t count = (size_t)t->rows * (size_t)t->tower->hidden;
	if (input != output)
		memcpy(output, input ? input : t->tapes[first].input, count * sizeof *output);
	/* A block has read its input when it writes its output. */
	for (int i = first; i < t->tower->depth; i++) {
		struct tape tape = t->tapes[i];
		tape.input = output;
		if (!block_forward(t, &t->tower->blocks[i], &tape, output, err))
			return false;
	}
	return true;
}

bool tower_backward(struct tower_run *t, float *dx, bool input_wanted, error *err)
{
	for (int i = t->tower->depth - 1; i >= 0; i--) {
		const struct block *b = &t->tower->blocks[i];
		struct tape *tape = &t->tapes[i];
		/* Nobody needs `output` any more once the gradient of it is known. */
		if (t->keeping == KEEP_INPUTS && !block_forward(t, b, tape, t->output, err))
			return false;
		if (!mlp_backward(t, b, tape, dx, err) ||
		    !attention_part_backward(t, b, tape, dx, i > 0 || input_wanted, err))
			return false;
	}
	return true;
}
