/* One sample through the whole model: vision, language model, head, and back. */
#include "lib/model/qwen.h"

#include "lib/model/sample_run.h"

/* ---- what can be run ---- */

static bool check_ids(const struct model *m, const struct sample *s, error *err)
{
	int vocab = m->config.text.vocab;
	if (s->tokens < 1)
		return fail(err, EXIT_BAD_INPUT, "sample: expected at least one token");
	for (int i = 0; i < s->tokens; i++)
		if (s->ids[i] < 0 || s->ids[i] >= vocab)
			return fail(err, EXIT_BAD_INPUT,
			            "sample: token %d: expected an id below the vocabulary's "
			            "size %d, found %d", i, vocab, (int)s->ids[i]);
	return true;
}

/* The placeholders must be one run of as many tokens as the image has cells. */
static bool check_image(const struct model *m, const struct sample *s, error *err)
{
	int merge = m->config.vision.merge;
	int grid_h = s->patches.grid_h, grid_w = s->patches.grid_w;
	int64_t cells = 0, found = 0, runs = 0;
	if (s->patches.values) {
		if (grid_h < 1 || grid_w < 1 || grid_h % merge || grid_w % merge ||
		    (int64_t)grid_h * grid_w > INT32_MAX)
			return fail(err, EXIT_BAD_INPUT,
			            "sample: expected an image grid of multiples of %d, "
			            "found %d x %d", merge, grid_h, grid_w);
		cells = (int64_t)grid_h * grid_w / (merge * merge);
	}
	for (int i = 0; i < s->tokens; i++) {
		bool image = s->ids[i] == m->config.image_token;
		found += image;
		runs += image && (i == 0 || s->ids[i - 1] != m->config.image_token);
	}
	if (found != cells || runs > 1)
		return fail(err, EXIT_BAD_INPUT,
		            "sample: expected %lld consecutive image tokens, found %lld in "
		            "%lld places", (long long)cells, (long long)found, (long long)runs);
	return true;
}

static enum keeping choose_keeping(const struct model *m, const struct workspace *w,
                                   const struct sample *s)
{
	size_t patches = s->patches.values
	                 ? (size_t)s->patches.grid_h * (size_t)s->patches.grid_w : 0;
	size_t bytes = tower_tape_bytes(&m->parts->text, (size_t)s->tokens) +
	               tower_tape_bytes(&m->parts->vision, patches);
	return bytes <= workspace_tape(w) ? KEEP_EVERYTHING : KEEP_INPUTS;
}

bool sample_run_begin(struct sample_run *r, const struct model *m, struct workspace *w,
                      const struct sample *s, const struct tap *tap, bool gradient,
                      error *err)
{
	if (!check_ids(m, s, err) || !check_image(m, s, err) ||
	    !run_begin(&r->run, m, w, tap, err))
		return false;
	enum keeping keeping = gradient ? choose_keeping(m, w, s) : KEEP_NOTHING;
	r->image = s->patches.values != NULL;
	return (!r->image || vision_prepare(&r->vision, &r->run, &s->patches, keeping, err)) &&
	       text_prepare(&r->text, &r->run, s, keeping, err);
}

bool sample_run_forward(struct sample_run *r, error *err)
{
	if (r->image && !vision_forward(&r->vision, err))
		return false;
	return text_forward(&r->text, r->image ? r->vision.features : NULL, err);
}

/* ---- forward, backward ---- */

bool model_forward(const struct model *m, struct workspace *w, const struct sample *s,
                   int want, const struct tap *tap, struct outcome *out, error *err)
{
	struct sample_run r;
	struct head_run head;
	*out = (struct outcome){ 0 };
	if (!sample_run_begin(&r, m, w, s, tap, false, err) || !sample_run_forward(&r, err))
		return false;
	if (!want)
		return true;
	if (!head_prepare(&head, &r.run, s, want & WANT_LOGITS, err) ||
	    !head_forward(&head, r.text.tower.output, err))
		return false;
	if (want & WANT_LOGITS)
		out->logits = head.logits;
	if (want & WANT_LOSS) {
		out->loss = head_loss(&head);
		out->graded = head.graded;
	}
	return true;
}

static bool run_backward(struct sample_run *r, struct head_run *head,
                         const struct sample *s, error *err)
{
	const struct model *m = r->run.model;
	size_t hidden = (size_t)m->config.text.hidden;
	float *dx = workspace_floats(r->run.space, (size_t)s->tokens, hidden);
	if (!workspace_ok(r->run.space, err) ||
	    !head_backward(head, dx, s->tokens, err) || !text_backward(&r->text, dx, err))
		return false;
	if (!r->image)
		return true;
	size_t first = (size_t)first_image_row(m, s);
	return vision_backward(&r->vision, dx + first * hidden, err);
}

bool model_gradient(const struct model *m, struct workspace *w, const struct sample *s,
                    const struct tap *tap, struct outcome *out, error *err)
{
	struct sample_run r;
	struct head_run head;
	*out = (struct outcome){ 0 };
	if (!sample_run_begin(&r, m, w, s, tap, true, err) || !sample_run_forward(&r, err) ||
	    !head_prepare(&head, &r.run, s, false, err) ||
	    !head_forward(&head, r.text.tower.output, err))
		return false;
	out->loss = head_loss(&head);
	out->graded = head.graded;
	return run_backward(&r, &head, s, err);
}
