/* Replaying from a block; see replay.h. */
#include "lib/model/replay.h"

#include <stdlib.h>
#include <string.h>

#include "lib/model/sample_run.h"

struct replay {
	struct sample_run run;
	struct head_run head;
	const struct tap *tap;
	float *plain;  /* [tokens][vocab] */
	float *hidden; /* [tokens][hidden] of the language model */
	float *patches; /* [patches][hidden] of the vision tower */
};

static bool take_buffers(struct replay *r, const struct sample *s, error *err)
{
	const struct model_config *c = &r->run.run.model->config;
	struct workspace *w = r->run.run.space;
	size_t tokens = (size_t)s->tokens;
	r->plain = workspace_floats(w, tokens, (size_t)c->text.vocab);
	r->hidden = workspace_floats(w, tokens, (size_t)c->text.hidden);
	if (r->run.image)
		r->patches = workspace_floats(w, (size_t)r->run.vision.tower.rows,
		                              (size_t)c->vision.hidden);
	return workspace_ok(w, err);
}

struct replay *replay_new(const struct model *m, struct workspace *w,
                          const struct sample *s, const struct tap *tap, error *err)
{
	struct replay *r = calloc(1, sizeof *r);
	if (!r) {
		fail_memory(err, "a replay", sizeof *r);
		return NULL;
	}
	if (!sample_run_begin(&r->run, m, w, s, NULL, true, err) ||
	    !sample_run_forward(&r->run, err) ||
	    !head_prepare(&r->head, &r->run.run, s, true, err) || !take_buffers(r, s, err) ||
	    !head_forward(&r->head, r->run.text.tower.output, err)) {
		free(r);
		return NULL;
	}
	memcpy(r->plain, r->head.logits,
	       (size_t)s->tokens * (size_t)m->config.text.vocab * sizeof *r->plain);
	r->run.run.tap = tap;
	return r;
}

void replay_free(struct replay *r)
{
	free(r);
}

float *replay_plain_logits(struct replay *r)
{
	return r->plain;
}

/* The block of a tower that has the linear, or -1. */
static int find_block(const struct tower *t, int linear)
{
	for (int i = 0; i < t->depth; i++)
		if (linear >= t->blocks[i].q && linear <= t->blocks[i].down)
			return i;
	return -1;
}

/* From which block of the vision tower: see vision_forward_again. */
static int vision_start(const struct model_parts *p, int linear)
{
	if (linear == p->merger_in || linear == p->merger_out)
		return p->vision.depth;
	return find_block(&p->vision, linear);
}

static bool run_tower(struct replay *r, int linear, error *err)
{
	const struct model_parts *p = r->run.run.model->parts;
	int block = find_block(&p->text, linear);
	if (block >= 0)
		return text_forward_again(&r->run.text, block, NULL, r->hidden, err);
	return vision_forward_again(&r->run.vision, vision_start(p, linear), r->patches,
	                            err) &&
	       text_forward_again(&r->run.text, 0, r->run.vision.features, r->hidden, err);
}

const float *replay_from(struct replay *r, int linear, error *err)
{
	const struct model_parts *p = r->run.run.model->parts;
	bool head = linear == p->head;
	if (!head && !r->run.image && find_block(&p->text, linear) < 0)
		return r->plain;
	if (!head && !run_tower(r, linear, err))
		return NULL;
	if (!head_forward(&r->head, head ? r->run.text.tower.output : r->hidden, err))
		return NULL;
	return r->head.logits;
}
