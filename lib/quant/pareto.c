/* Budget after budget through the exact search; see pareto.h. */
#include "lib/quant/pareto.h"

#include <math.h>
#include <string.h>

#include "lib/quant/slice.h"

/* Index among p->formats, a new one's included; -1 when there is no more room. */
static int find_format(struct pareto *p, const char *name)
{
	for (int f = 0; f < p->format_count; f++)
		if (strcmp(p->formats[f], name) == 0)
			return f;
	if (p->format_count == MAX_FORMATS)
		return -1;
	p->formats[p->format_count] = name;
	return p->format_count++;
}

static bool list_formats(struct pareto *p, error *err)
{
	const struct baseline *b = p->baseline;
	for (int g = 0; g < b->count; g++)
		for (int f = 0; f < b->groups[g].format_count - 1; f++)
			if (find_format(p, b->groups[g].formats[f]) < 0)
				return fail(err, EXIT_BAD_INPUT, "%s: expected at most %d formats",
				            b->doc.name, MAX_FORMATS);
	return true;
}

static double least_bits(const struct baseline *b)
{
	double least = 0, whole = 0;
	for (int g = 0; g < b->count; g++) {
		const struct scored_group *group = &b->groups[g];
		double cheapest = group->costs[group->format_count - 1];
		whole += cheapest;
		for (int f = 0; can_keep(group) && f < group->format_count; f++)
			cheapest = fmin(cheapest, group->costs[f]);
		least += cheapest;
	}
	return whole > 0 ? 16 * least / whole : 16;
}

static bool add_point(struct pareto *p, double bits, error *err)
{
	const struct baseline *b = p->baseline;
	const struct rule rule = { .kind = RULE_FULL, .bits = bits };
	struct coverage c;
	if (!slice_baseline(&c, b, b->name, &rule, err))
		return false;
	struct pareto_point *point = &p->points[p->count++];
	*point = (struct pareto_point){ .asked = bits, .delivered = c.delivered_bits,
		.gap = c.gap, .kept = c.selected };
	for (int g = 0; g < b->count; g++) {
		if (!c.keeps[g])
			continue;
		point->score += b->groups[g].scores[c.choice[g]];
		point->by_format[find_format(p, b->groups[g].formats[c.choice[g]])]++;
	}
	coverage_free(&c);
	return true;
}

bool pareto_make(struct pareto *p, const struct baseline *b, double step, error *err)
{
	*p = (struct pareto){ .baseline = b, .least = least_bits(b) };
	/* A hair above, lest rounding the bits to a cost lose the last unit. */
	double first = p->least * (1 + 1e-12);
	int steps = (int)floor((16 - first) / step);
	p->points = arena_alloc(&p->memory, (size_t)steps + 3, sizeof *p->points, err);
	bool ok = p->points && list_formats(p, err) && add_point(p, fmin(first, 16), err);
	double next = step * (floor(first / step) + 1);
	for (; ok && next < 16 - 1e-9; next += step)
		ok = add_point(p, next, err);
	ok = ok && (first >= 16 || add_point(p, 16, err));
	if (!ok)
		pareto_free(p);
	return ok;
}

void pareto_free(struct pareto *p)
{
	arena_free(&p->memory);
	*p = (struct pareto){ 0 };
}

bool print_pareto_table(const struct pareto *p, text *out, error *err)
{
	text_printf(out, "# Budgets against scores of %s\n\nLeast reachable: %.4f bits. Score: "
	            "the least total of any choice within the budget, proven where the gap is 0.\n\n"
	            "|Bits asked|Bits delivered|Total score|Gap|", p->baseline->name, p->least);
	for (int f = 0; f < p->format_count; f++)
		text_printf(out, "%s|", p->formats[f]);
	text_puts(out, "\n| ---: | ---: | ---: | ---: |");
	for (int f = 0; f < p->format_count; f++)
		text_puts(out, " ---: |");
	text_puts(out, "\n");
	for (int i = 0; i < p->count; i++) {
		const struct pareto_point *point = &p->points[i];
		text_printf(out, "|%.4g|%.4f|%.4e|%.1e|", point->asked, point->delivered,
		            point->score, point->gap);
		for (int f = 0; f < p->format_count; f++)
			text_printf(out, "%d|", point->by_format[f]);
		text_puts(out, "\n");
	}
	return text_ok(out, err);
}

bool print_pareto_csv(const struct pareto *p, text *out, error *err)
{
	text_puts(out, "bits_asked,bits_delivered,score,gap,groups_quantized\n");
	for (int i = 0; i < p->count; i++) {
		const struct pareto_point *point = &p->points[i];
		text_printf(out, "%.9g,%.9g,%.9g,%.9g,%d\n", point->asked, point->delivered,
		            point->score, point->gap, point->kept);
	}
	return text_ok(out, err);
}

bool print_pareto_json(const struct pareto *p, text *out, error *err)
{
	struct json_tree tree = tree_new();
	tree_text(&tree, tree.root, "baseline", p->baseline->name);
	tree_number(&tree, tree.root, "least_bits", p->least);
	cJSON *points = tree_array(&tree, tree.root, "points");
	for (int i = 0; i < p->count; i++) {
		const struct pareto_point *point = &p->points[i];
		cJSON *entry = tree_object(&tree, points, NULL);
		tree_number(&tree, entry, "bits_asked", point->asked);
		tree_number(&tree, entry, "bits_delivered", point->delivered);
		tree_number(&tree, entry, "score", point->score);
		tree_number(&tree, entry, "gap", point->gap);
		cJSON *formats = tree_object(&tree, entry, "groups");
		for (int f = 0; f < p->format_count; f++)
			tree_number(&tree, formats, p->formats[f], point->by_format[f]);
	}
	return tree_finish(&tree, out, err);
}
