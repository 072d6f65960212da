/* See plots.h. */
#include "lib/report/plots.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/report/axes.h"
#include "lib/report/format.h"

static void say_nothing_there(text *out)
{
	text_puts(out, "<p class=missing>" NOT_THERE ": no artifact has these numbers.</p>\n");
}

/* ---- damage against bits ---- */

int family_colour(const struct findings *f, const struct found_scheme *s)
{
	return (int)(s->baseline - f->baselines) % 7;
}

static bool is_drawn(const struct found_scheme *s, int set)
{
	return !is_missing(s->model_bits) && !is_missing(s->damage[set].kl.mean) &&
	       s->damage[set].kl.mean > 0;
}

static int compare_bits(const void *a, const void *b)
{
	const struct found_scheme *x = *(const struct found_scheme *const *)a;
	const struct found_scheme *y = *(const struct found_scheme *const *)b;
	return (x->model_bits > y->model_bits) - (x->model_bits < y->model_bits);
}

/* Schemes that no other beats in both bits and damage, from few bits to many. */
static int find_pareto(const struct found_scheme **sorted, int count, int set)
{
	int kept = 0;
	for (int i = 0; i < count; i++) {
		double kl = sorted[i]->damage[set].kl.mean;
		if (kept && sorted[i]->model_bits == sorted[kept - 1]->model_bits) {
			if (kl < sorted[kept - 1]->damage[set].kl.mean)
				sorted[kept - 1] = sorted[i];
		} else if (!kept || kl < sorted[kept - 1]->damage[set].kl.mean) {
			sorted[kept++] = sorted[i];
		}
	}
	return kept;
}

static void draw_scheme(const struct findings *f, const struct axes *a,
                        const struct found_scheme *s, int set, text *out)
{
	const struct estimate kl = s->damage[set].kl;
	char name[160], shown[SHOWN_BYTES];
	double x = place_x(a, s->model_bits), y = place_y(a, kl.mean);
	short_name(name, sizeof name, s->name);
	if (kl.error > 0) {
		double low = kl.mean - kl.error, floor = pow(10, a->y.low);
		text_printf(out, "<path class=\"bar s%d\" d=\"M%.1f %.1fV%.1f\"/>",
		            family_colour(f, s), x, place_y(a, low > floor ? low : floor),
		            place_y(a, kl.mean + kl.error));
	}
	text_printf(out, "<circle class=c%d cx=\"%.1f\" cy=\"%.1f\" r=5><title>",
	            family_colour(f, s), x, y);
	add_escaped(out, name);
	text_printf(out, ": %.2f bits, KL %s</title></circle>\n", s->model_bits,
	            show_estimate(shown, "%.2e", kl));
}

/* The last part of the name, "top50": colour and legend say the rest. Left out where it
 * would lie on the one before. */
static void label_pareto(const struct axes *a, const struct found_scheme *const *front,
                         int count, int set, text *out)
{
	double last = -INFINITY, height = 0;
	for (int i = 0; i < count; i++) {
		char name[160];
		double x = place_x(a, front[i]->model_bits);
		double y = place_y(a, front[i]->damage[set].kl.mean);
		short_name(name, sizeof name, front[i]->name);
		const char *part = strrchr(name, '_');
		if (x - last < 44 && fabs(y - height) < 14)
			continue;
		text_printf(out, "<text class=label x=\"%.1f\" y=\"%.1f\">", x + 6, y - 7);
		add_escaped(out, part ? part + 1 : name);
		text_puts(out, "</text>\n");
		last = x;
		height = y;
	}
}

static void draw_pareto(const struct axes *a, const struct found_scheme *const *front,
                        int count, int set, text *out)
{
	text_puts(out, "<path class=pareto d=\"");
	for (int i = 0; i < count; i++)
		text_printf(out, "%c%.1f %.1f", i ? 'L' : 'M', place_x(a, front[i]->model_bits),
		            place_y(a, front[i]->damage[set].kl.mean));
	text_puts(out, "\"/>\n");
	label_pareto(a, front, count, set, out);
}

/* A logarithmic axis has no place for them. */
static void add_undamaged(const struct findings *f, int set, text *out)
{
	int count = 0;
	for (int i = 0; i < f->scheme_count; i++) {
		char name[160];
		if (is_missing(f->schemes[i].damage[set].kl.mean) ||
		    f->schemes[i].damage[set].kl.mean > 0)
			continue;
		short_name(name, sizeof name, f->schemes[i].name);
		text_puts(out, count++ ? ", " : "<p class=legend>Not drawn, KL 0: ");
		add_escaped(out, name);
	}
	text_puts(out, count ? ".</p>\n" : "");
}

static void add_family_legend(const struct findings *f, text *out)
{
	text_puts(out, "<p class=legend>");
	for (int i = 0; i < f->baseline_count; i++) {
		text_printf(out, "<span><i class=b%d></i>", i % 7);
		add_escaped(out, f->baselines[i].name);
		text_puts(out, " and its cuts</span> ");
	}
	text_puts(out, "<span><i class=line></i>Pareto line: no scheme has both fewer "
	          "bits and less damage</span></p>\n");
}

bool plot_damage(const struct findings *f, int set, text *out, error *err)
{
	struct axes a = { axis_empty(0), axis_empty(1) };
	const struct found_scheme **drawn = calloc((size_t)f->scheme_count + 1, sizeof *drawn);
	int count = 0;
	if (!drawn)
		return fail_memory(err, "a plot", 0);
	for (int i = 0; i < f->scheme_count; i++) {
		const struct found_scheme *s = &f->schemes[i];
		if (!is_drawn(s, set))
			continue;
		drawn[count++] = s;
		axis_add(&a.x, s->model_bits);
		axis_add(&a.y, s->damage[set].kl.mean);
	}
	if (count) {
		axis_finish(&a.x);
		axis_finish(&a.y);
		add_family_legend(f, out);
		open_plot(out, &a, "Damage against bits", "bits per linear weight, whole model",
		          "KL per answer token");
		for (int i = 0; i < count; i++)
			draw_scheme(f, &a, drawn[i], set, out);
		qsort(drawn, (size_t)count, sizeof *drawn, compare_bits);
		count = find_pareto(drawn, count, set);
		draw_pareto(&a, drawn, count, set, out);
		close_plot(out);
		add_undamaged(f, set, out);
	} else {
		say_nothing_there(out);
	}
	free(drawn);
	return true;
}

/* ---- sensitivity ---- */

static void draw_group(const struct found_baseline *b, const struct confidence *c,
                       const struct axes *a, int g, text *out)
{
	const struct scored_group *s = &b->ranked.groups[g];
	const struct group *shape = &b->groups.groups[g];
	double x = place_x(a, g), floor = pow(10, a->y.low);
	double error = c->blocks > 1 ? 2 * c->errors[g] : 0;
	double low = s->importance - error;
	if (error > 0)
		text_printf(out, "<path class=\"bar s%d\" d=\"M%.1f %.1fV%.1f\"/>", shape->kind, x,
		            place_y(a, low > floor ? low : floor),
		            place_y(a, s->importance + error));
	text_printf(out, shape->vision
	            ? "<circle class=h%d cx=\"%.1f\" cy=\"%.1f\" r=4.5><title>%.*s: %.3e, rank "
	              "%d of %d</title></circle>\n"
	            : "<circle class=c%d cx=\"%.1f\" cy=\"%.1f\" r=4.5><title>%.*s: %.3e, rank "
	              "%d of %d</title></circle>\n", shape->kind, x, place_y(a, s->importance),
	            group_length(s->name), s->name, s->importance, s->rank, b->ranked.count);
}

static void add_kind_legend(const struct found_baseline *b, text *out)
{
	bool seen[KIND_COUNT] = { false };
	for (int g = 0; g < b->groups.count; g++)
		seen[b->groups.groups[g].kind] = true;
	text_puts(out, "<p class=legend>");
	for (int k = 0; k < KIND_COUNT; k++)
		if (seen[k])
			text_printf(out, "<span><i class=b%d></i>%s</span> ", k,
			            group_kind_name((enum group_kind)k));
	text_puts(out, "<span><i class=hollow></i>hollow: vision tower</span> <span>bars: two "
	          "standard errors</span></p>\n");
}

void plot_sensitivity(const struct found_baseline *b, const struct confidence *c, text *out)
{
	struct axes a = { axis_empty(0), axis_empty(1) };
	for (int g = 0; g < b->groups.count; g++) {
		axis_add(&a.x, g);
		axis_add(&a.y, b->ranked.groups[g].importance);
	}
	if (axis_is_empty(&a.y)) {
		say_nothing_there(out);
		return;
	}
	axis_finish(&a.x);
	axis_finish(&a.y);
	add_kind_legend(b, out);
	open_plot(out, &a, "Sensitivity of every group", "group, in model order",
	          "score");
	for (int g = 0; g < b->groups.count; g++)
		if (b->ranked.groups[g].importance > 0)
			draw_group(b, c, &a, g, out);
	close_plot(out);
}

/* ---- settling ---- */

void plot_settling(const struct confidence *c, text *out)
{
	static const int shown[] = { 1, 4, 7 }; /* top 20, 50, 80 % */
	struct axes a = { { 0.8, c->blocks + 0.2, 0 }, { 0, 1.04, 0 } };
	if (c->blocks < 2) {
		say_nothing_there(out);
		return;
	}
	text_puts(out, "<p class=legend>");
	for (int i = 0; i < 3; i++)
		text_printf(out, "<span><i class=b%d></i>top %d %%</span> ", i, 10 * (shown[i] + 1));
	text_puts(out, "</p>\n");
	open_plot(out, &a, "How the cut settles", "blocks of score samples counted",
	          "share of the final cut");
	for (int i = 0; i < 3; i++) {
		const double *settled = c->settled + shown[i] * c->blocks;
		text_printf(out, "<path class=\"curve s%d\" d=\"", i);
		for (int n = 0; n < c->blocks; n++)
			text_printf(out, "%c%.1f %.1f", n ? 'L' : 'M', place_x(&a, n + 1),
			            place_y(&a, settled[n]));
		text_puts(out, "\"/>\n");
		for (int n = 0; n < c->blocks; n++)
			text_printf(out, "<circle class=c%d cx=\"%.1f\" cy=\"%.1f\" r=4><title>top %d %% "
			            "after %d blocks: %.0f %%</title></circle>\n", i,
			            place_x(&a, n + 1), place_y(&a, settled[n]), 10 * (shown[i] + 1),
			            n + 1, 100 * settled[n]);
	}
	close_plot(out);
}

/* ---- two methods ---- */

/* The importance of y's group of that name, or -1. */
static double importance_of(const struct baseline *b, const char *name)
{
	for (int g = 0; g < b->count; g++)
		if (strcmp(b->groups[g].name, name) == 0)
			return b->groups[g].importance;
	return -1;
}

bool plot_methods(const struct found_baseline *x, const struct found_baseline *y,
                  double *correlation, text *out, error *err)
{
	struct axes a = { axis_empty(1), axis_empty(1) };
	size_t groups = (size_t)x->ranked.count;
	double *pairs = calloc(2 * groups + 1, sizeof *pairs);
	int count = 0;
	if (!pairs)
		return fail_memory(err, "a plot", 2ULL * groups * sizeof *pairs);
	for (int g = 0; g < x->ranked.count; g++) {
		double other = importance_of(&y->ranked, x->ranked.groups[g].name);
		if (other < 0)
			continue;
		pairs[count] = x->ranked.groups[g].importance;
		pairs[groups + (size_t)count++] = other;
		axis_add(&a.x, pairs[count - 1]);
		axis_add(&a.y, other);
	}
	bool ok = rank_correlation(pairs, pairs + groups, count, correlation, err);
	axis_finish(&a.x);
	axis_finish(&a.y);
	open_plot(out, &a, "Scores by two methods", x->method, y->method);
	for (int i = 0; i < count; i++)
		if (pairs[i] > 0 && pairs[groups + (size_t)i] > 0)
			text_printf(out, "<circle class=c0 cx=\"%.1f\" cy=\"%.1f\" r=4.5 />\n",
			            place_x(&a, pairs[i]), place_y(&a, pairs[groups + (size_t)i]));
	close_plot(out);
	free(pairs);
	return ok;
}
