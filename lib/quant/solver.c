/* Exact multiple-choice knapsack; see solver.h.
 *
 * With a multiplier p >= 0 (score per unit of cost) every choice within budget B has
 *   score = L + sum(excess) + p * (B - cost),  L = sum over groups min(s + p c) - p B
 * where the excess of a candidate is s + p c less its group's minimum. So L is a
 * lower bound, and a choice whose excesses add up to more than best - L is no better
 * than the best one known. */
#include "lib/quant/solver.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "lib/base/arena.h"

enum { MAX_STATES = 1 << 20, MAX_NODES = 1 << 25 };

static const double TOLERANCE = 1e-12; /* relative */

/* A set of decisions; the groups not yet decided are at their base candidate. */
struct state {
	double score, cost, excess;
	int32_t node; /* how it came about; -1: nothing decided otherwise */
};

struct node {
	int32_t parent, group, candidate;
};

/* A group worth deciding, and the least excess that leaving its base costs. */
struct core_group {
	int group;
	double least;
};

struct search {
	const struct candidate_list *groups;
	int count;
	double budget, multiplier, bound; /* p and L above */
	int *base;        /* [count] minimises s + p c, and is feasible as a whole */
	double *minimum;  /* [count] of s + p c */
	struct core_group *core;
	int core_count;
	struct state *states, *next; /* ascending cost, descending score */
	int state_count;
	struct node *nodes;
	int node_count, node_room;
	struct state best;
	bool gave_up;
	arena memory;
};

/* ---- the multiplier ---- */

static double priced(const struct candidate *c, double multiplier)
{
	return c->score + multiplier * c->cost;
}

/* The candidate of least s + p c; of equal ones the cheaper, then the first. */
static int cheapest_priced(const struct candidate_list *g, double p)
{
	int best = 0;
	for (int c = 1; c < g->count; c++) {
		double a = priced(&g->candidates[c], p), b = priced(&g->candidates[best], p);
		if (a < b || (a == b && g->candidates[c].cost < g->candidates[best].cost))
			best = c;
	}
	return best;
}

static double base_cost(const struct search *s, double p)
{
	double cost = 0;
	for (int g = 0; g < s->count; g++) {
		const struct candidate_list *list = &s->groups[g];
		cost += list->candidates[cheapest_priced(list, p)].cost;
	}
	return cost;
}

static int compare_doubles(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;
	return left < right ? -1 : left > right;
}

/* Where the base of some group changes: slopes between two of its candidates. */
static int list_slopes(const struct search *s, double *slopes)
{
	int count = 0;
	for (int g = 0; g < s->count; g++) {
		const struct candidate_list *list = &s->groups[g];
		for (int a = 0; a < list->count; a++)
			for (int b = 0; b < list->count; b++) {
				const struct candidate *dear = &list->candidates[a];
				const struct candidate *cheap = &list->candidates[b];
				if (cheap->cost < dear->cost && cheap->score > dear->score)
					slopes[count++] = (cheap->score - dear->score) /
					                  (dear->cost - cheap->cost);
			}
	}
	qsort(slopes, (size_t)count, sizeof *slopes, compare_doubles);
	return count;
}

/* The smallest multiplier whose base is within the budget; there the bound is highest.
 * A hair above the slope, so that rounding does not keep the dearer candidate. */
static bool find_multiplier(struct search *s, error *err)
{
	size_t pairs = 0;
	for (int g = 0; g < s->count; g++)
		pairs += (size_t)s->groups[g].count * (size_t)s->groups[g].count;
	double *slopes = arena_alloc(&s->memory, pairs, sizeof *slopes, err);
	if (!slopes)
		return false;
	int low = 0, high = list_slopes(s, slopes);
	if (base_cost(s, 0) <= s->budget)
		return true;
	/* slopes[high] is enough; the largest of them always is. */
	high--;
	while (low < high) {
		int middle = low + (high - low) / 2;
		if (base_cost(s, slopes[middle] * (1 + 1e-14)) <= s->budget)
			high = middle;
		else
			low = middle + 1;
	}
	s->multiplier = slopes[high] * (1 + 1e-14);
	return true;
}

/* ---- the core ---- */

static int compare_core(const void *a, const void *b)
{
	const struct core_group *left = a, *right = b;
	if (left->least != right->least)
		return left->least < right->least ? -1 : 1;
	return left->group - right->group;
}

static bool prepare(struct search *s, error *err)
{
	size_t count = (size_t)s->count;
	s->base = arena_alloc(&s->memory, count, sizeof *s->base, err);
	s->minimum = s->base ? arena_alloc(&s->memory, count, sizeof *s->minimum, err) : NULL;
	s->core = s->minimum ? arena_alloc(&s->memory, count, sizeof *s->core, err) : NULL;
	if (!s->core || !find_multiplier(s, err))
		return false;
	s->bound = -s->multiplier * s->budget;
	s->best = (struct state){ .node = -1 };
	for (int g = 0; g < s->count; g++) {
		const struct candidate_list *list = &s->groups[g];
		const struct candidate *base;
		s->base[g] = cheapest_priced(list, s->multiplier);
		base = &list->candidates[s->base[g]];
		s->minimum[g] = priced(base, s->multiplier);
		s->bound += s->minimum[g];
		s->best.score += base->score;
		s->best.cost += base->cost;
		double least = INFINITY;
		for (int c = 0; c < list->count; c++)
			if (c != s->base[g])
				least = fmin(least, priced(&list->candidates[c], s->multiplier) -
				                    s->minimum[g]);
		if (least < INFINITY)
			s->core[s->core_count++] = (struct core_group){ g, least };
	}
	qsort(s->core, (size_t)s->core_count, sizeof *s->core, compare_core);
	return true;
}

/* ---- dynamic programming ---- */

/* What a better solution's excesses may add up to. */
static double allowance(const struct search *s)
{
	return s->best.score - s->bound - TOLERANCE * fabs(s->best.score);
}

static void consider(struct search *s, const struct state *state)
{
	if (state->cost > s->budget)
		return;
	if (state->score < s->best.score ||
	    (state->score == s->best.score && state->cost < s->best.cost))
		s->best = *state;
}

static int compare_states(const void *a, const void *b)
{
	const struct state *left = a, *right = b;
	if (left->cost != right->cost)
		return left->cost < right->cost ? -1 : 1;
	if (left->score != right->score)
		return left->score < right->score ? -1 : 1;
	return left->node < right->node ? -1 : left->node > right->node;
}

static bool add_node(struct search *s, struct node node, error *err)
{
	if (s->node_count == s->node_room) {
		int room = s->node_room ? 2 * s->node_room : 4096;
		struct node *more = realloc(s->nodes, (size_t)room * sizeof *more);
		if (!more)
			return fail_memory(err, "the solver's decisions", (size_t)room * sizeof *more);
		s->nodes = more;
		s->node_room = room;
	}
	s->nodes[s->node_count++] = node;
	return true;
}

/* Every state with every candidate of the group that can still pay off. */
static bool expand(struct search *s, int group, int *made, error *err)
{
	const struct candidate_list *list = &s->groups[group];
	const struct candidate *base = &list->candidates[s->base[group]];
	*made = 0;
	for (int c = 0; c < list->count; c++) {
		const struct candidate *k = &list->candidates[c];
		double excess = c == s->base[group] ? 0 : priced(k, s->multiplier) -
		                                          s->minimum[group];
		for (int i = 0; i < s->state_count; i++) {
			struct state state = s->states[i];
			if (!(state.excess + excess <= allowance(s)))
				continue;
			if (*made == MAX_STATES || s->node_count == MAX_NODES) {
				s->gave_up = true;
				return true;
			}
			state.excess += excess;
			if (c != s->base[group]) {
				state.score += k->score - base->score;
				state.cost += k->cost - base->cost;
				if (!add_node(s, (struct node){ state.node, group, c }, err))
					return false;
				state.node = s->node_count - 1;
				consider(s, &state);
			}
			s->next[(*made)++] = state;
		}
	}
	return true;
}

/* Keeps the states that no cheaper one beats and that may still lead to a better
 * solution; one over the budget has at least `least` more excess before it. */
static void prune(struct search *s, int made, double least)
{
	double score = INFINITY, room = allowance(s);
	qsort(s->next, (size_t)made, sizeof *s->next, compare_states);
	s->state_count = 0;
	for (int i = 0; i < made; i++) {
		const struct state *state = &s->next[i];
		double excess = state->excess + (state->cost > s->budget ? least : 0);
		if (!(state->score < score))
			continue;
		score = state->score;
		if (excess <= room)
			s->states[s->state_count++] = *state;
	}
}

static bool search_core(struct search *s, error *err)
{
	s->states = malloc(sizeof *s->states * MAX_STATES);
	s->next = malloc(sizeof *s->next * MAX_STATES);
	if (!s->states || !s->next)
		return fail_memory(err, "the solver's states", sizeof *s->states * MAX_STATES);
	s->states[0] = s->best;
	s->state_count = 1;
	for (int i = 0; i < s->core_count && !s->gave_up; i++) {
		int made;
		if (s->state_count == 0 || s->core[i].least > allowance(s))
			break;
		if (!expand(s, s->core[i].group, &made, err))
			return false;
		prune(s, made, i + 1 < s->core_count ? s->core[i + 1].least : INFINITY);
	}
	return true;
}

/* ---- the answer ---- */

static void trace(const struct search *s, int *choice, struct solution *out)
{
	for (int g = 0; g < s->count; g++)
		choice[g] = s->base[g];
	for (int32_t n = s->best.node; n >= 0; n = s->nodes[n].parent)
		choice[s->nodes[n].group] = s->nodes[n].candidate;
	/* Added up afresh: the running sums carry the order they were made in. */
	out->score = out->cost = 0;
	for (int g = 0; g < s->count; g++) {
		out->score += s->groups[g].candidates[choice[g]].score;
		out->cost += s->groups[g].candidates[choice[g]].cost;
	}
	out->optimal = !s->gave_up;
	out->bound = s->gave_up ? fmin(s->bound, out->score) : out->score;
}

static double least_cost(const struct candidate_list *groups, int count)
{
	double total = 0;
	for (int g = 0; g < count; g++) {
		double least = groups[g].candidates[0].cost;
		for (int c = 1; c < groups[g].count; c++)
			least = fmin(least, groups[g].candidates[c].cost);
		total += least;
	}
	return total;
}

bool solve_budget(const struct candidate_list *groups, int count, double budget,
                  int *choice, struct solution *out, error *err)
{
	struct search s = { .groups = groups, .count = count, .budget = budget };
	*out = (struct solution){ .least_cost = least_cost(groups, count) };
	out->feasible = out->least_cost <= budget;
	if (!out->feasible)
		return true;
	bool ok = prepare(&s, err) && search_core(&s, err);
	if (ok)
		trace(&s, choice, out);
	free(s.states);
	free(s.next);
	free(s.nodes);
	arena_free(&s.memory);
	return ok;
}
