/* See confidence.h. */
#include "lib/report/confidence.h"

#include <math.h>
#include <string.h>

int cut_size(int groups, int cut)
{
	int size = (groups * (cut + 1) + 9) / 10;
	return size < 1 ? 1 : size;
}

static void find_errors(struct confidence *c, const struct found_baseline *b)
{
	int n = c->blocks;
	for (int g = 0; g < c->groups; g++) {
		const double *scores = b->block_scores + g * n;
		double mean = 0, squares = 0;
		for (int i = 0; i < n; i++)
			mean += scores[i] / n;
		for (int i = 0; i < n; i++)
			squares += (scores[i] - mean) * (scores[i] - mean);
		c->errors[g] = n > 1 ? sqrt(squares * n / (n - 1)) : -1;
	}
}

static double find_unsure(const struct confidence *c, const struct baseline *b, int size)
{
	if (c->blocks < 2 || size >= c->groups)
		return -1;
	double below = b->groups[b->ranking[size - 1]].importance;
	double above = b->groups[b->ranking[size]].importance;
	double cut = sqrt(below * above);
	int unsure = 0;
	for (int g = 0; g < c->groups; g++)
		unsure += fabs(b->groups[g].importance - cut) < 2 * c->errors[g];
	return (double)unsure / c->groups;
}

/* Whether group g is among the `size` least of sums, ties in module order. */
static bool is_kept(const double *sums, int count, int g, int size)
{
	int before = 0;
	for (int i = 0; i < count; i++)
		before += sums[i] < sums[g] || (sums[i] == sums[g] && i < g);
	return before < size;
}

static void settle(struct confidence *c, const struct found_baseline *b, double *sums)
{
	memset(sums, 0, (size_t)c->groups * sizeof *sums);
	for (int i = 0; i < c->blocks; i++) {
		for (int g = 0; g < c->groups; g++)
			sums[g] += b->block_scores[g * c->blocks + i];
		for (int cut = 0; cut < CUTS; cut++) {
			int size = cut_size(c->groups, cut), same = 0;
			for (int g = 0; g < c->groups; g++)
				same += b->ranked.groups[g].rank <= size &&
				        is_kept(sums, c->groups, g, size);
			c->settled[cut * c->blocks + i] = (double)same / size;
		}
	}
}

bool confidence_make(struct confidence *c, const struct found_baseline *b, arena *memory,
                     error *err)
{
	*c = (struct confidence){ .groups = b->ranked.count, .blocks = b->block_count };
	size_t groups = (size_t)c->groups, blocks = (size_t)c->blocks;
	c->errors = arena_alloc(memory, groups + 1, sizeof *c->errors, err);
	c->settled = arena_alloc(memory, CUTS * blocks + 1, sizeof *c->settled, err);
	double *sums = arena_alloc(memory, groups + 1, sizeof *sums, err);
	if (!c->errors || !c->settled || !sums)
		return false;
	find_errors(c, b);
	for (int cut = 0; cut < CUTS; cut++)
		c->unsure[cut] = find_unsure(c, &b->ranked, cut_size(c->groups, cut));
	settle(c, b, sums);
	return true;
}
