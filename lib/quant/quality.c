/* See quality.h. */
#include "lib/quant/quality.h"

#include <stdlib.h>
#include <string.h>

static const char *const NAMES[QUALITY_CUTS] = { "25 %", "50 %", "75 %" };

enum { HALF = 1 }; /* the cut at 50 % */

int quality_percent(int cut)
{
	return 25 * (cut + 1);
}

static int size_of(int groups, int cut)
{
	int size = groups * quality_percent(cut) / 100;
	return size < 1 ? 1 : size;
}

/* xorshift64: anything that is the same everywhere will do. */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void shuffle(int *groups, int count, uint64_t *state)
{
	for (int i = count - 1; i > 0; i--) {
		int other = (int)(next_random(state) % (uint64_t)(i + 1));
		int swapped = groups[i];
		groups[i] = groups[other];
		groups[other] = swapped;
	}
}

/* The first `size` of groups[]. */
static bool choose(struct material *m, const int *groups, int size, const char *name,
                   bool *keeps, struct variant_choice *out, error *err)
{
	memset(keeps, 0, (size_t)m->ranked.count * sizeof *keeps);
	for (int i = 0; i < size; i++)
		keeps[groups[i]] = true;
	*out = (struct variant_choice){ .name = name,
		.formats = material_choice(m, keeps, NULL, err) };
	return out->formats != NULL;
}

static int count_alone(int groups)
{
	return groups < QUALITY_ALONE ? groups : QUALITY_ALONE;
}

/* From the least sensitive group to the most, both included. */
static int ranked_alone(const struct baseline *b, int i)
{
	int last = count_alone(b->count) - 1;
	return b->ranking[last ? (int)((int64_t)i * (b->count - 1) / last) : 0];
}

bool quality_choices(struct material *m, struct variant_choice *choices, int *count_out,
                     error *err)
{
	size_t room = (size_t)m->ranked.count;
	int *groups = arena_alloc(&m->memory, room, sizeof *groups, err);
	int *drawn = groups ? arena_alloc(&m->memory, room, sizeof *drawn, err) : NULL;
	bool *keeps = drawn ? arena_alloc(&m->memory, room, sizeof *keeps, err) : NULL;
	uint64_t state = 0x9E3779B97F4A7C15u;
	if (!keeps)
		return false;
	int count = m->ranked.count;
	memcpy(groups, m->ranked.ranking, room * sizeof *groups);
	memcpy(drawn, groups, room * sizeof *drawn);
	for (int cut = 0; cut < QUALITY_CUTS; cut++) {
		int size = size_of(count, cut);
		if (!choose(m, groups, size, NAMES[cut], keeps, choices++, err))
			return false;
		for (int d = 0; d < QUALITY_DRAWS; d++) {
			shuffle(drawn, count, &state);
			if (!choose(m, drawn, size, NAMES[cut], keeps, choices++, err))
				return false;
		}
	}
	if (!choose(m, groups + count - size_of(count, HALF), size_of(count, HALF),
	            "reversed", keeps, choices++, err))
		return false;
	for (int i = 0; i < count_alone(count); i++) {
		int group = ranked_alone(&m->ranked, i);
		if (!choose(m, &group, 1, m->ranked.groups[group].name, keeps, choices++, err))
			return false;
	}
	*count_out = QUALITY_SETS + count_alone(count);
	return true;
}

static bool kl_of(const struct damage *d, double *kl, error *err)
{
	struct damage_summary s;
	if (!summarise_damage(d, &s, err))
		return false;
	*kl = s.kl.mean;
	return true;
}

/* KL of `a` over that of `b`, both of the same samples. */
static bool ratio_of(const struct damage *a, const struct damage *b, struct estimate *out,
                     error *err)
{
	double *kl = calloc(2 * (size_t)a->count + 1, sizeof *kl);
	if (!kl)
		return fail_memory(err, "ratios", 2ULL * (size_t)a->count * sizeof *kl);
	for (int i = 0; i < a->count; i++) {
		kl[i] = a->samples[i].kl;
		kl[a->count + i] = b->samples[i].kl;
	}
	*out = estimate_ratio(kl, kl + a->count, a->count);
	free(kl);
	return true;
}

/* draws[] holds the KLs of damage[QUALITY_DRAWS]; of an odd number one is the median. */
static bool compare_median(const double *draws, const struct damage *damage,
                           const struct damage *least, double *middle,
                           struct estimate *ratio, error *err)
{
	double sorted[QUALITY_DRAWS];
	int d = 0;
	memcpy(sorted, draws, sizeof sorted);
	*middle = median(sorted, QUALITY_DRAWS);
	while (d < QUALITY_DRAWS - 1 && draws[d] != *middle)
		d++;
	return ratio_of(least, &damage[d], ratio, err);
}

static bool judge_alone(const struct baseline *b, const struct damage *damage,
                        struct quality *out, error *err)
{
	double scores[QUALITY_ALONE], kls[QUALITY_ALONE];
	out->alone_count = count_alone(b->count);
	for (int i = 0; i < out->alone_count; i++) {
		const struct scored_group *group = &b->groups[ranked_alone(b, i)];
		if (!kl_of(&damage[i], &kls[i], err))
			return false;
		scores[i] = group->importance;
		out->alone[i] = (struct group_alone){ group->name, scores[i], kls[i] };
	}
	return rank_correlation(scores, kls, out->alone_count, &out->correlation, err);
}

bool judge_quality(const struct material *m, const struct damage *damage,
                   struct quality *out, error *err)
{
	const struct damage *all = damage;
	*out = (struct quality){ 0 };
	for (int cut = 0; cut < QUALITY_CUTS; cut++) {
		const struct damage *least = damage++;
		out->sizes[cut] = size_of(m->ranked.count, cut);
		if (!kl_of(least, &out->least[cut], err))
			return false;
		for (int d = 0; d < QUALITY_DRAWS; d++)
			if (!kl_of(&damage[d], &out->draws[cut][d], err))
				return false;
		if (!compare_median(out->draws[cut], damage, least, &out->medians[cut],
		                    &out->of_median[cut], err))
			return false;
		damage += QUALITY_DRAWS;
		out->cut_holds[cut] = out->least[cut] <= out->medians[cut] / 2;
	}
	if (!kl_of(damage, &out->reversed, err) ||
	    !ratio_of(all + HALF * (1 + QUALITY_DRAWS), damage, &out->of_reversed, err))
		return false;
	out->reversed_holds = out->least[HALF] <= out->reversed / 5;
	return judge_alone(&m->ranked, damage + 1, out, err);
}

static void add_alone(struct json_tree *tree, const struct quality *q)
{
	cJSON *alone = tree_object(tree, tree->root, "alone");
	tree_number(tree, alone, "rank_correlation", q->correlation);
	cJSON *groups = tree_array(tree, alone, "groups");
	for (int i = 0; i < q->alone_count; i++) {
		cJSON *item = tree_object(tree, groups, NULL);
		tree_text(tree, item, "name", q->alone[i].name);
		tree_number(tree, item, "score", q->alone[i].score);
		tree_number(tree, item, "kl", q->alone[i].kl);
	}
}

bool print_quality(const struct quality *q, const struct damage_facts *facts, text *out,
                   error *err)
{
	struct json_tree tree = tree_new();
	bool holds = q->reversed_holds;
	tree_text(&tree, tree.root, "baseline", facts->baseline);
	tree_text(&tree, tree.root, "set", facts->set);
	tree_text(&tree, tree.root, "data", facts->data);
	tree_boolean(&tree, tree.root, "stand_in", facts->stand_in);
	cJSON *cuts = tree_array(&tree, tree.root, "cuts");
	for (int cut = 0; cut < QUALITY_CUTS; cut++) {
		cJSON *item = tree_object(&tree, cuts, NULL);
		tree_number(&tree, item, "percent", quality_percent(cut));
		tree_number(&tree, item, "groups", q->sizes[cut]);
		tree_number(&tree, item, "least_sensitive_kl", q->least[cut]);
		cJSON *draws = tree_array(&tree, item, "random_kl");
		for (int d = 0; d < QUALITY_DRAWS; d++)
			tree_number(&tree, draws, NULL, q->draws[cut][d]);
		tree_number(&tree, item, "random_median_kl", q->medians[cut]);
		add_estimate(&tree, item, "ratio", q->of_median[cut]);
		tree_boolean(&tree, item, "holds", q->cut_holds[cut]);
		holds = holds && q->cut_holds[cut];
	}
	cJSON *reversed = tree_object(&tree, tree.root, "reversed");
	tree_number(&tree, reversed, "percent", quality_percent(HALF));
	tree_number(&tree, reversed, "kl", q->reversed);
	add_estimate(&tree, reversed, "ratio", q->of_reversed);
	tree_boolean(&tree, reversed, "holds", q->reversed_holds);
	add_alone(&tree, q);
	tree_boolean(&tree, tree.root, "holds", holds);
	return tree_finish(&tree, out, err);
}
