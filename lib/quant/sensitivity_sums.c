/* See sensitivity_sums.h. */
#include "lib/quant/sensitivity_sums.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What groups are added up by. */
enum sums_by { BY_TOWER, BY_KIND, BY_BLOCK, BY_COUNT };

static const char *const TITLES[BY_COUNT] = { "Tower", "Kind", "Block" };
static const char *const FIELDS[BY_COUNT] = { "by_tower", "by_kind", "by_block" };

struct sum {
	char name[64];
	int groups;
	double score, cost;
};

static void name_sum(char out[64], const struct group *g, enum sums_by by)
{
	const char *tower = g->vision ? "vision" : "language";
	if (by == BY_TOWER)
		snprintf(out, 64, "%s", tower);
	else if (by == BY_KIND)
		snprintf(out, 64, "%s %s", tower, group_kind_name(g->kind));
	else if (g->block >= 0)
		snprintf(out, 64, "%s %d", tower, g->block);
	else
		snprintf(out, 64, "%s, outside blocks", tower);
}

/* sums[groups] in the order of their first group; returns how many. */
static int add_up(const struct ranking *r, enum sums_by by, struct sum *sums)
{
	int count = 0;
	for (int g = 0; g < r->groups.count; g++) {
		const struct scored_group *scored = &r->baseline.groups[g];
		char name[64];
		int i = 0;
		name_sum(name, &r->groups.groups[g], by);
		while (i < count && strcmp(sums[i].name, name) != 0)
			i++;
		if (i == count) {
			sums[count] = (struct sum){ .groups = 0 };
			memcpy(sums[count++].name, name, sizeof name);
		}
		sums[i].groups++;
		sums[i].score += scored->scores[0];
		sums[i].cost += scored->costs[0];
	}
	return count;
}

static struct sum *take_sums(const struct ranking *r, error *err)
{
	size_t count = (size_t)r->groups.count;
	struct sum *sums = calloc(count + 1, sizeof *sums);
	if (!sums)
		fail_memory(err, "sums", (unsigned long long)count * sizeof *sums);
	return sums;
}

bool print_sums_table(const struct ranking *r, text *out, error *err)
{
	struct sum *sums = take_sums(r, err);
	if (!sums)
		return false;
	for (enum sums_by by = BY_TOWER; by < BY_COUNT; by++) {
		int count = add_up(r, by, sums);
		text_printf(out, "\n|%s|Groups|Sensitivity, sum|Sensitivity, mean|Costs|\n"
		            "| :--- | :--- | :--- | :--- | :--- |\n", TITLES[by]);
		for (int i = 0; i < count; i++)
			text_printf(out, "|%s|%d|%.3e|%.3e|%.3e|\n", sums[i].name, sums[i].groups,
			            sums[i].score, sums[i].score / sums[i].groups, sums[i].cost);
	}
	free(sums);
	return true;
}

bool add_sums(struct json_tree *tree, const struct ranking *r, error *err)
{
	struct sum *sums = take_sums(r, err);
	if (!sums)
		return false;
	for (enum sums_by by = BY_TOWER; by < BY_COUNT; by++) {
		int count = add_up(r, by, sums);
		cJSON *table = tree_object(tree, tree->root, FIELDS[by]);
		for (int i = 0; i < count; i++) {
			cJSON *row = tree_object(tree, table, sums[i].name);
			tree_number(tree, row, "groups", sums[i].groups);
			tree_number(tree, row, "sensitivity", sums[i].score);
			tree_number(tree, row, "cost", sums[i].cost);
		}
	}
	free(sums);
	return true;
}
