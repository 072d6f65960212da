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

enum { COLOURS = 7, SHAPES = 4 };

static int baseline_of(const struct findings *f, const struct found_scheme *s)
{
	return (int)(s->baseline - f->baselines);
}

/* Circle, square, diamond, triangle: colours alone do not tell everyone. */
static void draw_shape(text *out, int shape, double x, double y)
{
	static const char *const paths[SHAPES - 1] = { "m-4.5-4.5h9v9h-9z", "m0-6l6 6-6 6-6-6z",
		"m0-5.5l5.5 9.5h-11z" };
	if (shape == 0)
		text_printf(out, "cx=\"%.1f\" cy=\"%.1f\" r=5", x, y);
	else
		text_printf(out, "d=\"M%.1f %.1f%s\"", x, y, paths[shape - 1]);
}

/* An open element: whoever calls puts a title in it and closes it. */
static const char *open_mark(text *out, int baseline, bool hollow, double x, double y)
{
	int shape = baseline % SHAPES;
	const char *element = shape ? "path" : "circle";
	text_printf(out, "<%s class=%c%d ", element, hollow ? 'h' : 'c', baseline % COLOURS);
	draw_shape(out, shape, x, y);
	text_puts(out, ">");
	return element;
}

static void add_small_mark(text *out, int baseline, bool hollow)
{
	text_puts(out, "<svg class=mark viewBox=\"0 0 16 16\" aria-hidden=true>");
	text_printf(out, "</%s></svg>", open_mark(out, baseline, hollow, 8, 8));
}

void add_mark(const struct findings *f, const struct found_scheme *s, text *out)
{
	add_small_mark(out, baseline_of(f, s), !s->family);
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
	short_scheme(name, sizeof name, f, s);
	if (kl.error > 0) {
		double low = kl.mean - kl.error, floor = pow(10, a->y.low);
		text_printf(out, "<path class=\"bar s%d\" d=\"M%.1f %.1fV%.1f\"/>",
		            baseline_of(f, s) % COLOURS, x, place_y(a, low > floor ? low : floor),
		            place_y(a, kl.mean + kl.error));
	}
	const char *element = open_mark(out, baseline_of(f, s), !s->family, x, y);
	text_puts(out, "<title>");
	add_escaped(out, name);
	text_printf(out, ": %.2f bits, KL %s</title></%s>\n", s->model_bits,
	            show_estimate(shown, "%.2e", kl), element);
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
		text_puts(out, "<span>");
		add_small_mark(out, i, false);
		add_escaped(out, f->baselines[i].name);
		text_puts(out, " and its cuts</span> ");
	}
	text_puts(out, "<span>hollow: of no family</span> <span><i class=line></i>Pareto line: no scheme has both fewer "
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

static void add_kind_legend(const struct found_baseline *b, const char *more, text *out)
{
	bool seen[KIND_COUNT] = { false };
	for (int g = 0; g < b->groups.count; g++)
		seen[b->groups.groups[g].kind] = true;
	text_puts(out, "<p class=legend>");
	for (int k = 0; k < KIND_COUNT; k++)
		if (seen[k])
			text_printf(out, "<span><i class=b%d></i>%s</span> ", k,
			            group_kind_name((enum group_kind)k));
	text_printf(out, "<span><i class=hollow></i>hollow: vision tower</span> %s</p>\n", more);
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
	add_kind_legend(b, "<span>bars: two standard errors</span>", out);
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

/* ---- two ways to score the same groups ---- */

static void draw_pair(const struct found_baseline *b, const struct axes *a, int group,
                      double x, double y, text *out)
{
	const struct scored_group *s = &b->ranked.groups[group];
	const struct group *shape = group < b->groups.count ? &b->groups.groups[group] : NULL;
	if (x > 0 && y > 0)
		text_printf(out, "<circle class=%c%d cx=\"%.1f\" cy=\"%.1f\" r=4.5><title>%.*s: "
		            "%.3e, %.3e</title></circle>\n", shape && shape->vision ? 'h' : 'c',
		            shape ? (int)shape->kind : 0, place_x(a, x), place_y(a, y),
		            group_length(s->name), s->name, x, y);
}

/* Scores x[group] of b's groups against y[group], MISSING where there is none. */
static bool plot_pairs(const struct found_baseline *b, const double *y, const char *x_name,
                       const char *y_name, double *correlation, text *out, error *err)
{
	struct axes a = { axis_empty(1), axis_empty(1) };
	size_t groups = (size_t)b->ranked.count;
	double *pairs = calloc(2 * groups + 1, sizeof *pairs);
	int count = 0;
	if (!pairs)
		return fail_memory(err, "a plot", 2ULL * groups * sizeof *pairs);
	for (int g = 0; g < b->ranked.count; g++) {
		if (is_missing(y[g]))
			continue;
		pairs[count] = b->ranked.groups[g].importance;
		pairs[groups + (size_t)count++] = y[g];
		axis_add(&a.x, b->ranked.groups[g].importance);
		axis_add(&a.y, y[g]);
	}
	bool ok = rank_correlation(pairs, pairs + groups, count, correlation, err);
	free(pairs);
	axis_finish(&a.x);
	axis_finish(&a.y);
	add_kind_legend(b, "", out);
	open_plot(out, &a, "Scores of the same groups, two ways", x_name, y_name);
	for (int g = 0; g < b->ranked.count; g++)
		if (!is_missing(y[g]))
			draw_pair(b, &a, g, b->ranked.groups[g].importance, y[g], out);
	close_plot(out);
	return ok;
}

static double *missing_scores(const struct found_baseline *b, error *err)
{
	double *scores = calloc((size_t)b->ranked.count + 1, sizeof *scores);
	if (!scores)
		fail_memory(err, "scores", (unsigned long long)b->ranked.count * sizeof *scores);
	for (int g = 0; scores && g < b->ranked.count; g++)
		scores[g] = MISSING;
	return scores;
}

bool plot_alone(const struct found_baseline *b, double *correlation, text *out, error *err)
{
	const cJSON *alone = cJSON_GetObjectItemCaseSensitive(b->quality, "alone");
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(alone, "groups");
	double *kl = missing_scores(b, err);
	int found = 0;
	*correlation = MISSING;
	if (!kl)
		return false;
	for (item = item ? item->child : NULL; item; item = item->next) {
		const cJSON *name = cJSON_GetObjectItemCaseSensitive(item, "name");
		for (int g = 0; cJSON_IsString(name) && g < b->ranked.count; g++)
			if (strcmp(b->ranked.groups[g].name, name->valuestring) == 0) {
				kl[g] = quality_number(item, "kl");
				found++;
			}
	}
	bool ok = true;
	if (found)
		ok = plot_pairs(b, kl, "score", "KL per graded token, the group alone", correlation,
		                out, err);
	else
		say_nothing_there(out);
	free(kl);
	return ok;
}

bool plot_methods(const struct found_baseline *x, const struct found_baseline *y,
                  double *correlation, text *out, error *err)
{
	double *scores = missing_scores(x, err);
	if (!scores)
		return false;
	for (int g = 0; g < x->ranked.count; g++)
		for (int i = 0; i < y->ranked.count; i++)
			if (strcmp(x->ranked.groups[g].name, y->ranked.groups[i].name) == 0)
				scores[g] = y->ranked.groups[i].importance;
	bool ok = plot_pairs(x, scores, x->method, y->method, correlation, out, err);
	free(scores);
	return ok;
}
