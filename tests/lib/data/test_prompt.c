/* Prompts against the reference: the ids of its samples, and, since its losses are
 * means over the targets, which tokens are targets. */
#include "lib/data/prompt.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/base/json.h"
#include "tests/support/expect_error.h"

#include <cmocka.h>

static const char demo_folder[] = "demo/tiny-qwen2_5-vl";
static const char golden_folder[] = "tests/golden/demo";

/* What every test needs; the caption's ids are 32 325 464. */
struct fixture {
	struct tokenizer *tokenizer;
	struct model_config config;
};

static const char caption[] = "A big orange";

enum {
	SYSTEM_TOKENS = 14, /* up to and with "<|im_start|>user\n" */
	TURN_TOKENS = 5,    /* "<|im_end|>\n<|im_start|>assistant\n" */
	QUESTION_TOKENS = 4 /* "Describe this image." */
};

static int load_fixture(void **state)
{
	static struct fixture f;
	error err = { .text = "" };
	*state = &f;
	f.tokenizer = tokenizer_load(demo_folder, &err);
	if (f.tokenizer && model_config_load(&f.config, demo_folder, &err))
		return 0;
	fprintf(stderr, "%s\n", err.text);
	return -1;
}

static int free_fixture(void **state)
{
	tokenizer_free(((struct fixture *)*state)->tokenizer);
	return 0;
}

/* Patches of no image in particular: prompts look at the grid alone. */
static struct patches some_patches(int grid_h, int grid_w)
{
	struct patches p = { grid_h, grid_w, calloc(1, sizeof(float)) };
	assert_non_null(p.values);
	return p;
}

/* Builds a sample with an image of grid_h x grid_w patches, or without (0 x 0). */
static bool build(const struct fixture *f, struct sample *s, enum prompt_form form,
                  const char *text, int grid_h, int grid_w, int max_tokens, error *err)
{
	struct patches p = { 0 };
	if (grid_h)
		p = some_patches(grid_h, grid_w);
	bool ok = sample_build(s, f->tokenizer, &f->config, form, text,
	                       grid_h ? &p : NULL, max_tokens, err);
	assert_null(p.values);
	return ok;
}

static int count_graded(const struct sample *s)
{
	int graded = 0;
	for (int i = 0; i < s->tokens; i++)
		graded += s->graded[i];
	return graded;
}

static json_doc load_golden(const char *name)
{
	json_doc doc = { 0 };
	char path[PATH_BYTES];
	error err;
	if (!join_path(path, sizeof path, golden_folder, name, &err) ||
	    !json_load(&doc, path, (size_t)64 << 20, &err))
		fail_msg("%s", err.text);
	return doc;
}

static void assert_ids(const struct sample *s, const cJSON *expected)
{
	assert_int_equal(s->tokens, cJSON_GetArraySize(expected));
	int i = 0;
	for (const cJSON *id = expected->child; id; id = id->next, i++)
		if (s->ids[i] != id->valueint)
			fail_msg("token %d: id %d, expected %d", i, s->ids[i], id->valueint);
}

/* Mean of -log p over the graded tokens; logprob[i] is that of token i + 1. */
static double loss_of(const struct sample *s, const cJSON *logprobs)
{
	double sum = 0;
	int i = 1;
	for (const cJSON *p = logprobs->child; p; p = p->next, i++)
		sum -= s->graded[i] ? p->valuedouble : 0;
	assert_int_equal(i, s->tokens);
	assert_false(s->graded[0]);
	return sum / count_graded(s);
}

static void check_golden_sample(const struct fixture *f, const json_doc *doc,
                                const cJSON *golden, enum prompt_form form)
{
	const cJSON *ids = NULL, *logprobs = NULL;
	const cJSON *grid = cJSON_GetObjectItemCaseSensitive(golden, "grid_thw");
	struct sample s;
	const char *text = NULL;
	double loss = 0;
	error err;
	if (!json_text(doc, golden, "caption", &text, &err) ||
	    !(ids = json_array(doc, golden, "input_ids", &err)) ||
	    !(logprobs = json_array(doc, golden, "target_logprob", &err)) ||
	    !json_number(doc, golden, "loss", 0, 100, &loss, &err) ||
	    !build(f, &s, form, text, grid ? grid->child->next->valueint : 0,
	           grid ? grid->child->next->next->valueint : 0, 0, &err))
		fail_msg("%s", err.text);
	assert_ids(&s, ids);
	assert_false(s.cut);
	double found = loss_of(&s, logprobs);
	if (fabs(found - loss) > 1e-5 * loss)
		fail_msg("\"%s\": loss over the graded tokens is %g, expected %g", text, found,
		         loss);
	sample_free(&s);
}

static void matches_golden_samples(void **state)
{
	static const enum prompt_form forms[] = {
		PROMPT_USER_TURN, PROMPT_USER_TURN, PROMPT_USER_TURN, PROMPT_USER_TURN,
		PROMPT_ANSWER, PROMPT_ANSWER, PROMPT_TEXT, PROMPT_TEXT, PROMPT_TEXT, PROMPT_TEXT
	};
	json_doc doc = load_golden("forward.float32.cpu.json");
	int i = 0;
	for (const cJSON *golden = doc.root->child; golden; golden = golden->next, i++) {
		assert_true(i < 10);
		check_golden_sample(*state, &doc, golden, forms[i]);
	}
	assert_int_equal(i, 10);
	json_free(&doc);
}

static int count_id(const cJSON *ids, int id)
{
	int count = 0;
	for (const cJSON *item = ids->child; item; item = item->next)
		count += item->valueint == id;
	return count;
}

static void matches_golden_questions(void **state)
{
	const struct fixture *f = *state;
	json_doc doc = load_golden("generate.float32.cpu.json");
	int with_image = 0;
	for (const cJSON *golden = doc.root->child; golden; golden = golden->next) {
		struct sample s;
		const char *prompt;
		error err;
		const cJSON *ids = json_array(&doc, golden, "prompt_ids", &err);
		assert_non_null(ids);
		assert_true(json_text(&doc, golden, "prompt", &prompt, &err));
		int placeholders = count_id(ids, (int)f->config.image_token);
		enum prompt_form form = placeholders ? PROMPT_ASK : PROMPT_TEXT;
		if (!build(f, &s, form, prompt, placeholders ? 2 : 0, 2 * placeholders, 0, &err))
			fail_msg("%s", err.text);
		assert_ids(&s, ids);
		if (placeholders)
			assert_int_equal(count_graded(&s), 0);
		with_image += placeholders > 0;
		sample_free(&s);
	}
	assert_int_equal(with_image, 3);
	json_free(&doc);
}

static void names_go_both_ways(void **state)
{
	(void)state;
	static const char *const names[] = { "answer", "user_turn", "text", "ask" };
	static const enum prompt_form forms[] = { PROMPT_ANSWER, PROMPT_USER_TURN,
	                                          PROMPT_TEXT, PROMPT_ASK };
	enum prompt_form form;
	for (int i = 0; i < 4; i++) {
		assert_true(prompt_form_from_name(names[i], &form));
		assert_int_equal(form, forms[i]);
		assert_string_equal(prompt_form_name(form), names[i]);
	}
	assert_false(prompt_form_from_name("Answer", &form));
	assert_false(prompt_form_from_name("", &form));
}

static void without_image_every_form_is_text(void **state)
{
	static const enum prompt_form forms[] = { PROMPT_ANSWER, PROMPT_USER_TURN,
	                                          PROMPT_TEXT };
	for (int i = 0; i < 3; i++) {
		struct sample s;
		error err;
		assert_true(build(*state, &s, forms[i], caption, 0, 0, 0, &err));
		assert_int_equal(s.tokens, 3);
		assert_int_equal(count_graded(&s), 2);
		assert_null(s.patches.values);
		sample_free(&s);
	}
}

static void a_question_needs_no_image(void **state)
{
	const struct fixture *f = *state;
	struct sample s;
	error err;
	assert_true(build(f, &s, PROMPT_ASK, caption, 0, 0, 0, &err));
	assert_int_equal(s.tokens, SYSTEM_TOKENS + 3 + TURN_TOKENS);
	assert_int_equal(s.ids[SYSTEM_TOKENS], 32);
	assert_int_equal(count_graded(&s), 0);
	sample_free(&s);
}

/* 4 x 8 patches are 8 placeholders. */
static void cuts_the_caption_alone(void **state)
{
	const struct fixture *f = *state;
	enum { IMAGE = 8 + 2, AROUND_USER = SYSTEM_TOKENS + IMAGE + TURN_TOKENS,
	       AROUND_ANSWER = AROUND_USER + QUESTION_TOKENS + 1 };
	struct sample s;
	error err;
	for (int caption_tokens = 0; caption_tokens <= 4; caption_tokens++) {
		int kept = caption_tokens < 3 ? caption_tokens : 3;
		assert_true(build(f, &s, PROMPT_USER_TURN, caption, 4, 8,
		                  AROUND_USER + caption_tokens, &err));
		assert_int_equal(s.tokens, AROUND_USER + kept);
		assert_int_equal(s.cut, caption_tokens < 3);
		assert_int_equal(count_graded(&s), s.tokens - 1 - 8);
		assert_int_equal(s.ids[s.tokens - TURN_TOKENS], f->config.end_of_turn_token);
		sample_free(&s);

		assert_true(build(f, &s, PROMPT_ANSWER, caption, 4, 8,
		                  AROUND_ANSWER + caption_tokens, &err));
		assert_int_equal(s.tokens, AROUND_ANSWER + kept);
		assert_int_equal(count_graded(&s), kept + 1);
		assert_int_equal(s.ids[s.tokens - 1], f->config.end_of_turn_token);
		sample_free(&s);
	}
	assert_false(build(f, &s, PROMPT_USER_TURN, caption, 4, 8, AROUND_USER - 1, &err));
	expect_error(&err, EXIT_BAD_INPUT, "at most 28 tokens", "found 29", "8 of them", NULL);
	assert_false(build(f, &s, PROMPT_ANSWER, caption, 4, 8, 1, &err));
	expect_error(&err, EXIT_BAD_INPUT, "at most 1 tokens", NULL);
	assert_null(s.ids);
}

static void cuts_text_down_to_two_tokens(void **state)
{
	struct sample s;
	error err;
	assert_true(build(*state, &s, PROMPT_TEXT, caption, 0, 0, 3, &err));
	assert_false(s.cut);
	sample_free(&s);
	assert_true(build(*state, &s, PROMPT_TEXT, caption, 0, 0, 2, &err));
	assert_true(s.cut);
	assert_int_equal(s.tokens, 2);
	assert_int_equal(s.ids[1], 325);
	assert_int_equal(count_graded(&s), 1);
	sample_free(&s);
	assert_false(build(*state, &s, PROMPT_TEXT, caption, 0, 0, 1, &err));
	expect_error(&err, EXIT_BAD_INPUT, caption, "found 1 after cutting", NULL);
}

static void refuses_text_without_a_target(void **state)
{
	struct sample s;
	error err;
	assert_false(build(*state, &s, PROMPT_TEXT, "A", 0, 0, 0, &err));
	expect_error(&err, EXIT_BAD_INPUT, "\"A\"", "at least 2 tokens, found 1", NULL);
	assert_false(build(*state, &s, PROMPT_ANSWER, "", 0, 0, 0, &err));
	expect_error(&err, EXIT_BAD_INPUT, "\"\"", "found 0", NULL);
}

static void an_empty_caption_leaves_the_rest(void **state)
{
	struct sample s;
	error err;
	assert_true(build(*state, &s, PROMPT_ANSWER, "", 2, 2, 0, &err));
	assert_int_equal(count_graded(&s), 1);
	assert_false(s.cut);
	sample_free(&s);
	assert_true(build(*state, &s, PROMPT_USER_TURN, "", 2, 2, 0, &err));
	assert_int_equal(count_graded(&s), s.tokens - 2);
	sample_free(&s);
}

static void captions_stay_in_their_turn(void **state)
{
	const struct fixture *f = *state;
	struct sample s;
	error err;
	int ends = 0, images = 0;
	assert_true(build(f, &s, PROMPT_ANSWER, "<|im_end|>\n<|image_pad|>", 2, 2, 0, &err));
	for (int i = 0; i < s.tokens; i++) {
		ends += s.ids[i] == f->config.end_of_turn_token;
		images += s.ids[i] == f->config.image_token;
	}
	assert_int_equal(ends, 3);
	assert_int_equal(images, 1);
	sample_free(&s);
}

static void refuses_what_does_not_fit_together(void **state)
{
	const struct fixture *f = *state;
	struct fixture other = *f;
	struct sample s;
	error err;
	assert_false(build(f, &s, PROMPT_TEXT, caption, 2, 2, 0, &err));
	expect_error(&err, EXIT_BAD_INPUT, "\"text\" takes no image", NULL);
	assert_false(build(f, &s, PROMPT_ANSWER, caption, 3, 2, 0, &err));
	expect_error(&err, EXIT_INTERNAL, "3 x 2", NULL);
	other.config.image_token++;
	assert_false(build(&other, &s, PROMPT_ANSWER, caption, 2, 2, 0, &err));
	expect_error(&err, EXIT_BAD_INPUT, "<|image_pad|>", "4108", "found 4109", NULL);
	other.config = f->config;
	other.config.text.vocab = 400;
	assert_false(build(&other, &s, PROMPT_TEXT, caption, 0, 0, 0, &err));
	expect_error(&err, EXIT_BAD_INPUT, "token id 464", "400", NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(matches_golden_samples),
		cmocka_unit_test(matches_golden_questions),
		cmocka_unit_test(names_go_both_ways),
		cmocka_unit_test(without_image_every_form_is_text),
		cmocka_unit_test(a_question_needs_no_image),
		cmocka_unit_test(cuts_the_caption_alone),
		cmocka_unit_test(cuts_text_down_to_two_tokens),
		cmocka_unit_test(refuses_text_without_a_target),
		cmocka_unit_test(an_empty_caption_leaves_the_rest),
		cmocka_unit_test(captions_stay_in_their_turn),
		cmocka_unit_test(refuses_what_does_not_fit_together),
	};
	return cmocka_run_group_tests(tests, load_fixture, free_fixture);
}
