/* Summing up an evaluation, and its file; see damage_file.h. */
#include "lib/quant/damage_file.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

/* Columns of all samples, one array each. */
struct columns {
	double *tokens, *positions, *asked, *values;
	int count;
};

static bool columns_make(struct columns *c, const struct damage *d, error *err)
{
	size_t count = (size_t)d->count;
	double *all = calloc(4 * count + 1, sizeof *all);
	*c = (struct columns){ all, all + count, all + 2 * count, all + 3 * count, d->count };
	if (!all)
		return fail_memory(err, "columns", 4ULL * count * sizeof *all);
	for (int i = 0; i < d->count; i++) {
		c->tokens[i] = d->samples[i].tokens;
		c->positions[i] = d->samples[i].positions;
		c->asked[i] = d->samples[i].tokens > 0;
	}
	return true;
}

/* One field of every sample, by its offset. */
static const double *pick(struct columns *c, const struct damage *d, size_t offset)
{
	for (int i = 0; i < c->count; i++)
		c->values[i] = *(const double *)(const void *)((const char *)&d->samples[i] +
		                                               offset);
	return c->values;
}

#define FIELD(name) offsetof(struct sample_damage, name)

static void sum_up(struct columns *c, const struct damage *d, struct damage_summary *s)
{
	double base = estimate_ratio(pick(c, d, FIELD(base_loss)), c->tokens, c->count).mean;
	s->base_perplexity = exp(base);
	s->perplexity = exp(estimate_ratio(pick(c, d, FIELD(loss)), c->tokens, c->count).mean);
	s->kl = estimate_ratio(pick(c, d, FIELD(kl)), c->tokens, c->count);
	pick(c, d, FIELD(kl_all));
	for (int i = 0; i < c->count; i++)
		c->values[i] /= c->positions[i] > 0 ? c->positions[i] : 1;
	s->kl_all = estimate_ratio(c->values, c->asked, c->count);
	s->last_kl = estimate_ratio(pick(c, d, FIELD(last_kl)), c->asked, c->count);
	s->last_mse = estimate_ratio(pick(c, d, FIELD(last_mse)), c->asked, c->count);
	for (int i = 0; i < c->count; i++)
		c->values[i] = d->samples[i].loss - d->samples[i].base_loss;
	s->loss_change = estimate_ratio(c->values, c->tokens, c->count);
	for (int i = 0; i < c->count; i++)
		c->values[i] = d->samples[i].agreed;
	s->agreement = estimate_ratio(c->values, c->tokens, c->count);
}

static bool sort_tokens(const struct damage *d, struct damage_summary *s, error *err)
{
	double *all = malloc(((size_t)s->tokens + 1) * sizeof *all);
	int count = 0;
	if (!all)
		return fail_memory(err, "tokens", (unsigned long long)s->tokens * sizeof *all);
	for (int i = 0; i < d->count; i++)
		for (int t = 0; t < d->samples[i].tokens; t++)
			all[count++] = d->samples[i].token_kl[t];
	s->kl_p99 = quantile(all, count, 0.99);
	s->kl_max = quantile(all, count, 1);
	free(all);
	return true;
}

bool summarise_damage(const struct damage *d, struct damage_summary *out, error *err)
{
	struct columns c;
	*out = (struct damage_summary){ .samples = d->count - d->skipped };
	if (!columns_make(&c, d, err))
		return false;
	for (int i = 0; i < d->count; i++)
		out->tokens += d->samples[i].tokens;
	sum_up(&c, d, out);
	free(c.tokens);
	if (!out->tokens)
		return fail(err, EXIT_BAD_INPUT, "evaluation: expected at least one graded token, "
		            "found none");
	return sort_tokens(d, out, err);
}

cJSON *add_estimate(struct json_tree *tree, cJSON *parent, const char *name,
                    struct estimate e)
{
	cJSON *item = tree_object(tree, parent, name);
	tree_number(tree, item, "mean", e.mean);
	if (e.error >= 0)
		tree_number(tree, item, "standard_error", e.error);
	else
		tree_null(tree, item, "standard_error");
	return item;
}

static void add_choice(struct json_tree *tree, cJSON *schemes,
                       const struct evaluation *job, int choice, const struct damage *d,
                       const struct damage_summary *s)
{
	cJSON *item = tree_object(tree, schemes, job->choices[choice].name);
	int groups = 0;
	for (int g = 0; g < job->groups->count; g++)
		groups += job->choices[choice].formats[g] != NULL;
	tree_number(tree, item, "groups", groups);
	tree_number(tree, item, "perplexity", s->perplexity);
	add_estimate(tree, item, "loss_change", s->loss_change);
	cJSON *kl = add_estimate(tree, item, "kl", s->kl);
	tree_number(tree, kl, "p99", s->kl_p99);
	tree_number(tree, kl, "max", s->kl_max);
	add_estimate(tree, item, "top1_agreement", s->agreement);
	cJSON *last = tree_object(tree, item, "last_token");
	add_estimate(tree, last, "mse", s->last_mse);
	add_estimate(tree, last, "kl", s->last_kl);
	add_estimate(tree, item, "kl_all_positions", s->kl_all);
	cJSON *samples = tree_object(tree, item, "per_sample");
	cJSON *kls = tree_array(tree, samples, "kl");
	cJSON *losses = tree_array(tree, samples, "loss_change");
	for (int i = 0; i < d->count; i++) {
		tree_number(tree, kls, NULL, d->samples[i].kl);
		tree_number(tree, losses, NULL, d->samples[i].loss - d->samples[i].base_loss);
	}
}

static void add_set(struct json_tree *tree, const struct evaluation *job,
                    const struct damage_facts *facts, const struct damage *first,
                    const struct damage_summary *s)
{
	tree_text(tree, tree->root, "baseline", facts->baseline);
	tree_text(tree, tree->root, "set", facts->set);
	tree_text(tree, tree->root, "data", facts->data);
	tree_boolean(tree, tree->root, "stand_in", facts->stand_in);
	tree_boolean(tree, tree->root, "images", job->data.captions == NULL);
	tree_text(tree, tree->root, "prompt_form", job->data.prompt);
	tree_text(tree, tree->root, "numerics", numerics_name(job->numbers.numerics));
	tree_text(tree, tree->root, "weight_scales", job->numbers.shared_scales ? "group" : "member");
	tree_number(tree, tree->root, "samples", s->samples);
	tree_number(tree, tree->root, "skipped", first->skipped);
	tree_number(tree, tree->root, "tokens", s->tokens);
	tree_number(tree, tree->root, "base_perplexity", s->base_perplexity);
	cJSON *tokens = tree_array(tree, tree->root, "per_sample_tokens");
	for (int i = 0; i < first->count; i++)
		tree_number(tree, tokens, NULL, first->samples[i].tokens);
}

bool print_damage(const struct evaluation *job, const struct damage *damage,
                  const struct damage_facts *facts, text *out, error *err)
{
	struct json_tree tree = tree_new();
	cJSON *schemes = NULL;
	for (int i = 0; i < job->choice_count; i++) {
		struct damage_summary s;
		if (!summarise_damage(&damage[i], &s, err)) {
			tree_free(&tree);
			return false;
		}
		if (i == 0) {
			add_set(&tree, job, facts, &damage[0], &s);
			schemes = tree_object(&tree, tree.root, "schemes");
		}
		add_choice(&tree, schemes, job, i, &damage[i], &s);
	}
	return tree_finish(&tree, out, err);
}
