/* Final norm, head, loss. The head is the widest matrix of the model, so it runs
 * over the rows that somebody looks at, and no others. */
#include <string.h>

#include "kernels/cross_entropy.h"
#include "kernels/rmsnorm.h"
#include "kernels/rows.h"
#include "lib/model/text.h"

/* A token is graded by the prediction made one token before it, so the first has
 * none. */
static int count_graded(const struct sample *s)
{
	int graded = 0;
	for (int i = 1; i < s->tokens; i++)
		graded += s->graded[i] != 0;
	return graded;
}

bool head_prepare(struct head_run *h, struct run *run, const struct sample *s, bool all,
                  error *err)
{
	struct workspace *w = run->space;
	const struct text_config *t = &run->model->config.text;
	*h = (struct head_run){ .run = run, .graded = count_graded(s) };
	h->rows = all ? s->tokens : h->graded;
	size_t rows = (size_t)h->rows, graded = (size_t)h->graded;
	int32_t *at = workspace_take(w, rows, sizeof *at);
	h->from = workspace_take(w, graded, sizeof *h->from);
	h->target = workspace_take(w, graded, sizeof *h->target);
	h->picked = workspace_floats(w, rows, (size_t)t->hidden);
	h->normed = workspace_floats(w, rows, (size_t)t->hidden);
	h->logits = workspace_floats(w, rows, (size_t)t->vocab);
	h->largest = workspace_floats(w, graded, 1);
	h->sum = workspace_floats(w, graded, 1);
	if (!workspace_ok(w, err))
		return false;
	h->at = all ? NULL : at;
	for (int i = 1, n = 0; i < s->tokens; i++) {
		if (!s->graded[i])
			continue;
		at[n] = i - 1;
		h->from[n] = all ? i - 1 : n;
		h->target[n++] = s->ids[i];
	}
	return true;
}

bool head_forward(struct head_run *h, const float *hidden, error *err)
{
	const struct model *m = h->run->model;
	int width = m->config.text.hidden;
	if (h->at)
		gather_rows(h->picked, hidden, h->at, h->rows, width);
	else
		memcpy(h->picked, hidden, (size_t)h->rows * (size_t)width * sizeof *hidden);
	rmsnorm_forward(h->normed, h->picked, m->parts->final_norm, h->rows, width,
	                m->config.text.rms_eps);
	return linear_forward(h->run, m->parts->head, false, h->normed, h->logits, h->rows,
	                      err);
}

double head_loss(struct head_run *h)
{
	int vocab = h->run->model->config.text.vocab;
	double sum = 0;
	for (int i = 0; i < h->graded; i++) {
		double loss;
		cross_entropy_forward(&loss, &h->largest[i], &h->sum[i],
		                      h->logits + (size_t)h->from[i] * (size_t)vocab,
		                      &h->target[i], 1, vocab);
		sum += loss;
	}
	return h->graded ? sum / h->graded : 0;
}

bool head_backward(struct head_run *h, float *dx, int tokens, error *err)
{
	const struct model *m = h->run->model;
	int width = m->config.text.hidden;
	float *dnormed = h->normed, *dpicked;
	memset(dx, 0, (size_t)tokens * (size_t)width * sizeof *dx);
	if (h->graded == 0)
		return true;
	dpicked = workspace_floats(h->run->space, (size_t)h->rows, (size_t)width);
	if (!workspace_ok(h->run->space, err))
		return false;
	cross_entropy_backward(h->logits, h->largest, h->sum, h->target, h->graded,
	                       m->config.text.vocab, 1.0f / (float)h->graded);
	if (!linear_backward(h->run, m->parts->head, h->logits, dnormed, h->rows, false, err))
		return false;
	memset(dpicked, 0, (size_t)h->rows * (size_t)width * sizeof *dpicked);
	rmsnorm_backward(dpicked, dnormed, h->picked, m->parts->final_norm, h->rows, width,
	                 m->config.text.rms_eps);
	scatter_rows(dx, dpicked, h->at, h->rows, width);
	return true;
}
