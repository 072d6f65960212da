/* Greedy generation. The prompt runs as one sample whose keys and values go to a
 * cache; from then on every step is one row. */
#include "lib/model/sample_run.h"

#include <string.h>

#include "kernels/rmsnorm.h"
#include "lib/model/positions.h"

struct generator {
	struct sample_run prompt;
	struct tower_run step; /* one row */
	float **keys, **values; /* [layer][token][kv width] */
	int32_t next_position;
	float *normed; /* [hidden] */
	float *logits; /* [vocab] */
	uint8_t *present; /* [vocab] 1: the text has this id */
};

static size_t cache_width(const struct model *m)
{
	return (size_t)m->config.text.kv_heads * (size_t)m->config.text.head_dim;
}

/* Positions go on after the largest that the prompt has. */
static bool find_next_position(struct generator *g, const struct sample *s, error *err)
{
	struct workspace *w = g->prompt.run.space;
	size_t count = 3 * (size_t)s->tokens;
	int32_t *positions = workspace_take(w, count, sizeof *positions);
	if (!workspace_ok(w, err))
		return false;
	mrope_positions(&g->prompt.run.model->config, s, positions);
	g->next_position = 0;
	for (size_t i = 0; i < count; i++)
		if (positions[i] >= g->next_position)
			g->next_position = positions[i] + 1;
	return true;
}

static bool take_cache(struct generator *g, int tokens, error *err)
{
	const struct model *m = g->prompt.run.model;
	struct workspace *w = g->prompt.run.space;
	size_t layers = (size_t)m->config.text.layers;
	g->keys = workspace_take(w, layers, sizeof *g->keys);
	g->values = workspace_take(w, layers, sizeof *g->values);
	g->normed = workspace_floats(w, 1, (size_t)m->config.text.hidden);
	g->logits = workspace_floats(w, 1, (size_t)m->config.text.vocab);
	g->present = workspace_take(w, (size_t)m->config.text.vocab, 1);
	for (size_t i = 0; i < layers && workspace_ok(w, err); i++) {
		g->keys[i] = workspace_floats(w, (size_t)tokens, cache_width(m));
		g->values[i] = workspace_floats(w, (size_t)tokens, cache_width(m));
	}
	return workspace_ok(w, err);
}

/* From now on the tower writes the keys and values of its rows to the cache, the
 * first of them at row `past`. */
static void aim_at_cache(const struct generator *g, struct tower_run *t, int past)
{
	size_t start = (size_t)past * cache_width(t->run->model);
	for (int i = 0; i < t->tower->depth; i++) {
		t->tapes[i].k = g->keys[i] + start;
		t->tapes[i].v = g->values[i] + start;
	}
	t->past = past;
}

static bool begin(struct generator *g, const struct model *m, struct workspace *w,
                  const struct sample *prompt, const struct generation *how,
                  const struct tap *tap, error *err)
{
	static const int32_t one_row[] = { 0, 1 };
	int max_new = how->max_new;
	if (!(how->repetition_penalty > 0))
		return fail(err, EXIT_BAD_INPUT,
		            "expected a repetition penalty above 0, found %g",
		            (double)how->repetition_penalty);
	if (prompt->tokens > INT32_MAX - max_new)
		return fail(err, EXIT_BAD_INPUT, "expected at most %d new tokens, found %d",
		            INT32_MAX - prompt->tokens, max_new);
	if (!sample_run_begin(&g->prompt, m, w, prompt, tap, false, err) ||
	    !find_next_position(g, prompt, err) ||
	    !take_cache(g, prompt->tokens + max_new, err) ||
	    !tower_prepare(&g->step, &g->prompt.run, &m->parts->text, 1,
	                   prompt->tokens + max_new, KEEP_NOTHING, err))
		return false;
	g->step.all = (struct segments){ one_row, 1 };
	aim_at_cache(g, &g->prompt.text.tower, 0);
	memset(g->present, 0, (size_t)m->config.text.vocab);
	for (int i = 0; i < prompt->tokens; i++)
		g->present[prompt->ids[i]] = 1;
	return true;
}

static void penalise_present(struct generator *g, float penalty)
{
	int vocab = g->prompt.run.model->config.text.vocab;
	for (int i = 0; i < vocab; i++)
		if (g->present[i])
			g->logits[i] = g->logits[i] < 0 ? g->logits[i] * penalty
			                                : g->logits[i] / penalty;
}

/* The most likely token after hidden[hidden]; the lowest id of equals. */
static bool choose_token(struct generator *g, const float *hidden, float penalty,
                         int32_t *chosen, error *err)
{
	const struct model *m = g->prompt.run.model;
	const struct text_config *t = &m->config.text;
	rmsnorm_forward(g->normed, hidden, m->parts->final_norm, 1, t->hidden, t->rms_eps);
	if (!linear_forward(&g->prompt.run, m->parts->head, false, g->normed, g->logits, 1,
	                    err))
		return false;
	if (penalty != 1.0f)
		penalise_present(g, penalty);
	*chosen = 0;
	for (int32_t i = 1; i < t->vocab; i++)
		if (g->logits[i] > g->logits[*chosen])
			*chosen = i;
	g->present[*chosen] = 1;
	return true;
}

/* Runs one token; `past` tokens came before it. */
static bool run_step(struct generator *g, int32_t id, int past, error *err)
{
	const struct model *m = g->prompt.run.model;
	int32_t position = g->next_position++;
	int32_t positions[3] = { position, position, position };
	aim_at_cache(g, &g->step, past);
	text_angles(&m->config.text, m->parts->text.frequencies, positions, 1, g->step.cosine,
	            g->step.sine);
	embed_token(m, id, g->step.tapes[0].input);
	return tower_forward(&g->step, err);
}

static bool is_stop(const struct generation *how, int32_t id)
{
	for (size_t i = 0; i < how->stop_count; i++)
		if (how->stop[i] == id)
			return true;
	return false;
}

bool model_generate(const struct model *m, struct workspace *w,
                    const struct sample *prompt, const struct generation *how,
                    const struct tap *tap, struct token_list *out, error *err)
{
	struct generator g;
	if (how->max_new < 1)
		return true;
	if (!begin(&g, m, w, prompt, how, tap, err) ||
	    !sample_run_forward(&g.prompt, err))
		return false;
	size_t last = (size_t)(prompt->tokens - 1) * (size_t)m->config.text.hidden;
	const float *hidden = g.prompt.text.tower.output + last;
	for (int made = 0; made < how->max_new; made++) {
		int32_t id;
		if (!choose_token(&g, hidden, how->repetition_penalty, &id, err) ||
		    !token_push(out, id, err))
			return false;
		if (is_stop(how, id) || made + 1 == how->max_new)
			return true;
		if (!run_step(&g, id, prompt->tokens + made, err))
			return false;
		hidden = g.step.output;
	}
	return true;
}
