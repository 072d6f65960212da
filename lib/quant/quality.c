/* See quality.h. */
#include "lib/quant/quality.h"

#include <string.h>

#include "lib/base/json_tree.h"

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
	out->name = name;
	out->keeps = material_choice(m, keeps, err);
	return out->keeps != NULL;
}

bool quality_choices(struct material *m, struct variant_choice *choices, error *err)
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
	return choose(m, groups + count - size_of(count, HALF), size_of(count, HALF),
	              "reversed", keeps, choices, err);
}

static bool kl_of(const struct damage *d, double *kl, error *err)
{
	struct damage_summary s;
	if (!summarise_damage(d, &s, err))
		return false;
	*kl = s.kl.mean;
	return true;
}

bool judge_quality(const struct material *m, const struct damage *damage,
                   struct quality *out, error *err)
{
	*out = (struct quality){ 0 };
	for (int cut = 0; cut < QUALITY_CUTS; cut++) {
		double sorted[QUALITY_DRAWS];
		out->sizes[cut] = size_of(m->ranked.count, cut);
		if (!kl_of(damage++, &out->least[cut], err))
			return false;
		for (int d = 0; d < QUALITY_DRAWS; d++)
			if (!kl_of(damage++, &out->draws[cut][d], err))
				return false;
		memcpy(sorted, out->draws[cut], sizeof sorted);
		out->medians[cut] = median(sorted, QUALITY_DRAWS);
		out->cut_holds[cut] = out->least[cut] <= out->medians[cut] / 2;
	}
	if (!kl_of(damage, &out->reversed, err))
		return false;
	out->reversed_holds = out->least[HALF] <= out->reversed / 5;
	return true;
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
		tree_boolean(&tree, item, "holds", q->cut_holds[cut]);
		holds = holds && q->cut_holds[cut];
	}
	cJSON *reversed = tree_object(&tree, tree.root, "reversed");
	tree_number(&tree, reversed, "percent", quality_percent(HALF));
	tree_number(&tree, reversed, "kl", q->reversed);
	tree_boolean(&tree, reversed, "holds", q->reversed_holds);
	tree_boolean(&tree, tree.root, "holds", holds);
	return tree_finish(&tree, out, err);
}
