/* Runs as such: samples that no model can run, what is wanted of a run, the same
 * bits whatever ran before or beside, memory that is reused. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/matmul.h"
#include "lib/model/workspace.h"
#include "tests/support/expect_error.h"
#include "tests/support/numeric.h"
#include "tests/support/open_model.h"

#include <cmocka.h>

static int start(void **state)
{
	struct open_model *o = calloc(1, sizeof *o);
	matmul_threads(1);
	*state = o;
	if (!o)
		return -1;
	open_random_model(o, random_model_tiny(), (size_t)1 << 30);
	return 0;
}

static int stop(void **state)
{
	close_random_model(*state);
	free(*state);
	return 0;
}

static void run(struct open_model *o, struct workspace *w, const struct sample *s, int want,
                struct outcome *out)
{
	error err;
	if (!model_forward(&o->model, w, s, want, NULL, out, &err))
		fail_msg("%s", err.text);
}

static uint64_t run_hash(struct open_model *o, struct workspace *w, const struct sample *s)
{
	struct outcome out;
	run(o, w, s, WANT_LOGITS, &out);
	return hash_floats(out.logits, (size_t)s->tokens * (size_t)o->config.text.vocab);
}

/* ---- samples that cannot be run ---- */

static void refuse(struct open_model *o, const struct sample *s, const char *piece)
{
	struct outcome out;
	struct token_list ids = { 0 };
	struct generation how = { .max_new = 1, .repetition_penalty = 1 };
	error err = { 0 };
	assert_false(model_forward(&o->model, o->space, s, WANT_LOSS, NULL, &out, &err));
	expect_error(&err, EXIT_BAD_INPUT, "sample", piece, NULL);
	err = (error){ 0 };
	assert_false(model_gradient(&o->model, o->space, s, NULL, &out, &err));
	expect_error(&err, EXIT_BAD_INPUT, "sample", piece, NULL);
	assert_false(model_generate(&o->model, o->space, s, &how, NULL, &ids, &err));
	assert_int_equal(ids.count, 0);
}

static void test_bad_ids(void **state)
{
	struct open_model *o = *state;
	struct sample s;
	random_sample(&s, &o->config, 5, 0, 0, 0, 1);
	s.ids[3] = o->config.text.vocab;
	refuse(o, &s, "token 3");
	s.ids[3] = -1;
	refuse(o, &s, "found -1");
	s.ids[3] = (int32_t)o->config.image_token; /* without an image */
	refuse(o, &s, "expected 0 consecutive image tokens, found 1");
	s.tokens = 0;
	refuse(o, &s, "at least one token");
	s.tokens = 5;
	sample_free(&s);
}

static void test_bad_image(void **state)
{
	struct open_model *o = *state;
	struct sample s;
	random_sample(&s, &o->config, 2, 4, 6, 3, 1);
	s.patches.grid_h = 3;
	refuse(o, &s, "found 3 x 6");
	s.patches.grid_h = 0;
	refuse(o, &s, "found 0 x 6");
	s.patches.grid_h = 2;
	refuse(o, &s, "expected 3 consecutive image tokens, found 6 in 1 places");
	s.patches.grid_h = 4;
	s.ids[1] = s.ids[2];
	s.ids[5] = 0;
	refuse(o, &s, "found 6 in 2 places");
	sample_free(&s);
}

/* ---- what is wanted ---- */

static void test_wants(void **state)
{
	struct open_model *o = *state;
	struct sample s;
	struct outcome loss_only, both, neither;
	random_sample(&s, &o->config, 2, 4, 4, 6, 2);
	run(o, o->space, &s, WANT_LOSS, &loss_only);
	assert_null(loss_only.logits);
	assert_int_equal(loss_only.graded, 7); /* one of the two before, six after */
	run(o, o->space, &s, WANT_LOSS | WANT_LOGITS, &both);
	assert_non_null(both.logits);
	assert_int_equal(both.graded, 7);
	assert_true(both.loss - loss_only.loss < 1e-5 && loss_only.loss - both.loss < 1e-5);
	run(o, o->space, &s, 0, &neither);
	assert_true(!neither.logits && neither.graded == 0 && neither.loss == 0);
	sample_free(&s);
}

struct zeros {
	const struct model *model;
	int shown, nonzero;
};

static bool count_nonzero(void *self, int linear, const float *gradient, int rows, error *err)
{
	struct zeros *z = self;
	size_t count = (size_t)rows * (size_t)z->model->linears[linear].out;
	(void)err;
	z->shown++;
	for (size_t i = 0; i < count; i++)
		z->nonzero += gradient[i] != 0;
	return true;
}

/* The first token cannot be predicted, so grading it grades nothing. */
static void test_nothing_graded(void **state)
{
	struct open_model *o = *state;
	struct sample s;
	struct outcome out;
	struct zeros zeros = { .model = &o->model };
	struct tap tap = { .self = &zeros, .backward = count_nonzero };
	error err;
	random_sample(&s, &o->config, 2, 4, 4, 6, 2);
	for (int i = 0; i < s.tokens; i++)
		s.graded[i] = i == 0;
	run(o, o->space, &s, WANT_LOSS, &out);
	assert_true(out.graded == 0 && out.loss == 0);
	assert_true(model_gradient(&o->model, o->space, &s, &tap, &out, &err));
	assert_true(out.graded == 0 && out.loss == 0);
	/* The head has no row to show. */
	assert_int_equal(zeros.shown, o->model.linear_count - 1);
	assert_int_equal(zeros.nonzero, 0);
	sample_free(&s);
}

/* ---- the same bits ---- */

static void test_independence(void **state)
{
	struct open_model *o = *state;
	struct sample small, large;
	error err;
	struct workspace *fresh = workspace_new(&err);
	assert_non_null(fresh);
	random_sample(&small, &o->config, 7, 0, 0, 0, 3);
	random_sample(&large, &o->config, 3, 12, 14, 20, 4);
	uint64_t alone = run_hash(o, fresh, &small);
	run_hash(o, fresh, &large);
	assert_true(run_hash(o, fresh, &small) == alone);
	assert_true(run_hash(o, o->space, &small) == alone);
	workspace_free(fresh);
	sample_free(&small);
	sample_free(&large);
}

struct job {
	struct open_model *o;
	const struct sample *samples;
	uint64_t hashes[8];
};

static void *run_all(void *argument)
{
	struct job *job = argument;
	error err;
	struct workspace *w = workspace_new(&err);
	for (int i = 0; w && i < 8; i++)
		job->hashes[i] = run_hash(job->o, w, &job->samples[i]);
	workspace_free(w);
	return NULL;
}

static void test_threads(void **state)
{
	struct open_model *o = *state;
	struct sample samples[8];
	const struct job job = { .o = o, .samples = samples };
	struct job jobs[3] = { job, job, job };
	pthread_t threads[2];
	for (int i = 0; i < 8; i++)
		random_sample(&samples[i], &o->config, 3 + i, 2 + 2 * (i % 3), 4, 9,
		              20u + (uint32_t)i);
	run_all(&jobs[0]);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_all, &jobs[1 + i]), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_memory_equal(jobs[0].hashes, jobs[1].hashes, sizeof jobs[0].hashes);
	assert_memory_equal(jobs[0].hashes, jobs[2].hashes, sizeof jobs[0].hashes);
	for (int i = 0; i < 8; i++)
		sample_free(&samples[i]);
}

/* ---- memory ---- */

static void test_workspace(void **state)
{
	enum { MIB = 1 << 20 };
	error err = { 0 };
	struct workspace *w = workspace_new(&err);
	(void)state;
	assert_non_null(w);
	assert_int_equal(workspace_tape(w), TAPE_BYTES);
	char *pieces[9];
	for (int i = 0; i < 9; i++) {
		pieces[i] = workspace_take(w, MIB / 2 * (size_t)(i + 1), 1);
		assert_true(pieces[i] && (uintptr_t)pieces[i] % 64 == 0);
		memset(pieces[i], i, MIB / 2 * (size_t)(i + 1));
	}
	for (int i = 0; i < 9; i++) /* no piece lies in another */
		for (size_t at = 0; at < MIB / 2 * (size_t)(i + 1); at++)
			assert_true(pieces[i][at] == i);
	workspace_begin(w);
	for (int i = 0; i < 9; i++) /* nothing new is allocated */
		assert_true(workspace_take(w, MIB / 2, (size_t)(i + 1)) == pieces[i]);
	assert_true(workspace_ok(w, &err));
	assert_null(workspace_floats(w, SIZE_MAX / 8, 3));
	assert_null(workspace_take(w, 1, 1)); /* once refused, always, until the next run */
	assert_false(workspace_ok(w, &err));
	assert_int_equal(err.code, EXIT_ENVIRONMENT);
	workspace_begin(w);
	assert_true(workspace_take(w, 1, 1) == pieces[0]);
	assert_true(workspace_ok(w, &err));
	workspace_free(w);
	workspace_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_ids),
		cmocka_unit_test(test_bad_image),
		cmocka_unit_test(test_wants),
		cmocka_unit_test(test_nothing_graded),
		cmocka_unit_test(test_independence),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_workspace),
	};
	return cmocka_run_group_tests_name("lib/model/qwen", tests, start, stop);
}
