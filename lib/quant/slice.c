/* Slicing; see slice.h. */
#include "lib/quant/slice.h"

#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/quant/cost_table.h"
#include "lib/quant/solver.h"

const char *rule_kind_name(enum rule_kind kind)
{
	static const char *const names[] = { "full", "top_percent", "top_k_blocks", "list",
	                                     "manifest" };
	return names[kind];
}

bool can_keep(const struct scored_group *group)
{
	return is_candidate(group) && group_exportable(group->name);
}

bool glob_matches(const char *glob, const char *group)
{
	char module[NAME_BYTES];
	const char *suffix = strstr(group, ".quant_recipe");
	snprintf(module, sizeof module, "%.*s",
	         (int)(suffix ? suffix - group : (long)strlen(group)), group);
	return fnmatch(glob, module, 0) == 0;
}

static bool matches(const struct globs *globs, const char *group)
{
	for (int i = 0; i < globs->count; i++)
		if (glob_matches(globs->values[i], group))
			return true;
	return false;
}

/* ---- a coverage's frame ---- */

bool coverage_start(struct coverage *c, const struct baseline *b, const char *scheme,
                    const struct rule *rule, error *err)
{
	*c = (struct coverage){ .rule = *rule, .total = b->count };
	size_t count = (size_t)b->count;
	c->scheme = arena_text(&c->memory, scheme, strlen(scheme), err);
	c->order = c->scheme ? arena_alloc(&c->memory, count, sizeof *c->order, err) : NULL;
	c->wanted = c->order ? arena_alloc(&c->memory, count, sizeof *c->wanted, err) : NULL;
	c->keeps = c->wanted ? arena_alloc(&c->memory, count, sizeof *c->keeps, err) : NULL;
	c->choice = c->keeps ? arena_alloc(&c->memory, count, sizeof *c->choice, err) : NULL;
	c->free_of_cost = c->choice ? arena_alloc(&c->memory, count, sizeof(bool), err) : NULL;
	if (!c->free_of_cost) {
		coverage_free(c);
		return false;
	}
	for (int i = 0; i < b->count; i++)
		c->free_of_cost[i] = matches(&rule->cost_exclude, b->groups[i].name);
	return true;
}

void coverage_finish(struct coverage *c, const struct baseline *b)
{
	double delivered = 0, asked = 0, whole = 0;
	int next = 0;
	c->asked = c->selected = 0;
	for (int pass = 0; pass < 2; pass++)
		for (int i = 0; i < b->count; i++)
			if (c->keeps[b->ranking[i]] == (pass == 0))
				c->order[next++] = b->ranking[i];
	for (int i = 0; i < b->count; i++) {
		const struct scored_group *group = &b->groups[b->ranking[i]];
		bool wanted = c->wanted[b->ranking[i]], keeps = c->keeps[b->ranking[i]];
		double none = group->costs[group->format_count - 1];
		double chosen = group->costs[c->choice[b->ranking[i]]];
		c->asked += wanted;
		c->selected += keeps;
		if (c->free_of_cost[b->ranking[i]])
			continue;
		whole += none;
		asked += wanted ? chosen : none;
		delivered += keeps ? chosen : none;
	}
	c->delivered_bits = whole > 0 ? 16 * delivered / whole : 16;
	c->asked_bits = whole > 0 ? 16 * asked / whole : 16;
}

void coverage_free(struct coverage *c)
{
	arena_free(&c->memory);
	*c = (struct coverage){ 0 };
}

/* ---- the search ---- */

/* What the solver is given. */
struct search_input {
	struct candidate_list *lists; /* [group] */
	struct candidate *room;       /* [group][MAX_FORMATS] */
	int *first; /* [group]: the format that its candidate 0 stands for */
	double whole; /* cost of everything as it is */
};

/* The costs of a group's formats: a table's, or bits. */
static const double *costs_of(const struct coverage *c, const struct cost_table *table,
                              const struct scored_group *group, int index)
{
	static const double nothing[MAX_FORMATS];
	if (c->free_of_cost[index])
		return nothing;
	return table->costs ? table->costs[index] : group->costs;
}

/* A group as the solver is to see it: pinned ones have one candidate, and so have
 * those that cannot keep any format. */
static void add_group(const struct coverage *c, const struct scored_group *group,
                      const double *costs, int index, struct search_input *in)
{
	struct candidate *own = in->room + (size_t)index * MAX_FORMATS;
	int first = 0, last = group->format_count;
	if (!can_keep(group) || matches(&c->rule.pin_bf16, group->name))
		first = last - 1;
	else if (matches(&c->rule.pin_quantised, group->name))
		last = 1;
	for (int f = first; f < last; f++)
		own[f - first] = (struct candidate){ group->scores[f], costs[f] };
	in->lists[index] = (struct candidate_list){ own, last - first };
	in->first[index] = first;
	in->whole += costs[group->format_count - 1];
}

static bool make_input(struct coverage *c, const struct baseline *b,
                       const struct cost_table *table, struct search_input *in, error *err)
{
	size_t count = (size_t)b->count;
	*in = (struct search_input){ 0 };
	in->room = arena_alloc(&c->memory, count * MAX_FORMATS, sizeof *in->room, err);
	in->lists = in->room ? arena_alloc(&c->memory, count, sizeof *in->lists, err) : NULL;
	in->first = in->lists ? arena_alloc(&c->memory, count, sizeof *in->first, err) : NULL;
	if (!in->first)
		return false;
	for (int g = 0; g < b->count; g++)
		add_group(c, &b->groups[g], costs_of(c, table, &b->groups[g], g), g, in);
	return true;
}

static bool fail_infeasible(const struct coverage *c, const struct baseline *b,
                            const struct cost_table *table, double least, double whole,
                            error *err)
{
	if (table->costs)
		return fail(err, EXIT_BAD_INPUT, "%s: baseline %s: a budget of %g %s cannot be "
		            "reached; the least reachable is %g", c->scheme, b->name,
		            c->rule.budget, table->unit, least);
	return fail(err, EXIT_BAD_INPUT,
	            "%s: baseline %s: effective_bits %g cannot be reached; the least "
	            "reachable is %.4f", c->scheme, b->name, c->rule.bits,
	            whole > 0 ? 16 * least / whole : 16);
}

/* choice[] from the solver; of a group that stays as it is, the index of NONE. */
static bool search_with(struct coverage *c, const struct baseline *b,
                        const struct cost_table *table, error *err)
{
	struct search_input in;
	struct solution s;
	if (!make_input(c, b, table, &in, err))
		return false;
	double budget = table->costs ? c->rule.budget : in.whole * c->rule.bits / 16;
	if (!solve_budget(in.lists, b->count, budget, c->choice, &s, err))
		return false;
	if (!s.feasible)
		return fail_infeasible(c, b, table, s.least_cost, in.whole, err);
	for (int g = 0; g < b->count; g++)
		c->choice[g] += in.first[g];
	c->gap = s.optimal ? 0 : s.score - s.bound;
	if (table->costs) {
		c->cost = s.cost;
		c->unit = arena_text(&c->memory, table->unit, strlen(table->unit), err);
	}
	return !table->costs || c->unit;
}

static bool search(struct coverage *c, const struct baseline *b, error *err)
{
	struct cost_table table = { 0 };
	if (c->rule.costs && !cost_table_read(&table, b, c->rule.costs, err))
		return false;
	bool ok = search_with(c, b, &table, err);
	cost_table_free(&table);
	return ok;
}

/* ---- the part that keeps it ---- */

/* ceil(percent/100 * total) without being misled by the binary value of
 * percent/100: 10 % of 30 is 3, not 4. */
static int count_for(double percent, int total)
{
	int count = (int)ceil(percent * total / 100.0 - 1e-9);
	if (count < 1)
		count = 1;
	return count < total ? count : total;
}

static int count_candidates(const struct baseline *b)
{
	int count = 0;
	for (int i = 0; i < b->count; i++)
		count += is_candidate(&b->groups[i]);
	return count;
}

static void want_percent(struct coverage *c, const struct baseline *b)
{
	int count = count_for(c->rule.percent, count_candidates(b));
	for (int i = 0; i < count; i++)
		c->wanted[b->ranking[i]] = true;
}

/* The name of the transformer block that a group is in; false if in none. */
static bool name_block(const char *group, char name[NAME_BYTES])
{
	static const char *const towers[] = { "visual.blocks.", "language_model.layers." };
	for (int t = 0; t < 2; t++) {
		size_t head = strlen(towers[t]);
		if (strncmp(group, towers[t], head) != 0)
			continue;
		int length = (int)(head + strspn(group + head, "0123456789"));
		snprintf(name, NAME_BYTES, "%.*s", length, group);
		return true;
	}
	return false;
}

/* Index among the blocks so far, a new one's included; -1: in no block. */
static int find_block(struct coverage *c, const char *group)
{
	char name[NAME_BYTES];
	if (!name_block(group, name))
		return -1;
	for (int i = 0; i < c->block_count; i++)
		if (strcmp(c->blocks[i].name, name) == 0)
			return i;
	snprintf(c->blocks[c->block_count].name, NAME_BYTES, "%s", name);
	return c->block_count++;
}

static void rank_blocks(struct coverage *c)
{
	int count = count_for(c->rule.percent, c->block_count);
	for (int i = 0; i < c->block_count; i++) {
		struct scored_block *block = &c->blocks[i];
		block->rank = 1;
		for (int k = 0; k < c->block_count; k++)
			block->rank += c->blocks[k].score < block->score ||
			               (c->blocks[k].score == block->score && k < i);
		block->selected = block->rank <= count;
	}
}

static bool want_blocks(struct coverage *c, const struct baseline *b, error *err)
{
	c->blocks = arena_alloc(&c->memory, (size_t)b->count, sizeof *c->blocks, err);
	if (!c->blocks)
		return false;
	for (int g = 0; g < b->count; g++) {
		int block = is_candidate(&b->groups[g]) ? find_block(c, b->groups[g].name) : -1;
		if (block >= 0)
			c->blocks[block].score += b->groups[g].importance;
	}
	if (c->block_count == 0)
		return fail(err, EXIT_BAD_INPUT, "%s: baseline %s has no transformer block",
		            c->scheme, b->name);
	rank_blocks(c);
	for (int g = 0; g < b->count; g++) {
		int block = is_candidate(&b->groups[g]) ? find_block(c, b->groups[g].name) : -1;
		c->wanted[g] = block >= 0 && c->blocks[block].selected;
	}
	return true;
}

/* Every glob must name something: a misspelt one would silently select nothing. */
static bool want_list(struct coverage *c, const struct baseline *b, error *err)
{
	for (int i = 0; i < c->rule.groups.count; i++) {
		const struct globs one = { &c->rule.groups.values[i], 1 };
		bool found = false;
		for (int g = 0; g < b->count; g++)
			if (is_candidate(&b->groups[g]) && matches(&one, b->groups[g].name))
				c->wanted[g] = found = true;
		if (!found)
			return fail(err, EXIT_BAD_INPUT, "%s: no group of baseline %s matches \"%s\"",
			            c->scheme, b->name, one.values[0]);
	}
	return true;
}

static bool want_manifest(struct coverage *c, const struct baseline *b, error *err)
{
	struct coverage other;
	if (!coverage_read(&other, b, c->rule.manifest, err))
		return false;
	for (int g = 0; g < b->count; g++) {
		c->wanted[g] = other.wanted[g];
		if (c->rule.bits == 0 && c->rule.budget == 0)
			c->choice[g] = other.choice[g];
	}
	coverage_free(&other);
	return true;
}

static bool want_groups(struct coverage *c, const struct baseline *b, error *err)
{
	switch (c->rule.kind) {
	case RULE_FULL:
		for (int g = 0; g < b->count; g++)
			c->wanted[g] = is_candidate(&b->groups[g]);
		return true;
	case RULE_TOP_PERCENT: want_percent(c, b); return true;
	case RULE_TOP_BLOCKS: return want_blocks(c, b, err);
	case RULE_LIST: return want_list(c, b, err);
	case RULE_MANIFEST: return want_manifest(c, b, err);
	}
	return false;
}

/* What is wanted, by the search and the pins. */
static void decide(struct coverage *c, const struct baseline *b)
{
	for (int g = 0; g < b->count; g++) {
		const struct scored_group *group = &b->groups[g];
		if (c->choice[g] == group->format_count - 1)
			c->wanted[g] = false;
		if (is_candidate(group) && matches(&c->rule.pin_quantised, group->name)) {
			c->wanted[g] = true;
			c->choice[g] = 0;
		}
		if (matches(&c->rule.pin_bf16, group->name))
			c->wanted[g] = false;
		c->keeps[g] = c->wanted[g] && can_keep(group);
	}
}

bool slice_baseline(struct coverage *c, const struct baseline *b, const char *scheme,
                    const struct rule *rule, error *err)
{
	if (!coverage_start(c, b, scheme, rule, err))
		return false;
	bool searches = rule->bits > 0 || rule->budget > 0;
	if ((searches && !search(c, b, err)) || !want_groups(c, b, err)) {
		coverage_free(c);
		return false;
	}
	decide(c, b);
	coverage_finish(c, b);
	return true;
}
