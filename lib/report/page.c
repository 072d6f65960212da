/* The HTML page. */
#include "lib/report/report.h"

#include <stdio.h>
#include <string.h>

#include "lib/report/confidence.h"
#include "lib/report/format.h"
#include "lib/report/page_parts.h"
#include "lib/report/plots.h"
#include "lib/report/probes.h"

/* ---- tables: a cell's data-v is what it sorts by ---- */

static void cell_text(text *out, const char *plain)
{
	text_puts(out, "<td>");
	add_escaped(out, plain ? plain : NOT_THERE);
	text_puts(out, "</td>");
}

static void cell_shown(text *out, double value, const char *shown)
{
	if (is_missing(value))
		text_puts(out, "<td class=\"n missing\" data-v=\"\">" NOT_THERE "</td>");
	else
		text_printf(out, "<td class=n data-v=\"%.9g\">%s</td>", value, shown);
}

static void cell_number(text *out, const char *format, double value)
{
	char shown[SHOWN_BYTES];
	cell_shown(out, value, show(shown, format, value));
}

static void cell_estimate(text *out, const char *format, struct estimate e)
{
	char shown[SHOWN_BYTES];
	cell_shown(out, e.mean, show_estimate(shown, format, e));
}

/* Titles separated by '|'; those that begin with '#' are of numbers. */
static void open_table(text *out, const char *titles)
{
	text_puts(out, "<div class=scroll><table class=sortable><thead><tr>");
	for (const char *at = titles; *at;) {
		size_t length = strcspn(at, "|");
		bool number = *at == '#';
		text_printf(out, "<th%s><button>%.*s</button></th>", number ? " class=n" : "",
		            (int)(length - number), at + number);
		at += length + (at[length] == '|');
	}
	text_puts(out, "</tr></thead><tbody>\n");
}

static void close_table(text *out)
{
	text_puts(out, "</tbody></table></div>\n");
}

/* ---- sections ---- */

static void add_settings(const struct findings *f, text *out)
{
	text_puts(out, "<h2>Settings</h2>\n");
	open_table(out, "Baseline|Method|Format|Profile|Numerics|Scales|Data|Prompt|"
	           "#Calibration samples|#Score samples|#Groups");
	for (int i = 0; i < f->baseline_count; i++) {
		const struct found_baseline *b = &f->baselines[i];
		text_puts(out, "<tr>");
		cell_text(out, b->name);
		cell_text(out, b->method);
		cell_text(out, b->format);
		cell_text(out, b->profile);
		cell_text(out, b->numerics);
		cell_text(out, b->scales);
		cell_text(out, b->data);
		cell_text(out, b->prompt);
		cell_number(out, "%.0f", b->calib_samples);
		cell_number(out, "%.0f", b->score_samples);
		cell_number(out, "%.0f", b->ranked.count ? b->ranked.count : MISSING);
		text_puts(out, "</tr>\n");
	}
	close_table(out);
}

/* What all names have around them is left out where there is no room. */
static void add_name(const struct findings *f, const struct found_scheme *s, text *out)
{
	char middle[160];
	short_scheme(middle, sizeof middle, f, s);
	size_t before = strlen(strstr(s->name, middle)), all = strlen(s->name);
	text_puts(out, "<tr><td>");
	add_mark(f, s, out);
	text_printf(out, "<span class=wide>%.*s</span>%s<span class=wide>%s</span></td>",
	            (int)(all - before), s->name, middle,
	            s->name + all - before + strlen(middle));
}

/* Of a table with many columns: the short name only. */
static void add_short_name(const struct findings *f, const struct found_scheme *s, text *out)
{
	char name[160];
	short_scheme(name, sizeof name, f, s);
	text_printf(out, "<tr title=\"%s\"><td>", s->name);
	add_mark(f, s, out);
	text_printf(out, "%s</td>", name);
}

static void add_consumers(const struct found_scheme *s, text *out)
{
	if (!s->lost) {
		text_puts(out, "<td class=missing>" NOT_THERE "</td>");
		return;
	}
	int fallen = 0;
	text_puts(out, "<td class=words>");
	for (const cJSON *reader = s->lost->child; reader; reader = reader->next) {
		if (!(reader->valuedouble > 0))
			continue;
		text_printf(out, "%s%s keeps %g in BF16", fallen++ ? "; " : "", reader->string,
		            reader->valuedouble);
	}
	text_puts(out, fallen ? "</td>" : "all load as written</td>");
}

static void add_schemes(const struct findings *f, text *out)
{
	text_puts(out, "<h2>Schemes</h2>\n<p>Bits are over the groups of the scheme's own "
	          "baseline; model bits over all linear layers, comparable between families. "
	          "Press a title to sort.</p>\n");
	open_table(out, "Scheme|#Quantised groups|#BF16 groups|Formats|#Bits asked|#Bits delivered|"
	           "#Model bits|#Checkpoint MB|Verified|Consumers");
	for (int i = 0; i < f->scheme_count; i++) {
		const struct found_scheme *s = &f->schemes[i];
		const struct coverage *c = &s->coverage;
		bool known = c->total > 0;
		add_name(f, s, out);
		cell_number(out, "%.0f", known ? c->selected : MISSING);
		cell_number(out, "%.0f", known ? c->total - c->selected : MISSING);
		text_puts(out, known ? "<td>" : "<td class=missing>");
		add_formats(out, s);
		text_puts(out, "</td>");
		cell_number(out, "%.2f", known ? c->asked_bits : MISSING);
		cell_number(out, "%.2f", known ? c->delivered_bits : MISSING);
		cell_number(out, "%.2f", s->model_bits);
		cell_number(out, "%.1f", is_missing(s->bytes) ? MISSING : s->bytes / 1e6);
		cell_text(out, is_missing(s->verified) ? NULL : "yes");
		add_consumers(s, out);
		text_puts(out, "</tr>\n");
	}
	close_table(out);
}

static void add_set_facts(const struct findings *f, int set, text *out)
{
	char a[SHOWN_BYTES], b[SHOWN_BYTES], c[SHOWN_BYTES];
	for (int i = 0; i < f->baseline_count; i++) {
		const struct found_set *s = &f->baselines[i].sets[set];
		if (!s->data)
			continue;
		text_puts(out, "<p>");
		add_escaped(out, s->data);
		text_printf(out, "%s: %s samples, %s graded tokens; perplexity of the model as it is "
		            "%s.</p>\n", s->stand_in ? " (stand-in)" : "",
		            show(a, "%.0f", s->samples), show(b, "%.0f", s->tokens),
		            show(c, "%.4f", s->base_perplexity));
		return;
	}
}

static bool add_damage(const struct findings *f, int set, text *out, error *err)
{
	text_puts(out, "<h2>Damage on ");
	add_escaped(out, f->sets[set]);
	text_puts(out, "</h2>\n");
	add_set_facts(f, set, out);
	if (!plot_damage(f, set, out, err))
		return false;
	open_table(out, "Scheme|#Model bits|#Perplexity|#Loss change|#KL mean|#KL 99 %|#KL max|"
	           "#Top-1 agreement|#Last token MSE|#Last token KL");
	for (int i = 0; i < f->scheme_count; i++) {
		const struct found_scheme *s = &f->schemes[i];
		const struct found_damage *d = &s->damage[set];
		add_short_name(f, s, out);
		cell_number(out, "%.2f", s->model_bits);
		cell_number(out, "%.4f", d->perplexity);
		cell_estimate(out, "%+.2e", d->loss_change);
		cell_estimate(out, "%.2e", d->kl);
		cell_number(out, "%.2e", d->kl_p99);
		cell_number(out, "%.2e", d->kl_max);
		cell_estimate(out, "%.4f", d->agreement);
		cell_estimate(out, "%.2e", d->last_mse);
		cell_estimate(out, "%.2e", d->last_kl);
		text_puts(out, "</tr>\n");
	}
	close_table(out);
	return true;
}

static void add_cuts(const struct confidence *c, text *out)
{
	open_table(out, "Cut|#Groups|#Share within two standard errors|#Stood at half of the "
	           "blocks");
	for (int cut = 0; cut < CUTS; cut++) {
		bool known = c->blocks > 1;
		text_printf(out, "<tr><td>top %d %%</td>", 10 * (cut + 1));
		cell_number(out, "%.0f", c->groups ? cut_size(c->groups, cut) : MISSING);
		cell_number(out, "%.2f", c->unsure[cut] < 0 ? MISSING : c->unsure[cut]);
		cell_number(out, "%.2f", known ? c->settled[cut * c->blocks + c->blocks / 2 - 1]
		                               : MISSING);
		text_puts(out, "</tr>\n");
	}
	close_table(out);
}

static void add_groups(const struct found_baseline *b, const struct confidence *c, text *out)
{
	text_puts(out, "<details><summary>Every group</summary>\n");
	open_table(out, "Group|Kind|Tower|#Rank|#Score|#Standard error");
	for (int g = 0; g < b->groups.count; g++) {
		const struct scored_group *s = &b->ranked.groups[g];
		const struct group *shape = &b->groups.groups[g];
		text_printf(out, "<tr><td><i class=b%d></i>%.*s</td>", shape->kind,
		            group_length(s->name), s->name);
		cell_text(out, group_kind_name(shape->kind));
		cell_text(out, shape->vision ? "vision" : "language");
		cell_number(out, "%.0f", s->rank);
		cell_number(out, "%.3e", s->importance);
		cell_number(out, "%.1e", c->blocks > 1 ? c->errors[g] : MISSING);
		text_puts(out, "</tr>\n");
	}
	close_table(out);
	text_puts(out, "</details>\n");
}

static void add_verdict(const cJSON *item, text *out)
{
	const cJSON *holds = cJSON_GetObjectItemCaseSensitive(item, "holds");
	cell_text(out, !holds ? NULL : cJSON_IsTrue(holds) ? "holds" : "FAILS");
	text_puts(out, "</tr>\n");
}

static void add_quality(const struct found_baseline *b, text *out)
{
	const cJSON *cuts = cJSON_GetObjectItemCaseSensitive(b->quality, "cuts");
	const cJSON *reversed = cJSON_GetObjectItemCaseSensitive(b->quality, "reversed");
	const cJSON *half = NULL;
	text_puts(out, "<h3>Better than chance</h3>\n");
	open_table(out, "Least sensitive|#KL|Against|#KL of these|#Ratio|Must be|Verdict");
	for (const cJSON *cut = cuts ? cuts->child : NULL; cut; cut = cut->next) {
		half = quality_number(cut, "percent") == 50 ? cut : half;
		text_puts(out, "<tr>");
		cell_number(out, "%.0f %%", quality_number(cut, "percent"));
		cell_number(out, "%.2e", quality_number(cut, "least_sensitive_kl"));
		cell_text(out, "median of random choices");
		cell_number(out, "%.2e", quality_number(cut, "random_median_kl"));
		cell_estimate(out, "%.3f", quality_estimate(cut, "ratio"));
		cell_text(out, "at most 0.5");
		add_verdict(cut, out);
	}
	text_puts(out, "<tr>");
	cell_number(out, "%.0f %%", 50);
	cell_number(out, "%.2e", quality_number(half, "least_sensitive_kl"));
	cell_text(out, "most sensitive");
	cell_number(out, "%.2e", quality_number(reversed, "kl"));
	cell_estimate(out, "%.3f", quality_estimate(reversed, "ratio"));
	cell_text(out, "at most 0.2");
	add_verdict(reversed, out);
	close_table(out);
}

static bool add_alone(const struct found_baseline *b, text *out, error *err)
{
	char shown[SHOWN_BYTES];
	double correlation;
	text_puts(out, "<h3>Scores against KL</h3>\n<p>Some groups quantised alone, evenly "
	          "spread over the ranks.</p>\n");
	if (!plot_alone(b, &correlation, out, err))
		return false;
	text_printf(out, "<p>Rank correlation: %s.</p>\n", show(shown, "%.3f", correlation));
	return true;
}

static bool add_ranking(const struct found_baseline *b, text *out, error *err)
{
	struct confidence c;
	arena memory = { 0 };
	bool ok = confidence_make(&c, b, &memory, err);
	if (ok) {
		text_puts(out, "<h2>Ranking of ");
		add_escaped(out, b->name);
		text_puts(out, "</h2>\n<h3>Sensitivity</h3>\n");
		plot_sensitivity(b, &c, out);
		add_groups(b, &c, out);
		text_puts(out, "<h3>How sure it is</h3>\n");
		plot_settling(&c, out);
		add_cuts(&c, out);
		add_quality(b, out);
		ok = add_alone(b, out, err);
	}
	arena_free(&memory);
	return ok;
}

/* Baselines of one method beside those of another. */
static bool add_methods(const struct findings *f, text *out, error *err)
{
	int pairs = 0;
	for (int i = 0; i < f->baseline_count; i++)
		for (int k = 0; k < f->baseline_count; k++) {
			const struct found_baseline *x = &f->baselines[i], *y = &f->baselines[k];
			double correlation;
			if (!x->method || !y->method || strcmp(x->method, "gradient") != 0 ||
			    strcmp(y->method, "gradient") == 0 || strcmp(x->format, y->format) != 0)
				continue;
			if (!pairs++)
				text_puts(out, "<h2>Gradient against KL</h2>\n");
			text_printf(out, "<h3>%s against %s</h3>\n", y->name, x->name);
			if (!plot_methods(x, y, &correlation, out, err))
				return false;
			text_printf(out, "<p>Rank correlation %.4f.</p>\n", correlation);
		}
	return true;
}

bool print_report_page(const struct findings *f, text *out, error *err)
{
	bool stand_in = false;
	for (int i = 0; i < f->baseline_count; i++)
		stand_in = stand_in || f->baselines[i].stand_in;
	text_puts(out, PAGE_TOP);
	add_escaped(out, f->model);
	text_puts(out, PAGE_STYLE "<h1>FP8 schemes of ");
	add_escaped(out, f->model);
	text_puts(out, "</h1>\n");
	if (stand_in)
		text_puts(out, "<p class=warning>Measured on stand-ins for the real model or "
		          "data.</p>\n");
	text_puts(out, "<p>Damage is measured against the model as it is, weights and "
	          "activations quantised as a server would. ± is one standard error over "
	          "samples, every sample paired with itself. Numbers come from the build's "
	          "artifacts; what has none says \"" NOT_THERE "\".</p>\n");
	add_schemes(f, out);
	for (int k = 0; k < f->set_count; k++)
		if (!add_damage(f, k, out, err))
			return false;
	if (!print_probes_page(f, out, err))
		return false;
	for (int i = 0; i < f->baseline_count; i++)
		if (!add_ranking(&f->baselines[i], out, err))
			return false;
	if (!add_methods(f, out, err))
		return false;
	add_settings(f, out);
	text_puts(out, PAGE_END);
	return text_ok(out, err);
}
