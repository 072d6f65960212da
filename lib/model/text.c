/* Embedding and blocks of the language model. */
#include "lib/model/text.h"

#include <string.h>

#include "kernels/rows.h"
#include "lib/model/positions.h"

int first_image_row(const struct model *m, const struct sample *s)
{
	for (int i = 0; s->patches.values && i < s->tokens; i++)
		if (s->ids[i] == m->config.image_token)
			return i;
	return -1;
}

void embed_token(const struct model *m, int32_t id, float *x)
{
	const struct model_parts *p = m->parts;
	size_t hidden = (size_t)m->config.text.hidden, start = (size_t)id * hidden;
	if (p->embedding_values)
		memcpy(x, p->embedding_values + start, hidden * sizeof *x);
	else
		tensor_expand(x, p->embedding, start, hidden);
}

bool text_prepare(struct text_run *t, struct run *run, const struct sample *s,
                  enum keeping keeping, error *err)
{
	const struct model *m = run->model;
	*t = (struct text_run){ .sample = s };
	if (!tower_prepare(&t->tower, run, &m->parts->text, s->tokens, 0, keeping, err))
		return false;
	int32_t *ends = workspace_take(run->space, 2, sizeof *ends);
	int32_t *positions = workspace_take(run->space, 3 * (size_t)s->tokens,
	                                    sizeof *positions);
	if (!workspace_ok(run->space, err))
		return false;
	ends[0] = 0;
	ends[1] = s->tokens;
	t->tower.all = (struct segments){ ends, 1 };
	mrope_positions(&m->config, s, positions);
	text_angles(&m->config.text, m->parts->text.frequencies, positions, s->tokens,
	            t->tower.cosine, t->tower.sine);
	return true;
}

bool text_forward(struct text_run *t, const float *features, error *err)
{
	const struct model *m = t->tower.run->model;
	size_t hidden = (size_t)m->config.text.hidden;
	float *x = t->tower.tapes[0].input;
	const float *feature = features;
	for (int i = 0; i < t->sample->tokens; i++, x += hidden) {
		int32_t id = t->sample->ids[i];
		if (!features || id != m->config.image_token) {
			embed_token(m, id, x);
			continue;
		}
		memcpy(x, feature, hidden * sizeof *x);
		feature += hidden;
	}
	return tower_forward(&t->tower, err);
}

bool text_forward_again(struct text_run *t, int first, const float *features,
                        float *output, error *err)
{
	const struct model *m = t->tower.run->model;
	size_t hidden = (size_t)m->config.text.hidden, tokens = (size_t)t->sample->tokens;
	if (!features)
		return tower_forward_again(&t->tower, first, NULL, output, err);
	memcpy(output, t->tower.tapes[0].input, tokens * hidden * sizeof *output);
	size_t start = (size_t)first_image_row(m, t->sample), cells = 0;
	while (start + cells < tokens && t->sample->ids[start + cells] == m->config.image_token)
		cells++;
	memcpy(output + start * hidden, features, cells * hidden * sizeof *output);
	return tower_forward_again(&t->tower, 0, output, output, err);
}

bool text_backward(struct text_run *t, float *dx, error *err)
{
	bool image = first_image_row(t->tower.run->model, t->sample) >= 0;
	return tower_backward(&t->tower, dx, image, err);
}
