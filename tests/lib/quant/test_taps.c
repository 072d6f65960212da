/* The taps against the same computation written out: what calibration sees, what a
 * perturbed linear does to the loss, what a served model computes. */
#include "lib/quant/taps.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/amax.h"
#include "kernels/matmul.h"
#include "lib/data/prompt.h"
#include "lib/model/caches.h"
#include "tests/support/e4m3.h"
#include "tests/support/expect_error.h"
#include "tests/support/open_model.h"

#include <cmocka.h>

enum { MOST_LINEARS = 64 };

/* A model with a sample, and what a plain run of it shows of every linear. */
struct fixture {
	struct open_model open;
	struct linear_shape *linears;
	struct group_list groups;
	struct sample sample;
	float *x[MOST_LINEARS], *y[MOST_LINEARS], *gradient[MOST_LINEARS];
	int rows[MOST_LINEARS];
	arena memory;
};

static float *copy(struct fixture *f, const float *values, size_t count)
{
	error err;
	float *kept = arena_alloc(&f->memory, count, sizeof *kept, &err);
	assert_non_null(kept);
	memcpy(kept, values, count * sizeof *kept);
	return kept;
}

static bool keep_forward(void *self, int linear, bool same_input, const float *x, float *y,
                         int rows, error *err)
{
	struct fixture *f = self;
	const struct linear *l = &f->open.model.linears[linear];
	(void)same_input, (void)err;
	f->rows[linear] = rows;
	f->x[linear] = copy(f, x, (size_t)rows * (size_t)l->in);
	f->y[linear] = copy(f, y, (size_t)rows * (size_t)l->out);
	return true;
}

static bool keep_backward(void *self, int linear, const float *gradient, int rows,
                          error *err)
{
	struct fixture *f = self;
	(void)err;
	assert_int_equal(rows, f->rows[linear]);
	f->gradient[linear] = copy(f, gradient,
	                           (size_t)rows * (size_t)f->open.model.linears[linear].out);
	return true;
}

static int start(void **state)
{
	static const char *const head[] = { "lm_head" };
	static struct fixture f;
	struct random_model shape = random_model_tiny();
	struct outcome outcome;
	error err;
	int count;
	shape.config.text.heads = 4; /* 2 of them to a key/value head */
	shape.config.text.kv_heads = 2;
	matmul_threads(1);
	open_random_model(&f.open, shape, (size_t)1 << 28);
	random_sample(&f.sample, &f.open.config, 3, 8, 6, 9, 7);
	struct tap tap = { .self = &f, .forward = keep_forward, .backward = keep_backward };
	if (f.open.model.linear_count > MOST_LINEARS ||
	    !list_linears(&f.open.config, &f.memory, &f.linears, &count, &err) ||
	    !make_groups(f.linears, count, head, 1, &f.memory, &f.groups, &err) ||
	    !model_gradient(&f.open.model, f.open.space, &f.sample, &tap, &outcome, &err))
		return -1;
	*state = &f;
	return 0;
}

static int stop(void **state)
{
	struct fixture *f = *state;
	sample_free(&f->sample);
	arena_free(&f->memory);
	close_random_model(&f->open);
	return 0;
}

static size_t inputs_of(const struct fixture *f, int linear)
{
	return (size_t)f->rows[linear] * (size_t)f->open.model.linears[linear].in;
}

/* ---- calibration ---- */

static void watches_the_largest_input(void **state)
{
	struct fixture *f = *state;
	const struct model *model = &f->open.model;
	double seen[MOST_LINEARS] = { 0 }, cache[MOST_LINEARS] = { 0 };
	struct amax_watch watch = { .model = model, .amax = seen, .cache = cache };
	struct tap tap = amax_tap(&watch);
	struct outcome outcome;
	struct sample other;
	error err;
	assert_true(model_forward(model, f->open.space, &f->sample, 0, &tap, &outcome, &err));
	for (int i = 0; i < model->linear_count - 1; i++) /* the head is not run */
		assert_true(seen[i] == (double)amax(f->x[i], inputs_of(f, i)));
	assert_true(seen[model->linear_count - 1] == 0);
	/* A second sample can only raise them, and its own are seen. */
	double before[MOST_LINEARS], alone[MOST_LINEARS] = { 0 };
	double cached_before[MOST_LINEARS], cached_alone[MOST_LINEARS] = { 0 };
	memcpy(before, seen, sizeof seen);
	memcpy(cached_before, cache, sizeof cache);
	random_sample(&other, &f->open.config, 5, 0, 0, 20, 8);
	assert_true(model_forward(model, f->open.space, &other, 0, &tap, &outcome, &err));
	watch.amax = alone;
	watch.cache = cached_alone;
	assert_true(model_forward(model, f->open.space, &other, 0, &tap, &outcome, &err));
	for (int i = 0; i < model->linear_count; i++)
		assert_true(seen[i] == fmax(before[i], alone[i]));
	for (int i = 0; i < count_caches(&model->config); i++)
		assert_true(cache[i] == fmax(cached_before[i], cached_alone[i]));
	sample_free(&other);
}

/* Keys and values as a run shows them. */
struct cache_check {
	const struct model *model;
	double largest[MOST_LINEARS]; /* [part] */
};

static bool find_largest(void *self, int layer, float *keys, float *values, int rows,
                         error *err)
{
	struct cache_check *c = self;
	const struct text_config *t = &c->model->config.text;
	const float *parts[] = { keys, values };
	(void)err;
	for (int p = 0; p < 2; p++)
		for (int i = 0; i < rows * t->kv_heads * t->head_dim; i++)
			c->largest[2 * layer + p] = fmax(c->largest[2 * layer + p],
			                                 fabs((double)parts[p][i]));
	return true;
}

static void watches_the_largest_key_and_value(void **state)
{
	struct fixture *f = *state;
	const struct model *model = &f->open.model;
	double seen[MOST_LINEARS] = { 0 }, cache[MOST_LINEARS] = { 0 };
	struct cache_check check = { .model = model };
	struct amax_watch watch = { .model = model, .amax = seen, .cache = cache };
	struct tap look = { .self = &check, .cache = find_largest }, tap = amax_tap(&watch);
	struct outcome outcome;
	error err;
	assert_true(model_forward(model, f->open.space, &f->sample, 0, &look, &outcome, &err));
	assert_true(model_forward(model, f->open.space, &f->sample, 0, &tap, &outcome, &err));
	for (int i = 0; i < count_caches(&model->config); i++) {
		char linear[NAME_BYTES];
		int layer = i / 2;
		assert_true(cache[i] > 0 && cache[i] == check.largest[i]);
		if (i % 2 == 0)
			continue;
		/* Values are the linear's own output; keys were turned. */
		snprintf(linear, sizeof linear, "language_model.layers.%d.self_attn.v_proj", layer);
		int v = model_find_linear(model, linear);
		assert_true(cache[i] == (double)amax(f->y[v], (size_t)f->rows[v] *
		                                     (size_t)model->linears[v].out));
	}
}

static void refuses_keys_that_are_no_numbers(void **state)
{
	struct fixture *f = *state;
	double seen[MOST_LINEARS] = { 0 }, cache[MOST_LINEARS] = { 0 };
	struct amax_watch watch = { .model = &f->open.model, .amax = seen, .cache = cache };
	struct tap tap = amax_tap(&watch);
	float keys[256] = { 0 }, values[256] = { 0 };
	error err;
	keys[5] = NAN;
	assert_false(tap.cache(&watch, 1, keys, values, 1, &err));
	expect_error(&err, EXIT_BAD_INPUT, "layers.1.self_attn.k_cache", "amax", NULL);
	keys[5] = 0;
	values[7] = -INFINITY;
	assert_false(tap.cache(&watch, 0, keys, values, 1, &err));
	expect_error(&err, EXIT_BAD_INPUT, "layers.0.self_attn.v_cache", "inf", NULL);
}

static void refuses_inputs_that_are_no_numbers(void **state)
{
	struct fixture *f = *state;
	struct sample bad;
	double seen[MOST_LINEARS] = { 0 }, cache[MOST_LINEARS] = { 0 };
	struct amax_watch watch = { .model = &f->open.model, .amax = seen, .cache = cache };
	struct tap tap = amax_tap(&watch);
	struct outcome outcome;
	error err;
	random_sample(&bad, &f->open.config, 3, 4, 4, 5, 9);
	bad.patches.values[17] = NAN;
	assert_false(model_forward(&f->open.model, f->open.space, &bad, 0, &tap, &outcome,
	                           &err));
	expect_error(&err, EXIT_BAD_INPUT, "visual.patch_embed.proj", "amax", NULL);
	sample_free(&bad);
}

/* ---- the quantised product ---- */

/* How a case quantises. */
struct way {
	enum numerics numerics;
	bool shared;
	size_t resident_bytes;
};

static const struct way WAYS[] = {
	{ NUMERICS_QUERN, true, (size_t)1 << 28 },   { NUMERICS_QUERN, true, 0 },
	{ NUMERICS_QUERN, false, 0 },                { NUMERICS_MODELOPT, false, 0 },
	{ NUMERICS_MODELOPT, true, (size_t)1 << 28 },
};

enum { WAY_COUNT = 5 };

static const struct format *fp8(void)
{
	return format_find("fp8_e4m3", "tensor");
}

static void quantise(struct fixture *f, const struct way *way, const bool *keeps,
                     struct quantised_model *q)
{
	float input_amax[MOST_LINEARS];
	error err;
	for (int i = 0; i < f->open.model.linear_count; i++)
		input_amax[i] = amax(f->x[i], inputs_of(f, i)) * 0.8f; /* some inputs saturate */
	if (!quantise_model(q, &f->open.model, &f->groups, keeps, fp8(), way->numerics,
	                    way->shared, input_amax, NULL, way->resident_bytes, &err))
		fail_msg("%s", err.text);
}

/* A number as it comes back, with float32 between the steps. */
static double back(enum numerics n, float x, struct fp8_step step)
{
	float scaled = n == NUMERICS_MODELOPT ? x * step.encode : x / step.decode;
	return (double)((float)e4m3_value(e4m3_nearest((double)scaled, 1)) * step.decode);
}

static double input_back(float x, struct fp8_step step)
{
	return (double)((float)e4m3_value(e4m3_nearest((double)(x * step.encode), 1)) *
	                step.decode);
}

/* The group of a linear and the amax that its weight is quantised with. */
static float weight_amax(const struct fixture *f, int linear, bool shared)
{
	for (int g = 0; g < f->groups.count; g++) {
		const struct group *group = &f->groups.groups[g];
		float largest = 0, own = -1;
		for (int m = 0; m < group->member_count; m++) {
			const struct linear *l = &f->open.model.linears[group->members[m]];
			float seen = amax(l->weight, (size_t)l->out * (size_t)l->in);
			largest = fmaxf(largest, seen);
			if (group->members[m] == linear)
				own = seen;
		}
		if (own >= 0)
			return shared ? largest : own;
	}
	return -1;
}

/* Q(x) Q(W)^T + bias [rows][out] in float64; the caller frees it. */
static double *reference_product(const struct fixture *f, const struct way *way, int linear,
                                 struct fp8_step weight, struct fp8_step input)
{
	const struct linear *l = &f->open.model.linears[linear];
	size_t rows = (size_t)f->rows[linear], in = (size_t)l->in, outs = (size_t)l->out;
	double *x = malloc(rows * in * sizeof *x), *w = malloc(outs * in * sizeof *w);
	double *y = malloc(rows * outs * sizeof *y);
	assert_true(x && w && y);
	for (size_t i = 0; i < rows * in; i++)
		x[i] = input_back(f->x[linear][i], input);
	for (size_t i = 0; i < outs * in; i++)
		w[i] = back(way->numerics, l->weight[i], weight);
	for (size_t row = 0; row < rows; row++) {
		for (size_t out = 0; out < outs; out++) {
			double sum = l->bias ? (double)l->bias[out] : 0;
			for (size_t i = 0; i < in; i++)
				sum += x[row * in + i] * w[out * in + i];
			y[row * outs + out] = sum;
		}
	}
	free(x);
	free(w);
	return y;
}

/* score = sum((g * d)^2), d = the quantised product minus what the run computed. */
static double naive_score(const struct fixture *f, const struct way *way, int linear,
                          float input_amax)
{
	const struct linear *l = &f->open.model.linears[linear];
	struct fp8_step weight = fp8_step_for(way->numerics,
	                                      weight_amax(f, linear, way->shared));
	struct fp8_step input = fp8_step_for(way->numerics, input_amax);
	double *y = reference_product(f, way, linear, weight, input), score = 0;
	for (size_t i = 0; i < (size_t)f->rows[linear] * (size_t)l->out; i++) {
		double d = y[i] - (double)f->y[linear][i];
		double term = (double)f->gradient[linear][i] * d;
		score += term * term;
	}
	free(y);
	return score;
}

static void scores_are_the_sum_written_out(void **state)
{
	struct fixture *f = *state;
	const struct model *model = &f->open.model;
	for (int w = 0; w < WAY_COUNT; w++) {
		struct quantised_model q;
		double score[MOST_LINEARS] = { 0 }, worst = 0;
		struct outcome outcome;
		error err;
		quantise(f, &WAYS[w], NULL, &q);
		struct perturbation *p = perturbation_new(&q, &err);
		assert_non_null(p);
		struct tap tap = perturbation_tap(p, score);
		assert_true(model_gradient(model, f->open.space, &f->sample, &tap, &outcome, &err));
		for (int i = 0; i < model->linear_count - 1; i++) {
			float input_amax = amax(f->x[i], inputs_of(f, i)) * 0.8f;
			double expected = naive_score(f, &WAYS[w], i, input_amax);
			assert_true(expected > 0);
			worst = fmax(worst, fabs(score[i] - expected) / expected);
		}
		assert_true(score[model->linear_count - 1] == 0);
		/* Another sample adds to what is there. */
		double twice[MOST_LINEARS];
		memcpy(twice, score, sizeof score);
		tap = perturbation_tap(p, twice);
		assert_true(model_gradient(model, f->open.space, &f->sample, &tap, &outcome, &err));
		for (int i = 0; i < model->linear_count; i++)
			assert_true(twice[i] == 2 * score[i]);
		print_message("%s, %s scales: scores within %.1e of float64\n",
		              numerics_name(WAYS[w].numerics), WAYS[w].shared ? "shared" : "own",
		              worst);
		assert_true(worst < 2e-5);
		perturbation_free(p);
		quantised_free(&q);
	}
}

/* ---- serving ---- */

/* Only one group is quantised, so that its input is the plain run's. */
struct served_check {
	const struct fixture *f;
	const struct way *way;
	const struct quantised_model *q;
	struct tap served;
	int checked;
	double worst;
};

static bool check_served(void *self, int linear, bool same_input, const float *x, float *y,
                         int rows, error *err)
{
	struct served_check *c = self;
	const struct linear *l = &c->f->open.model.linears[linear];
	const struct quantised_linear *ql = &c->q->linears[linear];
	size_t count = (size_t)rows * (size_t)l->out;
	float *before = malloc(count * sizeof *before);
	assert_non_null(before);
	memcpy(before, y, count * sizeof *before);
	if (!c->served.forward(c->served.self, linear, same_input, x, y, rows, err))
		return false;
	if (!ql->format) {
		assert_memory_equal(before, y, count * sizeof *before);
	} else {
		assert_memory_equal(x, c->f->x[linear], inputs_of(c->f, linear) * sizeof *x);
		double *expected = reference_product(
			c->f, c->way, linear, fp8_step_for(c->way->numerics, ql->weight_amax),
			(struct fp8_step){ ql->input.encode, ql->input.decode });
		for (size_t i = 0; i < count; i++)
			c->worst = fmax(c->worst, fabs((double)y[i] - expected[i]) /
			                          (1 + fabs(expected[i])));
		free(expected);
		c->checked++;
	}
	free(before);
	return true;
}

static void a_served_linear_is_the_product_written_out(void **state)
{
	struct fixture *f = *state;
	double worst = 0;
	for (int w = 0; w < WAY_COUNT; w++) {
		for (int g = 0; g < f->groups.count; g++) {
			bool keeps[MOST_LINEARS] = { false };
			struct quantised_model q;
			struct outcome outcome;
			error err;
			keeps[g] = true;
			quantise(f, &WAYS[w], keeps, &q);
			struct served *s = served_new(&q, &err);
			assert_non_null(s);
			struct served_check check = { .f = f, .way = &WAYS[w], .q = &q,
				.served = served_tap(s) };
			struct tap tap = { .self = &check, .forward = check_served };
			assert_true(model_forward(&f->open.model, f->open.space, &f->sample, WANT_LOSS,
			                          &tap, &outcome, &err));
			assert_int_equal(check.checked, f->groups.groups[g].member_count);
			worst = fmax(worst, check.worst);
			served_free(s);
			quantised_free(&q);
		}
	}
	print_message("served outputs within %.1e of float64\n", worst);
	assert_true(worst < 1e-5);
}

/* Scales of a cache, different for every part, and what was seen of it. */
struct cache_run {
	const struct fixture *f;
	struct tap served;
	const float *scales;
	int checked;
};

/* Everything comes back as the nearest number that the scale allows, saturating. */
static bool check_cache(void *self, int layer, float *keys, float *values, int rows,
                        error *err)
{
	struct cache_run *c = self;
	const struct text_config *t = &c->f->open.config.text;
	int count = rows * t->kv_heads * t->head_dim;
	float *parts[] = { keys, values };
	float *before[] = { malloc((size_t)count * sizeof(float)),
		malloc((size_t)count * sizeof(float)) };
	for (int p = 0; p < 2; p++) {
		assert_non_null(before[p]);
		memcpy(before[p], parts[p], (size_t)count * sizeof(float));
	}
	if (!c->served.cache(c->served.self, layer, keys, values, rows, err))
		return false;
	for (int p = 0; p < 2; p++) {
		float scale = c->scales[2 * layer + p];
		for (int i = 0; i < count; i++)
			assert_true(parts[p][i] ==
			            (float)e4m3_value(e4m3_nearest((double)before[p][i],
			                                           (double)scale)) * scale);
		free(before[p]);
	}
	c->checked++;
	return true;
}

static void a_served_cache_is_rounded(void **state)
{
	struct fixture *f = *state;
	float scales[MOST_LINEARS];
	struct quantised_model q;
	struct outcome plain, rounded;
	error err;
	bool nothing[MOST_LINEARS] = { false };
	for (int i = 0; i < MOST_LINEARS; i++)
		scales[i] = ldexpf(1 + (float)(i % 5) / 8, -9 + i % 3); /* one saturates */
	quantise(f, &WAYS[0], nothing, &q);
	struct served *s = served_new(&q, &err);
	assert_non_null(s);
	assert_null(served_tap(s).cache); /* no scales, no rounding */
	q.cache_scales = scales;
	struct cache_run run = { .f = f, .served = served_tap(s), .scales = scales };
	struct tap tap = { .self = &run, .cache = check_cache };
	assert_true(model_forward(&f->open.model, f->open.space, &f->sample, WANT_LOSS, NULL,
	                          &plain, &err));
	assert_true(model_forward(&f->open.model, f->open.space, &f->sample, WANT_LOSS, &tap,
	                          &rounded, &err));
	assert_int_equal(run.checked, f->open.config.text.layers);
	assert_true(plain.loss != rounded.loss && fabs(plain.loss - rounded.loss) < 0.1);
	served_free(s);
	quantised_free(&q);
}

static void shared_scales_are_shared(void **state)
{
	struct fixture *f = *state;
	for (int w = 0; w < WAY_COUNT; w++) {
		struct quantised_model q;
		int different = 0;
		quantise(f, &WAYS[w], NULL, &q);
		for (int g = 0; g < f->groups.count; g++) {
			const struct group *group = &f->groups.groups[g];
			const struct quantised_linear *first = &q.linears[group->members[0]];
			for (int m = 1; m < group->member_count; m++) {
				const struct quantised_linear *other = &q.linears[group->members[m]];
				different += other->weight_amax != first->weight_amax;
				assert_true(other->input.decode == first->input.decode);
			}
		}
		assert_true(WAYS[w].shared ? different == 0 : different > 0);
		quantised_free(&q);
	}
}

static void refuses_a_linear_without_calibration(void **state)
{
	struct fixture *f = *state;
	float input_amax[MOST_LINEARS];
	struct quantised_model q;
	error err;
	for (int i = 0; i < f->open.model.linear_count; i++)
		input_amax[i] = 1;
	input_amax[f->groups.groups[3].members[0]] = -1; /* was not measured */
	assert_false(quantise_model(&q, &f->open.model, &f->groups, NULL, fp8(),
	                            NUMERICS_QUERN, true, input_amax, NULL, 0, &err));
	expect_error(&err, EXIT_BAD_INPUT, "visual.blocks.0.mlp.gate_proj", "amax", NULL);
	input_amax[f->groups.groups[3].members[0]] = INFINITY;
	assert_false(quantise_model(&q, &f->open.model, &f->groups, NULL, fp8(),
	                            NUMERICS_QUERN, true, input_amax, NULL, 0, &err));
	expect_error(&err, EXIT_BAD_INPUT, "visual.blocks.0.mlp.gate_proj", "inf", NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(watches_the_largest_input),
		cmocka_unit_test(watches_the_largest_key_and_value),
		cmocka_unit_test(refuses_inputs_that_are_no_numbers),
		cmocka_unit_test(refuses_keys_that_are_no_numbers),
		cmocka_unit_test(scores_are_the_sum_written_out),
		cmocka_unit_test(a_served_linear_is_the_product_written_out),
		cmocka_unit_test(a_served_cache_is_rounded),
		cmocka_unit_test(shared_scales_are_shared),
		cmocka_unit_test(refuses_a_linear_without_calibration),
	};
	return cmocka_run_group_tests(tests, start, stop);
}
