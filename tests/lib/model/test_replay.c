/* A replay gives the bits of a whole run with the same disturbance, whichever linear
 * is disturbed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/matmul.h"
#include "lib/model/replay.h"
#include "tests/support/open_model.h"

#include <cmocka.h>

/* Changes an output of one linear, of the last row. */
struct disturbance {
	const struct model *model;
	int linear;
	int seen;
};

static bool disturb(void *self, int linear, bool same_input, const float *x, float *y,
                    int rows, error *err)
{
	struct disturbance *d = self;
	(void)same_input, (void)x, (void)err;
	if (linear == d->linear) {
		y[(size_t)(rows - 1) * (size_t)d->model->linears[linear].out] += 0.25f;
		d->seen++;
	}
	return true;
}

static float *copy_logits(const float *logits, size_t count)
{
	float *copy = malloc(count * sizeof *copy);
	assert_non_null(copy);
	memcpy(copy, logits, count * sizeof *copy);
	return copy;
}

static void compare(struct open_model *o, const struct sample *s)
{
	struct disturbance d = { &o->model, -1, 0 };
	const struct tap tap = { .self = &d, .forward = disturb };
	struct workspace *second;
	struct outcome out;
	error err;
	size_t count = (size_t)s->tokens * (size_t)o->config.text.vocab;
	assert_true(model_forward(&o->model, o->space, s, WANT_LOGITS, &tap, &out, &err));
	float *plain = copy_logits(out.logits, count);
	assert_non_null(second = workspace_new(&err));
	struct replay *r = replay_new(&o->model, second, s, &tap, &err);
	assert_non_null(r);
	assert_memory_equal(replay_plain_logits(r), plain, count * sizeof *plain);
	/* Backwards, so that a late one cannot live on what an early one left behind. */
	for (int i = o->model.linear_count - 1; i >= 0; i--) {
		d = (struct disturbance){ &o->model, i, 0 };
		assert_true(model_forward(&o->model, o->space, s, WANT_LOGITS, &tap, &out, &err));
		int runs = d.seen;
		const float *again = replay_from(r, i, &err);
		assert_non_null(again);
		assert_int_equal(d.seen, 2 * runs);
		if (memcmp(again, out.logits, count * sizeof *again) != 0)
			fail_msg("%s: a replay differs from a whole run", o->model.linears[i].name);
		if (runs && memcmp(again, plain, count * sizeof *again) == 0)
			fail_msg("%s: disturbing it changed nothing", o->model.linears[i].name);
	}
	assert_memory_equal(replay_plain_logits(r), plain, count * sizeof *plain);
	replay_free(r);
	workspace_free(second);
	free(plain);
}

static void test_sample(int grid)
{
	struct open_model o;
	struct sample s;
	matmul_threads(1);
	open_random_model(&o, random_model_tiny(), (size_t)1 << 30);
	random_sample(&s, &o.config, 3, grid, grid, 5, 9);
	compare(&o, &s);
	sample_free(&s);
	close_random_model(&o);
}

static void test_image(void **state)
{
	(void)state;
	test_sample(8);
}

static void test_text(void **state)
{
	(void)state;
	test_sample(0);
}

static void test_bad_sample(void **state)
{
	struct open_model o;
	struct sample s;
	error err;
	(void)state;
	open_random_model(&o, random_model_tiny(), (size_t)1 << 30);
	random_sample(&s, &o.config, 3, 0, 0, 5, 9);
	s.ids[1] = o.config.text.vocab;
	assert_null(replay_new(&o.model, o.space, &s, NULL, &err));
	assert_int_equal(err.code, EXIT_BAD_INPUT);
	sample_free(&s);
	close_random_model(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_image),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_bad_sample),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
