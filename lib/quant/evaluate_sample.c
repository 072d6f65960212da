/* One sample of an evaluation: the base model runs and its logits are kept, then every
 * choice that the store lacks, and is compared. */
#include <stdlib.h>
#include <string.h>

#include "kernels/cross_entropy.h"
#include "lib/quant/evaluate_parts.h"
#include "lib/quant/taps.h"

static bool reserve(void **buffer, size_t *capacity, size_t count, size_t size, error *err)
{
	if (count <= *capacity)
		return true;
	free(*buffer);
	*buffer = calloc(count, size);
	*capacity = *buffer ? count : 0;
	return *buffer || fail_memory(err, "logits", (unsigned long long)count * size);
}

/* Where the model stands before it answers. */
static int last_asked(const struct evaluator *e, const struct sample *s)
{
	int first = 1;
	if (e->source.form != PROMPT_ANSWER || !s->patches.values)
		return s->tokens - 1;
	while (first < s->tokens && !s->graded[first])
		first++;
	return first - 1;
}

static double cross_entropy_at(const float *logits, int vocab, int32_t target)
{
	double loss;
	float largest, sum;
	cross_entropy_forward(&loss, &largest, &sum, logits, &target, 1, vocab);
	return loss;
}

void add_changes(const struct evaluator *e, const struct sample *s,
                 const struct row_change *changes, struct sample_damage *out)
{
	int last = last_asked(e, s);
	double *token_kl = out->token_kl;
	*out = (struct sample_damage){ .positions = s->tokens, .token_kl = token_kl };
	for (int i = 0; i < s->tokens; i++)
		out->kl_all += changes[i].kl;
	for (int i = 1; i < s->tokens; i++) {
		const struct row_change *row = &changes[i - 1];
		if (!s->graded[i])
			continue;
		out->base_loss += row->base_loss;
		out->loss += row->loss;
		out->kl += row->kl;
		out->agreed += row->agrees;
		out->token_kl[out->tokens++] = row->kl;
	}
	out->last_kl = changes[last].kl;
	out->last_mse = changes[last].squared;
}

/* The base's logits are in b->base; other[positions][vocab]. */
static void compare_sample(const struct evaluator *e, const struct bench *b,
                           const struct sample *s, const float *other,
                           struct sample_damage *out)
{
	int vocab = e->model.config.text.vocab;
	divergence_of_rows(b->rows, b->base, other, s->tokens, vocab);
	for (int i = 0; i < s->tokens; i++) {
		const struct divergence *d = &b->rows[i];
		size_t row = (size_t)i * (size_t)vocab;
		b->changes[i] = (struct row_change){ .kl = d->kl, .squared = d->squared,
			.agrees = d->agrees };
		if (i + 1 == s->tokens || !s->graded[i + 1])
			continue;
		b->changes[i].base_loss = cross_entropy_at(b->base + row, vocab, s->ids[i + 1]);
		b->changes[i].loss = cross_entropy_at(other + row, vocab, s->ids[i + 1]);
	}
	add_changes(e, s, b->changes, out);
}

static bool run_base(struct evaluator *e, struct bench *b, const struct sample *s, error *err)
{
	struct outcome outcome;
	size_t rows = (size_t)s->tokens, count = rows * (size_t)e->model.config.text.vocab;
	if (!model_forward(&e->model, b->workspace, s, WANT_LOGITS, NULL, &outcome, err) ||
	    !reserve((void **)&b->base, &b->base_capacity, count, sizeof *b->base, err) ||
	    !reserve((void **)&b->rows, &b->row_capacity, rows, sizeof *b->rows, err) ||
	    !reserve((void **)&b->changes, &b->change_capacity, rows, sizeof *b->changes, err))
		return false;
	memcpy(b->base, outcome.logits, count * sizeof *b->base);
	return true;
}

bool take_tokens(struct evaluator *e, const struct sample *s, struct sample_damage *out,
                 error *err)
{
	pthread_mutex_lock(&e->lock);
	out->token_kl = arena_alloc(e->results, (size_t)s->tokens, sizeof *out->token_kl, err);
	progress_set(&e->progress, ++e->done);
	pthread_mutex_unlock(&e->lock);
	return out->token_kl != NULL;
}

static bool run_choice(struct evaluator *e, struct bench *b, const struct sample *s,
                       int choice, struct sample_damage *out, error *err)
{
	struct served *served = served_new(&e->views[choice], err);
	if (!served)
		return false;
	struct tap tap = served_tap(served);
	struct outcome outcome;
	bool ok = model_forward(&e->model, b->workspace, s, WANT_LOGITS, &tap, &outcome, err);
	served_free(served);
	if (!ok || !take_tokens(e, s, out, err))
		return false;
	compare_sample(e, b, s, outcome.logits, out);
	return true;
}

bool measure_sample(void *self, int thread, int index, error *err)
{
	struct evaluator *e = self;
	struct bench *b = &e->benches[thread];
	struct sample sample;
	bool unreadable;
	if (!source_sample(&e->source, e->first + index, &sample, &unreadable, err))
		return unreadable && e->source.skip_bad;
	bool ok = run_base(e, b, &sample, err);
	for (int i = 0; ok && i < e->missing_count; i++)
		ok = run_choice(e, b, &sample, e->missing[i],
		                &e->damage[e->missing[i]].samples[e->first + index], err);
	sample_free(&sample);
	return ok;
}
