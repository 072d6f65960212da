/* The model in shapes that the demo does not have: a head of its own, shared
 * key/value heads, other windows, several shards, odd grids, no image, weights too
 * large to stay in float32. Gradients are held against differences of losses. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/matmul.h"
#include "lib/model/workspace.h"
#include "tests/support/numeric.h"
#include "tests/support/open_model.h"

#include <cmocka.h>

static const size_t ALL = (size_t)1 << 30; /* every weight resident */

static int start(void **state)
{
	(void)state;
	matmul_threads(1);
	return 0;
}

/* Four query heads on two key/value heads of 32, windows of 2 x 2 cells, full
 * attention in the first and last vision block, head untied, three shards. */
static struct random_model grouped_shape(void)
{
	struct random_model m = random_model_tiny();
	m.config.vision.depth = 3;
	m.config.vision.hidden = 48;
	m.config.vision.heads = 3;
	m.config.vision.intermediate = 52;
	m.config.vision.window = 56;
	m.config.vision.full_attention[0] = true;
	m.config.vision.full_attention[1] = false;
	m.config.vision.full_attention[2] = true;
	m.config.text.layers = 3;
	m.config.text.hidden = 128;
	m.config.text.heads = 4;
	m.config.text.kv_heads = 2;
	m.config.text.intermediate = 84;
	m.config.text.tied_head = false;
	m.seed = 7;
	m.shards = 3;
	return m;
}

/* ---- gradients against differences of losses ---- */

/* Adds step * direction to one linear's output, or records its gradient. */
struct nudge {
	int linear, rows;
	size_t count;
	float *direction; /* [count] */
	double step;
	float *gradient; /* [count], owned */
};

static bool add_step(void *self, int linear, bool same_input, const float *x, float *y,
                     int rows, error *err)
{
	struct nudge *n = self;
	(void)same_input, (void)x, (void)rows, (void)err;
	for (size_t i = 0; linear == n->linear && i < n->count; i++)
		y[i] += (float)(n->step * (double)n->direction[i]);
	return true;
}

static bool record(void *self, int linear, const float *gradient, int rows, error *err)
{
	struct nudge *n = self;
	(void)err;
	if (linear != n->linear)
		return true;
	n->rows = rows;
	memcpy(n->gradient, gradient, n->count * sizeof *gradient);
	return true;
}

static double loss_at(struct open_model *o, const struct sample *s, struct nudge *n,
                      double step)
{
	struct tap tap = { .self = n, .forward = add_step };
	struct outcome out;
	error err;
	n->step = step;
	if (!model_forward(&o->model, o->space, s, WANT_LOSS, &tap, &out, &err))
		fail_msg("%s", err.text);
	return out.loss;
}

/* Relative error of the gradient along the direction, stepping so far that the loss
 * moves by about 0.01, well above the float32 noise of some 1e-6. */
static double directional_error(struct open_model *o, const struct sample *s,
                                struct nudge *n)
{
	double expected = 0;
	for (size_t i = 0; i < n->count; i++)
		expected += (double)n->gradient[i] * n->direction[i];
	assert_true(expected > 0);
	double step = 0.01 / expected;
	double slope = (loss_at(o, s, n, step) - loss_at(o, s, n, -step)) / (2 * step);
	return fabs(slope - expected) / expected;
}

static void check_linear(struct open_model *o, const struct sample *s, const char *name,
                         int rows, double *worst)
{
	struct nudge n = { .linear = model_find_linear(&o->model, name) };
	assert_true(n.linear >= 0);
	n.count = (size_t)rows * (size_t)o->model.linears[n.linear].out;
	n.gradient = calloc(n.count, sizeof *n.gradient);
	n.direction = calloc(n.count, sizeof *n.direction);
	assert_true(n.gradient && n.direction);
	struct tap tap = { .self = &n, .backward = record };
	struct outcome out;
	error err;
	if (!model_gradient(&o->model, o->space, s, &tap, &out, &err))
		fail_msg("%s", err.text);
	assert_int_equal(n.rows, rows);
	/* Along the gradient, and along random numbers with its signs: the first
	 * weighs the large elements, the second all. */
	memcpy(n.direction, n.gradient, n.count * sizeof *n.gradient);
	double error_along = directional_error(o, s, &n);
	fill_random(n.direction, n.count, 1, (uint32_t)n.linear + 1);
	for (size_t i = 0; i < n.count; i++)
		n.direction[i] = copysignf(n.direction[i], n.gradient[i]);
	double error_across = directional_error(o, s, &n);
	if (error_along > 1e-3 || error_across > 1e-3)
		fail_msg("%s: the gradient is off by %.1e and %.1e", name, error_along,
		         error_across);
	*worst = fmax(*worst, fmax(error_along, error_across));
	free(n.gradient);
	free(n.direction);
}

static int count_graded(const struct sample *s)
{
	int graded = 0;
	for (int i = 1; i < s->tokens; i++)
		graded += s->graded[i];
	return graded;
}

static void check_text_linears(struct open_model *o, const struct sample *s, double *worst)
{
	static const char *const names[] = {
		"language_model.layers.0.self_attn.q_proj",
		"language_model.layers.1.self_attn.k_proj",
		"language_model.layers.0.self_attn.v_proj",
		"language_model.layers.1.self_attn.o_proj",
		"language_model.layers.0.mlp.gate_proj",
		"language_model.layers.1.mlp.up_proj",
		"language_model.layers.0.mlp.down_proj",
	};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		check_linear(o, s, names[i], s->tokens, worst);
	check_linear(o, s, "lm_head", count_graded(s), worst);
}

static void check_vision_linears(struct open_model *o, const struct sample *s,
                                 double *worst)
{
	static const char *const names[] = {
		"visual.patch_embed.proj",       "visual.blocks.0.attn.qkv",
		"visual.blocks.1.attn.qkv",      "visual.blocks.0.attn.proj",
		"visual.blocks.1.mlp.gate_proj", "visual.blocks.0.mlp.up_proj",
		"visual.blocks.1.mlp.down_proj",
	};
	int patches = s->patches.grid_h * s->patches.grid_w;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		check_linear(o, s, names[i], patches, worst);
	check_linear(o, s, "visual.merger.mlp.0", patches / 4, worst);
	check_linear(o, s, "visual.merger.mlp.2", patches / 4, worst);
}

static void test_gradients(void **state)
{
	struct open_model o;
	struct sample s;
	double worst = 0;
	(void)state;
	open_random_model(&o, grouped_shape(), ALL);
	random_sample(&s, &o.config, 5, 6, 10, 9, 3); /* 3 x 5 cells: windows cut off */
	check_vision_linears(&o, &s, &worst);
	check_text_linears(&o, &s, &worst);
	sample_free(&s);
	random_sample(&s, &o.config, 14, 0, 0, 0, 4);
	check_text_linears(&o, &s, &worst);
	sample_free(&s);
	close_random_model(&o);
	print_message("largest relative error of a slope %.1e\n", worst);
}

/* The tied head is the embedding; nothing of it is in the gradient of the rest. */
static void test_gradients_tied(void **state)
{
	struct open_model o;
	struct sample s;
	double worst = 0;
	(void)state;
	open_random_model(&o, random_model_tiny(), ALL);
	random_sample(&s, &o.config, 1, 14, 4, 6, 5); /* 7 x 2 cells of windows 4 x 4 */
	check_vision_linears(&o, &s, &worst);
	check_text_linears(&o, &s, &worst);
	sample_free(&s);
	close_random_model(&o);
	print_message("largest relative error of a slope %.1e\n", worst);
}

/* ---- what a tap sees ---- */

enum { MOST_LINEARS = 64 };

struct trace {
	const struct model *model;
	uint64_t inputs[MOST_LINEARS], outputs[MOST_LINEARS], gradients[MOST_LINEARS];
	int forward_calls[MOST_LINEARS], backward_calls[MOST_LINEARS];
	int last_forward, last_backward;
	bool in_order;
	const float *last_x;
	uint64_t last_hash;
	double loss;
	int refuse; /* the call that fails, counted down; negative: none */
};

static bool trace_forward(void *self, int linear, bool same_input, const float *x,
                          float *y, int rows, error *err)
{
	struct trace *t = self;
	const struct linear *l = &t->model->linears[linear];
	uint64_t hash = hash_floats(x, (size_t)rows * (size_t)l->in);
	if (t->refuse-- == 0)
		return fail_memory(err, "a test", 1);
	assert_int_equal(same_input, strstr(l->name, ".k_proj") || strstr(l->name, ".v_proj") ||
	                             strstr(l->name, ".up_proj"));
	if (same_input)
		assert_true(x == t->last_x && hash == t->last_hash);
	t->last_x = x;
	t->last_hash = hash;
	t->inputs[linear] = hash;
	t->outputs[linear] = hash_floats(y, (size_t)rows * (size_t)l->out);
	t->forward_calls[linear]++;
	t->in_order = t->in_order && linear > t->last_forward;
	t->last_forward = linear;
	return true;
}

static bool trace_backward(void *self, int linear, const float *gradient, int rows,
                           error *err)
{
	struct trace *t = self;
	const struct linear *l = &t->model->linears[linear];
	if (t->refuse-- == 0)
		return fail_memory(err, "a test", 1);
	t->gradients[linear] = hash_floats(gradient, (size_t)rows * (size_t)l->out);
	t->backward_calls[linear]++;
	t->in_order = t->in_order && linear < t->last_backward;
	t->last_backward = linear;
	return true;
}

static bool trace_gradient(struct open_model *o, const struct sample *s, struct trace *t,
                           int refuse, error *err)
{
	struct tap tap = { .self = t, .forward = trace_forward, .backward = trace_backward };
	struct outcome out;
	*t = (struct trace){ .model = &o->model, .last_forward = -1,
		.last_backward = o->model.linear_count, .in_order = true, .refuse = refuse };
	assert_true(o->model.linear_count <= MOST_LINEARS);
	if (!model_gradient(&o->model, o->space, s, &tap, &out, err))
		return false;
	t->loss = out.loss;
	return true;
}

static void gradient_ok(struct open_model *o, const struct sample *s, struct trace *t)
{
	error err;
	if (!trace_gradient(o, s, t, -1, &err))
		fail_msg("%s", err.text);
}

static void assert_same(const struct trace *a, const struct trace *b)
{
	assert_true(a->loss == b->loss);
	for (int i = 0; i < a->model->linear_count; i++)
		if (a->inputs[i] != b->inputs[i] || a->outputs[i] != b->outputs[i] ||
		    a->gradients[i] != b->gradients[i])
			fail_msg("%s differs", a->model->linears[i].name);
}

static void assert_once_each(const struct trace *t, int first)
{
	for (int i = 0; i < t->model->linear_count; i++) {
		assert_int_equal(t->forward_calls[i], i >= first);
		assert_int_equal(t->backward_calls[i], i >= first);
	}
}

/* Activations kept, or blocks run again: each linear is shown once, and every bit
 * is the same. */
static void test_recomputing(void **state)
{
	struct open_model o;
	struct sample s;
	struct trace kept, again;
	(void)state;
	open_random_model(&o, grouped_shape(), ALL);
	random_sample(&s, &o.config, 3, 6, 10, 8, 6);
	gradient_ok(&o, &s, &kept);
	assert_once_each(&kept, 0);
	assert_true(kept.in_order);
	workspace_set_tape(o.space, 0);
	gradient_ok(&o, &s, &again);
	assert_once_each(&again, 0);
	assert_same(&kept, &again);
	sample_free(&s);
	random_sample(&s, &o.config, 20, 0, 0, 0, 7);
	gradient_ok(&o, &s, &again);
	workspace_set_tape(o.space, TAPE_BYTES);
	gradient_ok(&o, &s, &kept);
	assert_once_each(&kept, model_find_linear(&o.model,
	                                          "language_model.layers.0.self_attn.q_proj"));
	assert_same(&kept, &again);
	sample_free(&s);
	close_random_model(&o);
}

/* A tap's error ends the run and is the run's error, wherever it strikes. */
static void test_tap_errors(void **state)
{
	struct open_model o;
	struct sample s;
	struct trace t;
	(void)state;
	open_random_model(&o, grouped_shape(), ALL);
	random_sample(&s, &o.config, 3, 4, 4, 5, 8);
	for (int recompute = 0; recompute < 2; recompute++) {
		workspace_set_tape(o.space, recompute ? 0 : TAPE_BYTES);
		for (int call = 0; call < 2 * o.model.linear_count; call++) {
			error err = { 0 };
			assert_false(trace_gradient(&o, &s, &t, call, &err));
			assert_string_equal(err.text, "out of memory: 1 bytes for a test");
		}
	}
	sample_free(&s);
	close_random_model(&o);
}

/* ---- weights that do not stay in float32 ---- */

static void check_expanding(struct random_model shape)
{
	struct open_model resident, expanding;
	struct sample s;
	struct trace a, b;
	open_random_model(&resident, shape, ALL);
	open_random_model(&expanding, shape, 1000);
	assert_non_null(resident.model.linears[0].weight);
	for (int i = 0; i < expanding.model.linear_count; i++)
		assert_null(expanding.model.linears[i].weight);
	random_sample(&s, &resident.config, 3, 6, 10, 8, 9);
	gradient_ok(&resident, &s, &a);
	gradient_ok(&expanding, &s, &b);
	assert_same(&a, &b);
	sample_free(&s);
	close_random_model(&resident);
	close_random_model(&expanding);
}

static void test_expanding(void **state)
{
	(void)state;
	check_expanding(grouped_shape());
	check_expanding(random_model_tiny());
}

/* A head of more than one stretch (linear.c), both ways. */
static void test_large_linear(void **state)
{
	struct open_model o;
	struct sample s;
	double worst = 0;
	(void)state;
	struct random_model m = random_model_tiny();
	m.config.text.layers = 2;
	m.config.text.hidden = 1024;
	m.config.text.heads = 8;
	m.config.text.intermediate = 16;
	m.config.vision.intermediate = 16;
	check_expanding(m);
	open_random_model(&o, m, ALL);
	random_sample(&s, &o.config, 9, 0, 0, 0, 10);
	check_linear(&o, &s, "lm_head", count_graded(&s), &worst);
	check_linear(&o, &s, "language_model.layers.1.mlp.down_proj", s.tokens, &worst);
	sample_free(&s);
	close_random_model(&o);
}

/* ---- generation ---- */

static int32_t next_by_forward(struct open_model *o, const struct sample *s)
{
	struct outcome out;
	error err;
	int vocab = o->config.text.vocab;
	if (!model_forward(&o->model, o->space, s, WANT_LOGITS, NULL, &out, &err))
		fail_msg("%s", err.text);
	const float *last = out.logits + (size_t)(s->tokens - 1) * (size_t)vocab;
	int32_t best = 0;
	for (int32_t i = 1; i < vocab; i++)
		if (last[i] > last[best])
			best = i;
	return best;
}

static void append_token(struct sample *s, int32_t id)
{
	s->ids = realloc(s->ids, (size_t)(s->tokens + 1) * sizeof *s->ids);
	s->graded = realloc(s->graded, (size_t)(s->tokens + 1));
	assert_true(s->ids && s->graded);
	s->graded[s->tokens] = 0;
	s->ids[s->tokens++] = id;
}

static void check_generation(struct open_model *o, struct sample *s)
{
	enum { NEW = 12 };
	struct generation how = { .max_new = NEW, .repetition_penalty = 1 };
	struct token_list out = { 0 };
	error err;
	if (!model_generate(&o->model, o->space, s, &how, NULL, &out, &err))
		fail_msg("%s", err.text);
	assert_int_equal(out.count, NEW);
	for (int i = 0; i < NEW; i++) {
		/* The image token would need an image of its own. */
		assert_true(out.ids[i] != o->config.image_token);
		assert_int_equal(next_by_forward(o, s), out.ids[i]);
		append_token(s, out.ids[i]);
	}
	int32_t stop = out.ids[5];
	s->tokens -= NEW;
	how.stop = &stop;
	how.stop_count = 1;
	size_t before = out.count, first = 0;
	while (out.ids[first] != stop)
		first++;
	if (!model_generate(&o->model, o->space, s, &how, NULL, &out, &err))
		fail_msg("%s", err.text);
	assert_int_equal(out.count, before + first + 1);
	assert_memory_equal(out.ids + before, out.ids, (first + 1) * sizeof *out.ids);
	token_list_free(&out);
}

static void test_generation(void **state)
{
	struct open_model o;
	struct sample s;
	(void)state;
	for (int expanding = 0; expanding < 2; expanding++) {
		open_random_model(&o, grouped_shape(), expanding ? 0 : ALL);
		random_sample(&s, &o.config, 3, 6, 10, 4, 11);
		check_generation(&o, &s);
		sample_free(&s);
		random_sample(&s, &o.config, 1, 0, 0, 0, 12);
		check_generation(&o, &s);
		sample_free(&s);
		close_random_model(&o);
	}
}

/* A penalty this large makes every id come once. */
static void test_repetition_penalty(void **state)
{
	enum { NEW = 40 };
	struct open_model o;
	struct sample s;
	struct token_list out = { 0 };
	struct generation how = { .max_new = NEW, .repetition_penalty = 1e6f };
	error err = { 0 };
	(void)state;
	open_random_model(&o, random_model_tiny(), ALL);
	random_sample(&s, &o.config, 4, 0, 0, 0, 13);
	assert_true(model_generate(&o.model, o.space, &s, &how, NULL, &out, &err));
	assert_int_equal(out.count, NEW);
	for (size_t i = 0; i < NEW; i++) {
		for (size_t j = 0; j < i; j++)
			assert_true(out.ids[i] != out.ids[j]);
		for (int j = 0; j < s.tokens; j++)
			assert_true(out.ids[i] != s.ids[j]);
	}
	how.repetition_penalty = 0;
	assert_false(model_generate(&o.model, o.space, &s, &how, NULL, &out, &err));
	assert_int_equal(err.code, EXIT_BAD_INPUT);
	how = (struct generation){ .max_new = 0, .repetition_penalty = 1 };
	assert_true(model_generate(&o.model, o.space, &s, &how, NULL, &out, &err));
	assert_int_equal(out.count, NEW);
	token_list_free(&out);
	sample_free(&s);
	close_random_model(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gradients),
		cmocka_unit_test(test_gradients_tied),
		cmocka_unit_test(test_recomputing),
		cmocka_unit_test(test_tap_errors),
		cmocka_unit_test(test_expanding),
		cmocka_unit_test(test_large_linear),
		cmocka_unit_test(test_generation),
		cmocka_unit_test(test_repetition_penalty),
	};
	return cmocka_run_group_tests_name("lib/model/traits", tests, start, NULL);
}
