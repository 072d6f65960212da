/* What the ranking is for: on the demo, the more groups a slice has in FP8 the farther
 * its answers are from the unquantised model's, and the half that the ranking calls
 * least sensitive does less than half the damage of the other half.
 *
 * Damage is KL(p || q) in nats, p the unquantised model's distribution of the next token
 * and q that of the model as served, averaged over the tokens of the answers to the
 * demo's evaluation images, which took no part in calibration or scoring. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/matmul.h"
#include "lib/data/samples.h"
#include "lib/quant/baseline.h"
#include "lib/quant/formats/known.h"
#include "lib/quant/quantised.h"
#include "lib/quant/taps.h"
#include "tests/support/golden.h"

#include <cmocka.h>

enum { MEASURED = 16, EVALUATED = 16, MAX_GROUPS = 64 };

static const size_t RESIDENT = (size_t)1 << 30;

/* Log probabilities of the graded tokens' predictions, [rows][vocab]. */
struct answer {
	float *log_p;
	int rows;
};

struct fixture {
	struct model_config config;
	struct image_processor processor;
	struct tokenizer *tokenizer;
	struct checkpoint ckpt;
	struct model model;
	struct workspace *space;
	struct linear_shape *linears;
	struct group_list groups; /* all but the head */
	struct baseline ranked;   /* the same, ranked */
	float *amax;              /* [linear] */
	struct sample samples[EVALUATED];
	struct answer answers[EVALUATED];
	arena memory;
};

/* Fails the test unless ok. */
static void demand(bool ok, const error *err)
{
	if (!ok)
		fail_msg("%s", err->text);
}

static void *take(struct fixture *f, size_t count, size_t size)
{
	error err;
	void *memory = arena_alloc(&f->memory, count, size, &err);
	demand(memory != NULL, &err);
	return memory;
}

/* ---- the ranking, from the first rows of the calibration DB ---- */

static void make_sample(const struct fixture *f, const struct sample_row *row,
                        struct sample *out)
{
	char path[PATH_BYTES];
	struct patches patches;
	error err;
	demand(join_path(path, sizeof path, "demo", row->image, &err) &&
	       load_patches(path, &f->processor, &f->config.vision, 0, &patches, &err) &&
	       sample_build(out, f->tokenizer, &f->config, PROMPT_ANSWER, row->caption,
	                    &patches, 0, &err), &err);
}

static void calibrate(struct fixture *f, const struct sample *samples)
{
	double *seen = take(f, (size_t)f->model.linear_count, sizeof *seen);
	struct amax_watch watch = { .model = &f->model, .amax = seen };
	struct tap tap = amax_tap(&watch);
	struct outcome outcome;
	error err;
	for (int i = 0; i < MEASURED; i++)
		demand(model_forward(&f->model, f->space, &samples[i], 0, &tap, &outcome, &err),
		       &err);
	f->amax = take(f, (size_t)f->model.linear_count, sizeof *f->amax);
	for (int i = 0; i < f->model.linear_count; i++)
		f->amax[i] = (float)seen[i];
}

static void score(struct fixture *f, const struct sample *samples, double *scores)
{
	struct quantised_model q;
	struct outcome outcome;
	error err;
	demand(quantise_model(&q, &f->model, &f->groups, NULL, &FORMAT_FP8_TENSOR,
	                      NUMERICS_QUERN, true, f->amax, NULL, RESIDENT, &err), &err);
	struct perturbation *p = perturbation_new(&q, &err);
	demand(p != NULL, &err);
	struct tap tap = perturbation_tap(p, scores);
	for (int i = 0; i < MEASURED; i++)
		demand(model_gradient(&f->model, f->space, &samples[i], &tap, &outcome, &err),
		       &err);
	perturbation_free(p);
	quantised_free(&q);
}

static void rank(struct fixture *f)
{
	struct sample samples[MEASURED];
	struct sample_list rows;
	error err;
	double *scores = take(f, (size_t)f->model.linear_count, sizeof *scores);
	demand(calib_db_load(&rows, "demo/demo_vlm_calib.db", 0, MEASURED, &err), &err);
	assert_int_equal(rows.count, MEASURED);
	for (int i = 0; i < MEASURED; i++)
		make_sample(f, &rows.rows[i], &samples[i]);
	calibrate(f, samples);
	score(f, samples, scores);
	for (int i = 0; i < MEASURED; i++)
		sample_free(&samples[i]);
	sample_list_free(&rows);
	f->ranked = (struct baseline){ .count = f->groups.count };
	f->ranked.groups = take(f, (size_t)f->groups.count, sizeof *f->ranked.groups);
	for (int g = 0; g < f->groups.count; g++) {
		f->ranked.groups[g].name = f->groups.groups[g].name;
		for (int m = 0; m < f->groups.groups[g].member_count; m++)
			f->ranked.groups[g].importance += scores[f->groups.groups[g].members[m]];
	}
	demand(rank_groups(&f->ranked, &err), &err);
}

/* ---- answers ---- */

static void log_softmax(const float *logits, int count, float *out)
{
	double largest = logits[0], sum = 0;
	for (int i = 1; i < count; i++)
		largest = logits[i] > largest ? logits[i] : largest;
	for (int i = 0; i < count; i++)
		sum += exp(logits[i] - largest);
	for (int i = 0; i < count; i++)
		out[i] = (float)(logits[i] - largest - log(sum));
}

/* The predictions of the answer's tokens, unquantised. */
static void remember_answer(struct fixture *f, int index)
{
	const struct sample *s = &f->samples[index];
	struct answer *a = &f->answers[index];
	int vocab = f->config.text.vocab;
	struct outcome outcome;
	error err;
	demand(model_forward(&f->model, f->space, s, WANT_LOGITS, NULL, &outcome, &err), &err);
	a->log_p = take(f, (size_t)s->tokens * (size_t)vocab, sizeof *a->log_p);
	for (int t = 1; t < s->tokens; t++)
		if (s->graded[t])
			log_softmax(outcome.logits + (size_t)(t - 1) * (size_t)vocab, vocab,
			            a->log_p + (size_t)a->rows++ * (size_t)vocab);
	assert_true(a->rows > 5);
}

/* Sum over the answer's tokens of KL(p || q). */
static double answer_damage(struct fixture *f, int index, const struct tap *tap,
                            float *log_q)
{
	const struct sample *s = &f->samples[index];
	const float *log_p = f->answers[index].log_p;
	int vocab = f->config.text.vocab;
	struct outcome outcome;
	double sum = 0;
	error err;
	demand(model_forward(&f->model, f->space, s, WANT_LOGITS, tap, &outcome, &err), &err);
	for (int t = 1; t < s->tokens; t++) {
		if (!s->graded[t])
			continue;
		log_softmax(outcome.logits + (size_t)(t - 1) * (size_t)vocab, vocab, log_q);
		for (int i = 0; i < vocab; i++)
			sum += exp(log_p[i]) * ((double)log_p[i] - log_q[i]);
		log_p += vocab;
	}
	return sum;
}

/* Mean KL of an answer token with these groups in FP8, run as served. */
static double damage(struct fixture *f, const bool *keeps)
{
	struct quantised_model q;
	double sum = 0;
	int rows = 0;
	error err;
	float *log_q = malloc((size_t)f->config.text.vocab * sizeof *log_q);
	assert_non_null(log_q);
	demand(quantise_model(&q, &f->model, &f->groups, keeps, &FORMAT_FP8_TENSOR,
	                      NUMERICS_QUERN, true, f->amax, NULL, RESIDENT, &err), &err);
	struct served *served = served_new(&q, &err);
	demand(served != NULL, &err);
	struct tap tap = served_tap(served);
	for (int i = 0; i < EVALUATED; i++) {
		sum += answer_damage(f, i, &tap, log_q);
		rows += f->answers[i].rows;
	}
	served_free(served);
	quantised_free(&q);
	free(log_q);
	return sum / rows;
}

/* Ranks [first, end) in FP8, least sensitive first; the patch convolution never. */
static double damage_of_ranks(struct fixture *f, int first, int end)
{
	bool keeps[MAX_GROUPS] = { false };
	for (int r = first; r < end; r++)
		keeps[f->ranked.ranking[r]] = f->groups.groups[f->ranked.ranking[r]].exportable;
	return damage(f, keeps);
}

/* ---- the fixture ---- */

static int open_fixture(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	static const char *const exclude[] = { "lm_head" };
	struct sample_list rows;
	int count;
	error err;
	*state = f;
	assert_non_null(f);
	matmul_threads(1);
	demand(model_config_load(&f->config, DEMO_MODEL, &err) &&
	       image_processor_load(&f->processor, DEMO_MODEL, &err) &&
	       checkpoint_open(&f->ckpt, DEMO_MODEL, &err) &&
	       model_open(&f->model, &f->ckpt, &f->config, RESIDENT, &err) &&
	       list_linears(&f->config, &f->memory, &f->linears, &count, &err) &&
	       make_groups(f->linears, count, exclude, 1, &f->memory, &f->groups, &err), &err);
	assert_in_range(f->groups.count, 40, MAX_GROUPS);
	demand((f->tokenizer = tokenizer_load(DEMO_MODEL, &err)) != NULL, &err);
	demand((f->space = workspace_new(&err)) != NULL, &err);
	rank(f);
	demand(eval_list_load(&rows, "demo/demo_vlm_eval.jsonl", 0, EVALUATED, &err), &err);
	assert_int_equal(rows.count, EVALUATED);
	for (int i = 0; i < EVALUATED; i++) {
		make_sample(f, &rows.rows[i], &f->samples[i]);
		remember_answer(f, i);
	}
	sample_list_free(&rows);
	return 0;
}

static int close_fixture(void **state)
{
	struct fixture *f = *state;
	for (int i = 0; i < EVALUATED; i++)
		sample_free(&f->samples[i]);
	baseline_free(&f->ranked);
	workspace_free(f->space);
	tokenizer_free(f->tokenizer);
	model_close(&f->model);
	checkpoint_close(&f->ckpt);
	arena_free(&f->memory);
	free(f);
	return 0;
}

/* ---- tests ---- */

static void nothing_in_fp8_does_nothing(void **state)
{
	assert_true(damage_of_ranks(*state, 0, 0) == 0);
}

static void damage_grows_with_coverage(void **state)
{
	struct fixture *f = *state;
	double before = 0;
	for (int percent = 10; percent <= 100; percent += 10) {
		int count = (percent * f->groups.count + 99) / 100;
		double kl = damage_of_ranks(f, 0, count);
		print_message("top%d: %d groups, KL %.3e nats a token\n", percent, count, kl);
		if (!(kl > before))
			fail_msg("top%d: KL %g, no more than %g before", percent, kl, before);
		before = kl;
	}
}

static void the_least_sensitive_half_does_less_than_half(void **state)
{
	struct fixture *f = *state;
	int half = (f->groups.count + 1) / 2;
	double least = damage_of_ranks(f, 0, half);
	double most = damage_of_ranks(f, f->groups.count - half, f->groups.count);
	print_message("least sensitive half %.3e, most sensitive half %.3e: %.2f of it\n",
	              least, most, least / most);
	assert_true(least < most / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_in_fp8_does_nothing),
		cmocka_unit_test(damage_grows_with_coverage),
		cmocka_unit_test(the_least_sensitive_half_does_less_than_half),
	};
	return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
