/* attention against sums in float64 and their slope: segments, causal order,
 * shared key/value heads, fused and separate layouts, more rows than a tile, and
 * a key/value cache. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/attention.h"
#include "kernels/matmul.h"
#include "tests/support/numeric.h"

struct shape {
	int heads, kv_heads, dim;
	int q_stride, kv_stride;
	const int32_t *starts;
	int segments;
	bool causal;
};

static int start(void **state)
{
	(void)state;
	matmul_threads(1);
	return 0;
}

static float *some_floats(size_t n, uint32_t seed)
{
	float *x = malloc(n * sizeof *x);
	assert_non_null(x);
	if (seed)
		fill_random(x, n, 1, seed);
	return x;
}

/* One query row of one head, in the plainest way. */
static void attend(const struct shape *s, const double *q, const double *k,
                   const double *v, int row, int first, int last, int head, double *out)
{
	int kv_head = head / (s->heads / s->kv_heads);
	double scale = 1 / sqrt(s->dim), weight[400], sum = 0;
	for (int key = first; key < last; key++) {
		double dot = 0;
		for (int i = 0; i < s->dim; i++)
			dot += q[row * s->q_stride + head * s->dim + i] *
			       k[key * s->kv_stride + kv_head * s->dim + i];
		weight[key - first] = exp(dot * scale);
		sum += weight[key - first];
	}
	for (int i = 0; i < s->dim; i++) {
		out[i] = 0;
		for (int key = first; key < last; key++)
			out[i] += weight[key - first] / sum *
			          v[key * s->kv_stride + kv_head * s->dim + i];
	}
}

static void attend_all(const struct shape *s, const double *q, const double *k,
                       const double *v, double *out)
{
	for (int g = 0; g < s->segments; g++)
		for (int row = s->starts[g]; row < s->starts[g + 1]; row++)
			for (int head = 0; head < s->heads; head++) {
				int last = s->causal ? row + 1 : s->starts[g + 1];
				attend(s, q, k, v, row, s->starts[g], last, head,
				       out + (row * s->heads + head) * s->dim);
			}
}

/* Which of q, k, v the gradient check moves. */
struct context {
	const struct shape *shape;
	const double *q, *k, *v;
	const float *dout;
	char moved;
};

static double loss(const void *context, const double *x)
{
	const struct context *c = context;
	int n = c->shape->starts[c->shape->segments] * c->shape->heads * c->shape->dim;
	double *out = malloc((size_t)n * sizeof *out), sum = 0;
	assert_non_null(out);
	attend_all(c->shape, c->moved == 'q' ? x : c->q, c->moved == 'k' ? x : c->k,
	           c->moved == 'v' ? x : c->v, out);
	for (int i = 0; i < n; i++)
		sum += out[i] * c->dout[i];
	free(out);
	return sum;
}

static double *widen(const float *x, size_t n)
{
	double *wide = malloc(n * sizeof *wide);
	assert_non_null(wide);
	for (size_t i = 0; i < n; i++)
		wide[i] = x[i];
	return wide;
}

static int most_rows(const struct shape *s)
{
	int most = 0;
	for (int g = 0; g < s->segments; g++)
		if (s->starts[g + 1] - s->starts[g] > most)
			most = s->starts[g + 1] - s->starts[g];
	return most;
}

static void check(const struct shape *s, bool slopes)
{
	int rows = s->starts[s->segments];
	size_t nq = (size_t)(rows * s->q_stride), nkv = (size_t)(rows * s->kv_stride);
	size_t nout = (size_t)(rows * s->heads * s->dim);
	float *q = some_floats(nq, 1), *k = some_floats(nkv, 2), *v = some_floats(nkv, 3);
	float *dout = some_floats(nout, 4), *out = some_floats(nout, 0);
	float *dq = some_floats(nq, 5), *dk = some_floats(nkv, 6), *dv = some_floats(nkv, 7);
	float *scratch = some_floats(attention_scratch(most_rows(s)), 0);
	double *q64 = widen(q, nq), *k64 = widen(k, nkv), *v64 = widen(v, nkv);
	double *expected = widen(dout, nout);
	float scale = 1.0f / sqrtf((float)s->dim);

	attend_all(s, q64, k64, v64, expected);
	attention_forward(out, scratch, q, s->q_stride, k, v, s->kv_stride, s->starts,
	                  s->segments, 0, s->heads, s->kv_heads, s->dim, scale, s->causal);
	assert_close(out, expected, nout, 2e-6);
	attention_backward(dq, dk, dv, scratch, dout, q, s->q_stride, k, v, s->kv_stride,
	                   s->starts, s->segments, s->heads, s->kv_heads, s->dim, scale,
	                   s->causal);
	struct context c = { s, q64, k64, v64, dout, 'q' };
	if (slopes) {
		assert_gradient(loss, &c, q, dq, nq, 1e-5);
		c.moved = 'k';
		assert_gradient(loss, &c, k, dk, nkv, 1e-5);
		c.moved = 'v';
		assert_gradient(loss, &c, v, dv, nkv, 1e-5);
	}
	free(q), free(k), free(v), free(dout), free(out), free(dq), free(dk), free(dv);
	free(scratch), free(q64), free(k64), free(v64), free(expected);
}

static void test_shapes(void **state)
{
	(void)state;
	check(&(struct shape){ 1, 1, 2, 2, 2, (int32_t[]){ 0, 1 }, 1, true }, true);
	check(&(struct shape){ 2, 1, 6, 12, 6, (int32_t[]){ 0, 9 }, 1, true }, true);
	check(&(struct shape){ 4, 2, 5, 20, 10, (int32_t[]){ 0, 19 }, 1, true }, true);
	check(&(struct shape){ 2, 2, 8, 16, 16, (int32_t[]){ 0, 4, 5, 12 }, 3, false }, true);
}

/* Over several tiles; slopes only of as much as stays quick. */
static void test_tiles(void **state)
{
	(void)state;
	check(&(struct shape){ 2, 1, 16, 32, 16, (int32_t[]){ 0, 300 }, 1, true }, false);
	check(&(struct shape){ 1, 1, 16, 16, 16, (int32_t[]){ 0, 20, 301 }, 2, false }, false);
	check(&(struct shape){ 2, 1, 1, 2, 1, (int32_t[]){ 0, 131 }, 1, true }, true);
	check(&(struct shape){ 1, 1, 1, 1, 1, (int32_t[]){ 0, 133 }, 1, false }, true);
}

/* q, k and v side by side in one row, as a fused linear leaves them: the gradient
 * must fill the same three places and nothing else. */
static void test_fused_layout(void **state)
{
	(void)state;
	enum { ROWS = 10, WIDTH = 6, STRIDE = 3 * WIDTH };
	float fused[ROWS * STRIDE], dfused[ROWS * STRIDE], dout[ROWS * WIDTH];
	float split[3][ROWS * WIDTH], dsplit[3][ROWS * WIDTH];
	float *scratch = some_floats(attention_scratch(ROWS), 0);
	const int32_t starts[] = { 0, 6, ROWS };
	fill_random(fused, ROWS * STRIDE, 1, 1);
	fill_random(dout, ROWS * WIDTH, 1, 2);
	for (int r = 0; r < ROWS; r++)
		for (int part = 0; part < 3; part++)
			memcpy(split[part] + r * WIDTH, fused + r * STRIDE + part * WIDTH,
			       WIDTH * sizeof(float));
	attention_backward(dfused, dfused + WIDTH, dfused + 2 * WIDTH, scratch, dout, fused,
	                   STRIDE, fused + WIDTH, fused + 2 * WIDTH, STRIDE, starts, 2, 2, 2,
	                   3, 0.5f, false);
	attention_backward(dsplit[0], dsplit[1], dsplit[2], scratch, dout, split[0], WIDTH,
	                   split[1], split[2], WIDTH, starts, 2, 2, 2, 3, 0.5f, false);
	for (int r = 0; r < ROWS; r++)
		for (int part = 0; part < 3; part++)
			assert_memory_equal(dsplit[part] + r * WIDTH,
			                    dfused + r * STRIDE + part * WIDTH,
			                    WIDTH * sizeof(float));
	free(scratch);
}

/* Rows given one by one against a cache attend as they do all at once. */
static void test_cache(void **state)
{
	(void)state;
	enum { ROWS = 21, HEADS = 4, KV = 2, DIM = 8 };
	float q[ROWS * HEADS * DIM], k[ROWS * KV * DIM], v[ROWS * KV * DIM];
	float out[ROWS * HEADS * DIM], row_out[HEADS * DIM];
	double expected[HEADS * DIM];
	float *scratch = some_floats(attention_scratch(ROWS), 0);
	fill_random(q, sizeof q / sizeof *q, 1, 1);
	fill_random(k, sizeof k / sizeof *k, 1, 2);
	fill_random(v, sizeof v / sizeof *v, 1, 3);
	attention_forward(out, scratch, q, HEADS * DIM, k, v, KV * DIM,
	                  (int32_t[]){ 0, ROWS }, 1, 0, HEADS, KV, DIM, 0.4f, true);
	for (int r = 0; r < ROWS; r++) {
		attention_forward(row_out, scratch, q + r * HEADS * DIM, HEADS * DIM, k, v,
		                  KV * DIM, (int32_t[]){ 0, 1 }, 1, r, HEADS, KV, DIM, 0.4f,
		                  true);
		for (int i = 0; i < HEADS * DIM; i++)
			expected[i] = out[r * HEADS * DIM + i];
		assert_close(row_out, expected, HEADS * DIM, 1e-6);
	}
	free(scratch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_tiles),
		cmocka_unit_test(test_fused_layout),
		cmocka_unit_test(test_cache),
	};
	return cmocka_run_group_tests_name("kernels/attention", tests, start, NULL);
}
