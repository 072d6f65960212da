/* Prompts: the chat template of Qwen2.5-VL, spelled out; see prompt.h.
 *
 *   <|im_start|>system\nYou are a helpful assistant.<|im_end|>\n
 *   <|im_start|>user\n<|vision_start|><|image_pad|>...<|vision_end|>TEXT<|im_end|>\n
 *   <|im_start|>assistant\n[ANSWER<|im_end|>]
 *
 * The template, TEXT and ANSWER are tokenised each by itself: a caption cannot
 * merge with the template, nor end a turn, whatever it holds. */
#include "lib/data/prompt.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const char question_of_answer[] = "Describe this image.";

/* The name of each form, in the order of the enum. */
static const char *const form_names[] = { "answer", "user_turn", "text", "ask" };

enum { FORM_COUNT = sizeof form_names / sizeof *form_names };

bool prompt_form_from_name(const char *name, enum prompt_form *out)
{
	for (int i = 0; i < FORM_COUNT; i++)
		if (strcmp(name, form_names[i]) == 0) {
			*out = (enum prompt_form)i;
			return true;
		}
	return false;
}

const char *prompt_form_name(enum prompt_form form)
{
	return form_names[form];
}

/* The parts of a sample: what stands before the caption, the caption, and what
 * follows it. */
struct parts {
	struct token_list before, caption, after;
	int image_tokens;
};

static void free_parts(struct parts *p)
{
	token_list_free(&p->before);
	token_list_free(&p->caption);
	token_list_free(&p->after);
}

static bool add_text(const struct tokenizer *t, const char *text, bool special,
                     struct token_list *out, error *err)
{
	return tokenizer_encode(t, text, strlen(text), special, out, err);
}

/* config.json and the tokenizer name the image tokens independently. */
static bool check_special(const struct tokenizer *t, const char *content,
                          int64_t configured, error *err)
{
	int32_t found = tokenizer_special(t, content);
	if (found < 0)
		return fail(err, EXIT_BAD_INPUT, "the tokenizer lacks the special token %s",
		            content);
	if (found != configured)
		return fail(err, EXIT_BAD_INPUT,
		            "%s: expected the id %d of the tokenizer, found %lld in config.json",
		            content, found, (long long)configured);
	return true;
}

static bool check_tokens(const struct tokenizer *t, const struct model_config *config,
                         error *err)
{
	if (tokenizer_special(t, "<|im_start|>") < 0)
		return fail(err, EXIT_BAD_INPUT,
		            "the tokenizer lacks the special token <|im_start|>");
	return check_special(t, "<|im_end|>", config->end_of_turn_token, err) &&
	       check_special(t, "<|image_pad|>", config->image_token, err) &&
	       check_special(t, "<|vision_start|>", config->vision_start_token, err) &&
	       check_special(t, "<|vision_end|>", config->vision_end_token, err);
}

/* How many tokens the vision tower makes of an image. */
static bool count_image_tokens(const struct model_config *config,
                               const struct patches *patches, int *out, error *err)
{
	int merge = config->vision.merge;
	int64_t patch_count = (int64_t)patches->grid_h * patches->grid_w;
	int64_t tokens = patch_count / ((int64_t)merge * merge);
	if (patches->grid_h <= 0 || patches->grid_w <= 0 || patches->grid_h % merge ||
	    patches->grid_w % merge || tokens > INT_MAX / 2)
		return fail(err, EXIT_INTERNAL,
		            "an image of %d x %d patches, %d x %d of them a token",
		            patches->grid_h, patches->grid_w, merge, merge);
	*out = (int)tokens;
	return true;
}

/* <|vision_start|>, the placeholders, <|vision_end|> */
static bool add_image(const struct model_config *config, int image_tokens,
                      struct token_list *out, error *err)
{
	if (!token_push(out, (int32_t)config->vision_start_token, err))
		return false;
	for (int i = 0; i < image_tokens; i++)
		if (!token_push(out, (int32_t)config->image_token, err))
			return false;
	return token_push(out, (int32_t)config->vision_end_token, err);
}

/* The parts of a form with turns. */
static bool make_turns(struct parts *p, const struct tokenizer *t,
                       const struct model_config *config, enum prompt_form form,
                       bool image, error *err)
{
	static const char opening[] = "<|im_start|>system\nYou are a helpful assistant."
	                              "<|im_end|>\n<|im_start|>user\n";
	static const char turning[] = "<|im_end|>\n<|im_start|>assistant\n";
	if (!add_text(t, opening, true, &p->before, err) ||
	    (image && !add_image(config, p->image_tokens, &p->before, err)))
		return false;
	if (form != PROMPT_ANSWER)
		return add_text(t, turning, true, &p->after, err);
	return add_text(t, question_of_answer, false, &p->before, err) &&
	       add_text(t, turning, true, &p->before, err) &&
	       token_push(&p->after, (int32_t)config->end_of_turn_token, err);
}

/* Cuts the caption so that all parts together fit max_tokens (0: no limit). */
static bool cut_caption(struct parts *p, int max_tokens, bool *cut, error *err)
{
	size_t around = p->before.count + p->after.count;
	size_t limit = max_tokens > 0 ? (size_t)max_tokens : INT_MAX;
	if (around > limit)
		return fail(err, EXIT_BAD_INPUT,
		            "expected a sample of at most %zu tokens, found %zu around its "
		            "caption (%d of them the image's)", limit, around, p->image_tokens);
	*cut = p->caption.count > limit - around;
	if (*cut)
		p->caption.count = limit - around;
	return true;
}

static bool is_graded(const struct sample *s, const struct parts *p,
                      const struct model_config *config, enum prompt_form form, int i)
{
	if (form == PROMPT_ASK || i == 0)
		return false;
	if (form == PROMPT_ANSWER)
		return (size_t)i >= p->before.count;
	return s->ids[i] != config->image_token;
}

/* Puts the parts together. */
static bool join_parts(struct sample *s, const struct parts *p, error *err)
{
	const struct token_list *lists[] = { &p->before, &p->caption, &p->after };
	size_t total = p->before.count + p->caption.count + p->after.count, at = 0;
	s->ids = malloc((total + 1) * sizeof *s->ids);
	s->graded = calloc(total + 1, 1);
	if (!s->ids || !s->graded)
		return fail_memory(err, "a sample", total * (sizeof *s->ids + 1));
	for (int i = 0; i < 3; i++) {
		if (lists[i]->count)
			memcpy(s->ids + at, lists[i]->ids, lists[i]->count * sizeof *s->ids);
		at += lists[i]->count;
	}
	s->tokens = (int)total;
	return true;
}

/* The embedding has config->text.vocab rows, whatever the tokenizer knows. */
static bool check_ids(const struct sample *s, const struct model_config *config,
                      error *err)
{
	for (int i = 0; i < s->tokens; i++)
		if (s->ids[i] >= config->text.vocab)
			return fail(err, EXIT_BAD_INPUT,
			            "token id %d of the tokenizer: expected one below the "
			            "vocab_size of config.json, %d", s->ids[i], config->text.vocab);
	return true;
}

/* A text sample is graded on all tokens but the first, so it takes two. */
static bool check_text(const struct sample *s, const char *caption, error *err)
{
	if (s->tokens >= 2)
		return true;
	return fail(err, EXIT_BAD_INPUT,
	            "caption \"%.80s\": expected at least 2 tokens, found %d%s: nothing to "
	            "grade", caption, s->tokens, s->cut ? " after cutting" : "");
}

/* All of sample_build once the image, if any, is the sample's. */
static bool fill_sample(struct sample *s, struct parts *p, const struct tokenizer *t,
                        const struct model_config *config, enum prompt_form form,
                        const char *caption, int max_tokens, error *err)
{
	bool image = s->patches.values != NULL;
	if (image && form == PROMPT_TEXT)
		return fail(err, EXIT_BAD_INPUT,
		            "the prompt form \"text\" takes no image: expected \"answer\" or "
		            "\"user_turn\"");
	if (!image && form != PROMPT_ASK)
		form = PROMPT_TEXT;
	if (image && !count_image_tokens(config, &s->patches, &p->image_tokens, err))
		return false;
	if (form != PROMPT_TEXT && (!check_tokens(t, config, err) ||
	                            !make_turns(p, t, config, form, image, err)))
		return false;
	if (!add_text(t, caption, false, &p->caption, err) ||
	    !cut_caption(p, max_tokens, &s->cut, err) || !join_parts(s, p, err) ||
	    !check_ids(s, config, err))
		return false;
	for (int i = 0; i < s->tokens; i++)
		s->graded[i] = is_graded(s, p, config, form, i);
	return form != PROMPT_TEXT || check_text(s, caption, err);
}

bool sample_build(struct sample *out, const struct tokenizer *t,
                  const struct model_config *config, enum prompt_form form,
                  const char *caption, struct patches *patches, int max_tokens,
                  error *err)
{
	struct parts p = { .image_tokens = 0 };
	*out = (struct sample){ 0 };
	if (patches) {
		out->patches = *patches;
		*patches = (struct patches){ 0 };
	}
	bool ok = fill_sample(out, &p, t, config, form, caption, max_tokens, err);
	free_parts(&p);
	if (!ok)
		sample_free(out);
	return ok;
}

void sample_free(struct sample *s)
{
	free(s->ids);
	free(s->graded);
	patches_free(&s->patches);
	*s = (struct sample){ 0 };
}
