/* The whole model against what transformers computes in float32: loss, log
 * probabilities, every block's output, the last logits, greedy generation. The
 * demo's numbers are in the repository; those of COCO are used where present. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/matmul.h"
#include "lib/model/qwen.h"
#include "tests/support/golden.h"
#include "tests/support/shared_data.h"

#include <cmocka.h>

struct fixture {
	struct model_config config;
	struct checkpoint ckpt;
	struct model model;
	struct workspace *space;
};

static int start(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	error err;
	matmul_threads(1);
	if (f && model_config_load(&f->config, DEMO_MODEL, &err) &&
	    checkpoint_open(&f->ckpt, DEMO_MODEL, &err) &&
	    model_open(&f->model, &f->ckpt, &f->config, (size_t)1 << 30, &err) &&
	    (f->space = workspace_new(&err))) {
		*state = f;
		return 0;
	}
	print_error("%s\n", err.text);
	return -1;
}

static int stop(void **state)
{
	struct fixture *f = *state;
	workspace_free(f->space);
	model_close(&f->model);
	checkpoint_close(&f->ckpt);
	free(f);
	return 0;
}

/* ---- what the reference says ---- */

static const cJSON *field(const cJSON *item, const char *name)
{
	const cJSON *found = cJSON_GetObjectItemCaseSensitive(item, name);
	if (!found)
		fail_msg("the golden file lacks %s", name);
	return found;
}

static double number(const cJSON *list, int i)
{
	return cJSON_GetArrayItem(list, i)->valuedouble;
}

/* Largest differences seen, for the report at the end of a test. */
struct differences {
	double loss, logprob, norm, value, logit;
};

static void widen(double *largest, double difference)
{
	if (!(difference <= *largest))
		*largest = difference;
}

/* Compares block outputs as they come. */
struct watch {
	const cJSON *hidden; /* of the golden sample */
	struct differences *d;
	int seen;
};

/* The golden has the first eight values of the first and of the last row. */
static void compare_ends(struct watch *w, const cJSON *list, const float *x, double typical)
{
	int i = 0;
	const cJSON *item;
	cJSON_ArrayForEach(item, list) {
		double scale = fabs(item->valuedouble) + typical;
		widen(&w->d->value, fabs((double)x[i++] - item->valuedouble) / scale);
	}
}

static void compare_block(void *self, const char *module, const float *x, int rows, int width)
{
	struct watch *w = self;
	const cJSON *block;
	size_t count = (size_t)rows * (size_t)width;
	double squares = 0;
	for (size_t i = 0; i < count; i++)
		squares += (double)x[i] * x[i];
	cJSON_ArrayForEach(block, w->hidden) {
		char name[NAME_BYTES];
		name_from_any(block->string, name);
		if (strcmp(name, module) != 0)
			continue;
		const cJSON *shape = field(block, "shape");
		int rank = cJSON_GetArraySize(shape);
		double norm = field(block, "norm")->valuedouble;
		double typical = norm / sqrt((double)count);
		assert_int_equal(number(shape, rank - 2), rows);
		assert_int_equal(number(shape, rank - 1), width);
		widen(&w->d->norm, fabs(sqrt(squares) - norm) / norm);
		compare_ends(w, field(block, "first"), x, typical);
		compare_ends(w, field(block, "last"), x + count - width, typical);
		w->seen++;
	}
}

/* ---- one sample ---- */

/* The loss of the two "answer" samples counts what follows the last opening of a
 * turn ("<|im_start|>assistant\n", three tokens); elsewhere every token but the
 * first counts that is no image placeholder. */
static void grade(struct sample *s, const struct model_config *c, bool answer)
{
	int from = 1;
	for (int i = 0; answer && i < s->tokens; i++)
		if (s->ids[i] == s->ids[0])
			from = i + 3;
	for (int i = from; i < s->tokens; i++)
		s->graded[i] = s->ids[i] != c->image_token;
}

static double log_sum_exp(const float *x, int n)
{
	double largest = x[0], sum = 0;
	for (int i = 1; i < n; i++)
		largest = x[i] > largest ? (double)x[i] : largest;
	for (int i = 0; i < n; i++)
		sum += exp((double)x[i] - largest);
	return largest + log(sum);
}

static int largest_of(const float *x, int n)
{
	int best = 0;
	for (int i = 1; i < n; i++)
		if (x[i] > x[best])
			best = i;
	return best;
}

static void compare_logits(const struct sample *s, const cJSON *item, const float *logits,
                           int vocab, struct differences *d)
{
	const cJSON *logprob = field(item, "target_logprob");
	const cJSON *last = field(item, "last_logits");
	for (int i = 0; i < s->tokens; i++) {
		const float *row = logits + (size_t)i * (size_t)vocab;
		double total = log_sum_exp(row, vocab);
		widen(&d->logprob, fabs(total - number(field(item, "logsumexp"), i)));
		assert_int_equal(largest_of(row, vocab), number(field(item, "argmax"), i));
		if (i + 1 < s->tokens)
			widen(&d->logprob, fabs((double)row[s->ids[i + 1]] - total -
			                        number(logprob, i)));
	}
	const float *row = logits + (size_t)(s->tokens - 1) * (size_t)vocab;
	const cJSON *value = last->child;
	for (int i = 0; i < vocab; i++, value = value->next)
		widen(&d->logit, fabs((double)row[i] - value->valuedouble));
}

static void compare_positions(const struct fixture *f, const struct sample *s,
                              const cJSON *item)
{
	const cJSON *rows = cJSON_GetObjectItem(item, "position_ids");
	int32_t *found = calloc(6 * (size_t)s->tokens, sizeof *found);
	int32_t *expected = found + 3 * s->tokens;
	assert_non_null(found);
	mrope_positions(&f->config, s, found);
	for (int axis = 0; axis < 3; axis++)
		for (int i = 0; i < s->tokens; i++)
			expected[axis * s->tokens + i] = i; /* text: the golden has none */
	for (int axis = 0; rows && axis < 3; axis++)
		golden_integers(cJSON_GetArrayItem(rows, axis), expected + axis * s->tokens,
		                s->tokens);
	assert_memory_equal(found, expected, 3 * (size_t)s->tokens * sizeof *found);
	free(found);
}

static void run_forward(struct fixture *f, const struct sample *s, int want,
                        const struct tap *tap, struct outcome *out)
{
	error err;
	if (!model_forward(&f->model, f->space, s, want, tap, out, &err))
		fail_msg("%s", err.text);
}

static void check_sample(struct fixture *f, const struct sample *s, const cJSON *item,
                         struct differences *d)
{
	struct watch watch = { field(item, "hidden"), d, 0 };
	struct tap tap = { .self = &watch, .block = compare_block };
	struct outcome out;
	error err;
	double loss = field(item, "loss")->valuedouble;
	compare_positions(f, s, item);
	run_forward(f, s, WANT_LOSS | WANT_LOGITS, &tap, &out);
	assert_int_equal(watch.seen, cJSON_GetArraySize(watch.hidden));
	widen(&d->loss, fabs(out.loss - loss));
	compare_logits(s, item, out.logits, f->config.text.vocab, d);
	run_forward(f, s, WANT_LOSS, NULL, &out);
	assert_null(out.logits);
	widen(&d->loss, fabs(out.loss - loss));
	double of_forward = out.loss;
	if (!model_gradient(&f->model, f->space, s, NULL, &out, &err))
		fail_msg("%s", err.text);
	assert_true(out.loss == of_forward);
	run_forward(f, s, 0, NULL, &out);
	assert_true(!out.logits && out.graded == 0);
}

static void check_folder(struct fixture *f, const char *folder)
{
	struct differences d = { 0 };
	json_doc doc;
	const cJSON *item;
	int index = 0;
	golden_load(&doc, folder, "forward.float32.cpu.json");
	assert_int_equal(cJSON_GetArraySize(doc.root), 10);
	cJSON_ArrayForEach(item, doc.root) {
		struct sample s;
		golden_sample(&s, folder, item, "input_ids", &f->config);
		grade(&s, &f->config, index == 4 || index == 5);
		check_sample(f, &s, item, &d);
		sample_free(&s);
		index++;
	}
	json_free(&doc);
	print_message("largest differences: loss %.1e, log probability %.1e, block norm "
	              "%.1e, block value %.1e, last logits %.1e\n",
	              d.loss, d.logprob, d.norm, d.value, d.logit);
	assert_true(d.loss <= 2e-4);
	assert_true(d.logprob <= 2e-4);
	assert_true(d.norm <= 1e-4);
	assert_true(d.value <= 1e-3);
	assert_true(d.logit <= 2e-4);
}

static void test_demo(void **state)
{
	check_folder(*state, DEMO_GOLDEN);
}

static void test_coco(void **state)
{
	char path[PATH_BYTES];
	if (!find_shared(path, "golden/coco", "test_coco"))
		skip();
	check_folder(*state, path);
}

/* ---- generation ---- */

static void check_generation(struct fixture *f, const char *folder)
{
	json_doc doc;
	const cJSON *item;
	/* As the model's generation_config.json says. */
	const int32_t stop[] = { 4098, 4096 };
	golden_load(&doc, folder, "generate.float32.cpu.json");
	cJSON_ArrayForEach(item, doc.root) {
		struct sample s;
		struct token_list out = { 0 };
		error err;
		const cJSON *ids = field(item, "new_ids");
		int count = cJSON_GetArraySize(ids);
		int32_t *expected = calloc((size_t)count, sizeof *expected);
		assert_non_null(expected);
		golden_integers(ids, expected, count);
		golden_sample(&s, folder, item, "prompt_ids", &f->config);
		struct generation how = { .max_new = 4 * count, .stop = stop, .stop_count = 2,
			.repetition_penalty = 1.05f };
		if (!model_generate(&f->model, f->space, &s, &how, NULL, &out, &err))
			fail_msg("%s", err.text);
		assert_int_equal(out.count, count);
		assert_memory_equal(out.ids, expected, (size_t)count * sizeof *expected);
		token_list_free(&out);
		sample_free(&s);
		free(expected);
	}
	json_free(&doc);
}

static void test_demo_generation(void **state)
{
	check_generation(*state, DEMO_GOLDEN);
}

static void test_coco_generation(void **state)
{
	char path[PATH_BYTES];
	if (!find_shared(path, "golden/coco", "test_coco_generation"))
		skip();
	check_generation(*state, path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_demo),
		cmocka_unit_test(test_coco),
		cmocka_unit_test(test_demo_generation),
		cmocka_unit_test(test_coco_generation),
	};
	return cmocka_run_group_tests_name("lib/model/forward", tests, start, stop);
}
