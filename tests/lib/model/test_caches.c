/* The names of the key/value cache's parts, there and back, and what a run shows of
 * them: against keys and values computed here from the linears' outputs. */
#include "lib/model/caches.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/matmul.h"
#include "tests/support/open_model.h"

#include <cmocka.h>

enum { MOST_LAYERS = 4, NEW_TOKENS = 3 };

static void names_go_there_and_back(void **state)
{
	(void)state;
	static const char *const strangers[] = { "", "lm_head",
		"language_model.layers.3.self_attn.k_proj",
		"language_model.layers.3.self_attn.q_cache",
		"language_model.layers.3.self_attn.k_cache.x",
		"language_model.layers..self_attn.k_cache",
		"language_model.layers.03.self_attn.k_cache",
		"language_model.layers.99999999999.self_attn.k_cache",
		"visual.blocks.3.attn.k_cache", NULL };
	char name[NAME_BYTES];
	name_cache(7, name);
	assert_string_equal(name, "language_model.layers.3.self_attn.v_cache");
	for (int part = 0; part < 300; part++) {
		name_cache(part, name);
		assert_int_equal(find_cache(name), part);
	}
	for (int i = 0; strangers[i]; i++)
		assert_int_equal(find_cache(strangers[i]), -1);
}

/* ---- what a run shows ---- */

/* One run: outputs of k_proj and v_proj, and what was shown of the cache. */
struct seen {
	struct open_model open;
	float *projected[2 * MOST_LAYERS]; /* [rows][width] */
	float *cached[2 * MOST_LAYERS];
	int rows, calls;
	bool silence; /* overwrite the values with zeros */
	float attended; /* largest |input| of any o_proj */
};

static size_t width_of(const struct seen *s)
{
	return (size_t)s->open.config.text.kv_heads * (size_t)s->open.config.text.head_dim;
}

static void keep(float **to, const float *x, size_t count)
{
	free(*to);
	*to = malloc(count * sizeof **to);
	assert_non_null(*to);
	memcpy(*to, x, count * sizeof **to);
}

static bool keep_linear(void *self, int linear, bool same_input, const float *x, float *y,
                        int rows, error *err)
{
	struct seen *s = self;
	const struct linear *l = &s->open.model.linears[linear];
	const char *leaf = strrchr(l->name, '.');
	int layer;
	(void)same_input, (void)err;
	if (sscanf(l->name, "language_model.layers.%d.self_attn", &layer) != 1 || !leaf)
		return true;
	bool keys = strcmp(leaf, ".k_proj") == 0;
	if (keys || strcmp(leaf, ".v_proj") == 0)
		keep(&s->projected[2 * layer + !keys], y, (size_t)rows * width_of(s));
	for (int i = 0; strcmp(leaf, ".o_proj") == 0 && i < rows * l->in; i++)
		s->attended = fmaxf(s->attended, fabsf(x[i]));
	return true;
}

static bool keep_cache(void *self, int layer, float *keys, float *values, int rows,
                       error *err)
{
	struct seen *s = self;
	size_t count = (size_t)rows * width_of(s);
	(void)err;
	s->rows = rows;
	s->calls++;
	keep(&s->cached[2 * layer], keys, count);
	keep(&s->cached[2 * layer + 1], values, count);
	if (s->silence)
		memset(values, 0, count * sizeof *values);
	return true;
}

static void begin(struct seen *s, struct sample *sample)
{
	struct random_model shape = random_model_tiny();
	shape.config.text.heads = 4; /* 2 of them to a key/value head */
	shape.config.text.kv_heads = 2;
	*s = (struct seen){ .rows = 0 };
	matmul_threads(1);
	open_random_model(&s->open, shape, (size_t)1 << 28);
	assert_true(s->open.config.text.layers <= MOST_LAYERS);
	random_sample(sample, &s->open.config, 3, 8, 6, 9, 7);
}

static void end(struct seen *s, struct sample *sample)
{
	for (int i = 0; i < 2 * MOST_LAYERS; i++) {
		free(s->projected[i]);
		free(s->cached[i]);
	}
	sample_free(sample);
	close_random_model(&s->open);
}

/* Element `column` of row `row` of x after the rotary embedding, in float64. */
static double turned(const struct text_config *t, const float *x, const int32_t *positions,
                     int rows, int row, int column)
{
	int half = t->head_dim / 2, place = column % t->head_dim;
	int turn = place % half, axis = 0, end = t->mrope_section[0];
	while (turn >= end)
		end += t->mrope_section[++axis];
	double angle = positions[axis * rows + row] *
	               pow(t->rope_theta, -2.0 * turn / t->head_dim);
	const float *head = x + (size_t)row * (size_t)(t->kv_heads * t->head_dim) + column - place;
	return place < half ? head[turn] * cos(angle) - head[turn + half] * sin(angle)
	                    : head[turn + half] * cos(angle) + head[turn] * sin(angle);
}

static void a_run_shows_turned_keys_and_plain_values(void **state)
{
	(void)state;
	struct seen s;
	struct sample sample;
	struct outcome outcome;
	error err;
	begin(&s, &sample);
	const struct text_config *t = &s.open.config.text;
	int columns = (int)width_of(&s);
	struct tap tap = { .self = &s, .forward = keep_linear, .cache = keep_cache };
	int32_t *positions = malloc(3 * (size_t)sample.tokens * sizeof *positions);
	assert_non_null(positions);
	mrope_positions(&s.open.config, &sample, positions);
	assert_true(model_forward(&s.open.model, s.open.space, &sample, 0, &tap, &outcome,
	                          &err));
	assert_int_equal(s.calls, t->layers); /* and none of the vision tower */
	assert_int_equal(s.rows, sample.tokens);
	double worst = 0, moved = 0;
	for (int layer = 0; layer < t->layers; layer++) {
		assert_memory_equal(s.cached[2 * layer + 1], s.projected[2 * layer + 1],
		                    (size_t)(s.rows * columns) * sizeof(float));
		for (int i = 0; i < s.rows * columns; i++) {
			double expected = turned(t, s.projected[2 * layer], positions, s.rows,
			                         i / columns, i % columns);
			worst = fmax(worst, fabs(s.cached[2 * layer][i] - expected));
			moved = fmax(moved, fabs((double)s.projected[2 * layer][i] - expected));
		}
	}
	print_message("keys within %.1e of float64; the embedding moves them by %.2g\n", worst,
	              moved);
	assert_true(worst < 1e-5 && moved > 0.01);
	free(positions);
	end(&s, &sample);
}

static void what_is_put_there_is_attended_to(void **state)
{
	(void)state;
	struct seen s;
	struct sample sample;
	struct outcome outcome;
	error err;
	begin(&s, &sample);
	struct tap tap = { .self = &s, .forward = keep_linear, .cache = keep_cache };
	assert_true(model_forward(&s.open.model, s.open.space, &sample, 0, &tap, &outcome,
	                          &err));
	assert_true(s.attended > 0);
	s.silence = true;
	s.attended = 0;
	assert_true(model_forward(&s.open.model, s.open.space, &sample, 0, &tap, &outcome,
	                          &err));
	assert_true(s.attended == 0);
	end(&s, &sample);
}

/* The prompt's rows at once, then one row a step; what a step reads of earlier rows is
 * what was put there. */
static void generation_shows_every_row_once(void **state)
{
	(void)state;
	struct seen s;
	struct sample sample;
	struct token_list ids = { 0 };
	error err;
	begin(&s, &sample);
	s.silence = true;
	const struct generation how = { .max_new = NEW_TOKENS, .repetition_penalty = 1 };
	struct tap tap = { .self = &s, .forward = keep_linear, .cache = keep_cache };
	assert_true(model_generate(&s.open.model, s.open.space, &sample, &how, &tap, &ids,
	                           &err));
	/* The last token is not run. */
	assert_int_equal(s.calls, s.open.config.text.layers * NEW_TOKENS);
	assert_int_equal(s.rows, 1);
	assert_true(s.attended == 0);
	token_list_free(&ids);
	end(&s, &sample);
}

/* A sample too long to keep its activations runs its blocks twice, and is shown once. */
static void a_gradient_shows_them_once(void **state)
{
	(void)state;
	struct seen s;
	struct sample sample;
	struct outcome outcome;
	error err;
	begin(&s, &sample);
	struct tap tap = { .self = &s, .forward = keep_linear, .cache = keep_cache };
	assert_true(model_gradient(&s.open.model, s.open.space, &sample, &tap, &outcome, &err));
	assert_int_equal(s.calls, s.open.config.text.layers);
	end(&s, &sample);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_go_there_and_back),
		cmocka_unit_test(a_run_shows_turned_keys_and_plain_values),
		cmocka_unit_test(what_is_put_there_is_attended_to),
		cmocka_unit_test(generation_shows_every_row_once),
		cmocka_unit_test(a_gradient_shows_them_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
