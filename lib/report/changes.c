/* See changes.h. */
#include "lib/report/changes.h"

#include <stdlib.h>
#include <string.h>

#include "lib/report/format.h"

static int find_ranked(const struct baseline *b, const char *name)
{
	for (int g = 0; g < b->count; g++)
		if (strcmp(b->groups[g].name, name) == 0)
			return g;
	return -1;
}

static bool keeps_named(const struct found_scheme *s, const char *name)
{
	int g = s->coverage.total ? find_ranked(&s->baseline->ranked, name) : -1;
	return g >= 0 && s->coverage.keeps[g];
}

/* Groups that `a` quantises and `b` does not. */
static int print_only(const struct found_scheme *a, const struct found_scheme *b, char mark,
                      text *out)
{
	const struct baseline *ranked = &a->baseline->ranked;
	int count = 0;
	for (int i = 0; i < a->coverage.total; i++) {
		const char *name = ranked->groups[i].name;
		if (!a->coverage.keeps[i] || keeps_named(b, name))
			continue;
		text_printf(out, "  %c %.*s\n", mark, group_length(name), name);
		count++;
	}
	return count;
}

static void print_groups(const struct found_scheme *a, const struct found_scheme *b,
                         text *out)
{
	text_puts(out, "quantised groups (- only in the first, + only in the second)\n");
	if (!a->coverage.total || !b->coverage.total)
		text_puts(out, "  " NOT_THERE "\n");
	else if (print_only(a, b, '-', out) + print_only(b, a, '+', out) == 0)
		text_puts(out, "  the same\n");
}

static void print_number(const char *name, const char *format, double a, double b, text *out)
{
	char x[SHOWN_BYTES], y[SHOWN_BYTES], d[SHOWN_BYTES];
	double change = is_missing(a) || is_missing(b) ? MISSING : b - a;
	text_printf(out, "%-22s %14s %14s %14s\n", name, show(x, format, a),
	            show(y, format, b), show(d, format, change));
}

static void print_sizes(const struct found_scheme *a, const struct found_scheme *b, text *out)
{
	bool x = a->coverage.total > 0, y = b->coverage.total > 0;
	text_printf(out, "%-22s %14s %14s %14s\n", "", "first", "second", "change");
	print_number("groups quantised", "%.0f", x ? a->coverage.selected : MISSING,
	             y ? b->coverage.selected : MISSING, out);
	print_number("bits delivered", "%.3f", x ? a->coverage.delivered_bits : MISSING,
	             y ? b->coverage.delivered_bits : MISSING, out);
	print_number("model bits", "%.3f", a->model_bits, b->model_bits, out);
	print_number("checkpoint bytes", "%.0f", a->bytes, b->bytes, out);
}

/* The paired difference of two columns of sums, per token. */
static bool pair(const struct found_set *set, const double *a, const double *b, int count,
                 struct estimate *out, error *err)
{
	double *differences = calloc((size_t)count + 1, sizeof *differences);
	if (!differences)
		return fail_memory(err, "differences", 0);
	for (int i = 0; i < count; i++)
		differences[i] = b[i] - a[i];
	*out = estimate_ratio(differences, set->sample_tokens, count);
	free(differences);
	return true;
}

static bool print_damage_change(const char *name, const struct found_set *set,
                                struct estimate a, struct estimate b, const double *as,
                                const double *bs, int count, text *out, error *err)
{
	struct estimate change = { MISSING, -1 };
	char x[SHOWN_BYTES], y[SHOWN_BYTES], d[SHOWN_BYTES];
	if (as && bs && count == set->sample_count &&
	    !pair(set, as, bs, count, &change, err))
		return false;
	bool real = change.error >= 0 && (change.mean > 2 * change.error ||
	                                  change.mean < -2 * change.error);
	text_printf(out, "%-22s %14s %14s %22s  %s\n", name, show(x, "%.3e", a.mean),
	            show(y, "%.3e", b.mean), show_estimate(d, "%+.3e", change),
	            is_missing(change.mean) || change.error < 0 ? ""
	            : real ? "beyond two standard errors" : "within two standard errors");
	return true;
}

static bool print_set_changes(const struct findings *f, const struct found_scheme *a,
                              const struct found_scheme *b, int set, text *out, error *err)
{
	const struct found_damage *x = &a->damage[set], *y = &b->damage[set];
	const struct found_set *s = &a->baseline->sets[set];
	int count = x->samples == y->samples ? x->samples : -1;
	text_printf(out, "damage on %s\n", f->sets[set]);
	return print_damage_change("KL per answer token", s, x->kl, y->kl, x->sample_kl,
	                           y->sample_kl, count, out, err) &&
	       print_damage_change("loss change per token", s, x->loss_change, y->loss_change,
	                           x->sample_loss, y->sample_loss, count, out, err);
}

/* Rank among the groups that both have. */
static int shared_rank(const struct baseline *b, const struct baseline *other, int group)
{
	int rank = 1;
	for (int g = 0; g < b->count; g++)
		rank += b->groups[g].rank < b->groups[group].rank &&
		        find_ranked(other, b->groups[g].name) >= 0;
	return rank;
}

/* Where the groups of both rankings stand, in the order of the first. */
static void print_moves(const struct baseline *a, const struct baseline *b, text *out)
{
	int moved = 0;
	text_puts(out, "ranks that moved, among the groups of both (first, second; 1 is the "
	          "least sensitive)\n");
	for (int i = 0; i < a->count; i++) {
		int group = a->ranking[i], other = find_ranked(b, a->groups[group].name);
		if (other < 0)
			continue;
		int from = shared_rank(a, b, group), to = shared_rank(b, a, other);
		if (from == to)
			continue;
		text_printf(out, "  %4d %4d  %.*s\n", from, to,
		            group_length(a->groups[group].name), a->groups[group].name);
		moved++;
	}
	if (!moved)
		text_puts(out, "  none\n");
}

bool print_changes(const struct findings *f, const struct found_scheme *a,
                   const struct found_scheme *b, text *out, error *err)
{
	text_printf(out, "first   %s\nsecond  %s\n\n", a->name, b->name);
	print_sizes(a, b, out);
	for (int set = 0; set < f->set_count; set++)
		if (!print_set_changes(f, a, b, set, out, err))
			return false;
	text_puts(out, "\n");
	print_groups(a, b, out);
	if (a->baseline != b->baseline)
		print_moves(&a->baseline->ranked, &b->baseline->ranked, out);
	return text_ok(out, err);
}
