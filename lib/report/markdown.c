/* report-fp8-autoquant-schemes.md */
#include "lib/report/report.h"

#include <math.h>
#include <stdio.h>

#include "lib/report/confidence.h"
#include "lib/report/format.h"
#include "lib/report/probes.h"

static void print_settings(const struct findings *f, text *out)
{
	char a[SHOWN_BYTES], b[SHOWN_BYTES];
	text_puts(out, "## Settings\n\n|baseline|method|format|profile|numerics|scales|data|"
	          "prompt|calibration samples|score samples|groups|\n"
	          "|---|---|---|---|---|---|---|---|---:|---:|---:|\n");
	for (int i = 0; i < f->baseline_count; i++) {
		const struct found_baseline *p = &f->baselines[i];
		text_printf(out, "|%s|%s|%s|%s|%s|%s|%s%s|%s|%s|%s|", p->name, show_text(p->method),
		            p->format, p->profile, show_text(p->numerics), show_text(p->scales),
		            show_text(p->data), p->stand_in ? " (stand-in)" : "",
		            show_text(p->prompt), show(a, "%.0f", p->calib_samples),
		            show(b, "%.0f", p->score_samples));
		text_printf(out, "%s|\n", show(a, "%.0f", p->ranked.count ? p->ranked.count
		                                                          : MISSING));
	}
}

static void print_schemes(const struct findings *f, text *out)
{
	char a[SHOWN_BYTES], b[SHOWN_BYTES], c[SHOWN_BYTES], d[SHOWN_BYTES], e[SHOWN_BYTES];
	text_puts(out, "\n## Schemes\n\nBits: average over the groups of the scheme's own "
	          "baseline. Model bits: over all linear layers of the widest baseline, "
	          "comparable between families.\n\n"
	          "|scheme|groups quantised|left in BF16|formats|bits asked|bits delivered|"
	          "model bits|checkpoint MB|verified|\n"
	          "|---|---:|---:|---|---:|---:|---:|---:|---|\n");
	for (int i = 0; i < f->scheme_count; i++) {
		const struct found_scheme *s = &f->schemes[i];
		const struct coverage *k = &s->coverage;
		bool known = k->total > 0;
		text_printf(out, "|%s|%s|%s|", s->name,
		            show(a, "%.0f", known ? k->selected : MISSING),
		            show(b, "%.0f", known ? k->total - k->selected : MISSING));
		add_formats(out, s);
		text_printf(out, "|%s|%s|%s|", show(c, "%.2f", known ? k->asked_bits : MISSING),
		            show(d, "%.2f", known ? k->delivered_bits : MISSING),
		            show(e, "%.2f", s->model_bits));
		text_printf(out, "%s|%s|\n", show(a, "%.1f", is_missing(s->bytes) ? MISSING
		                                                                : s->bytes / 1e6),
		            is_missing(s->verified) ? NOT_THERE : "yes");
	}
}

static void print_set(const struct findings *f, int set, text *out)
{
	char a[SHOWN_BYTES], b[SHOWN_BYTES], c[SHOWN_BYTES], d[SHOWN_BYTES], e[SHOWN_BYTES];
	text_printf(out, "\n### On %s\n\n", f->sets[set]);
	for (int i = 0; i < f->baseline_count; i++) {
		const struct found_set *s = &f->baselines[i].sets[set];
		text_printf(out, "%s: %s%s, %s samples, %s graded tokens, perplexity unquantised "
		            "%s.\n\n", f->baselines[i].name, show_text(s->data),
		            s->stand_in ? " (stand-in)" : "", show(a, "%.0f", s->samples),
		            show(b, "%.0f", s->tokens), show(c, "%.4f", s->base_perplexity));
	}
	text_puts(out, "|scheme|perplexity|loss change|KL mean|KL 99 %|KL max|top-1 agreement|"
	          "last token MSE|last token KL|\n|---|---:|---:|---:|---:|---:|---:|---:|---:|\n");
	for (int i = 0; i < f->scheme_count; i++) {
		const struct found_damage *m = &f->schemes[i].damage[set];
		text_printf(out, "|%s|%s|%s|%s|%s|%s|", f->schemes[i].name,
		            show(a, "%.4f", m->perplexity),
		            show_estimate(b, "%+.2e", m->loss_change),
		            show_estimate(c, "%.2e", m->kl), show(d, "%.2e", m->kl_p99),
		            show(e, "%.2e", m->kl_max));
		text_printf(out, "%s|%s|%s|\n", show_estimate(a, "%.4f", m->agreement),
		            show_estimate(b, "%.2e", m->last_mse),
		            show_estimate(c, "%.2e", m->last_kl));
	}
}

static void print_consumers(const struct findings *f, text *out)
{
	text_puts(out, "\n## What consumers make of them\n\nHow many quantised linears a reader "
	          "keeps in BF16 whatever it is told.\n\n|scheme|finding|\n|---|---|\n");
	for (int i = 0; i < f->scheme_count; i++) {
		const struct found_scheme *s = &f->schemes[i];
		text_printf(out, "|%s|", s->name);
		if (!s->lost)
			text_puts(out, NOT_THERE);
		for (const cJSON *reader = s->lost ? s->lost->child : NULL; reader;
		     reader = reader->next)
			text_printf(out, "%s%s %g", reader == s->lost->child ? "" : ", ",
			            reader->string, reader->valuedouble);
		text_puts(out, "|\n");
	}
}

static const char *verdict(const cJSON *item)
{
	const cJSON *holds = cJSON_GetObjectItemCaseSensitive(item, "holds");
	return !holds ? NOT_THERE : cJSON_IsTrue(holds) ? "holds" : "FAILS";
}

static void print_quality_table(const struct found_baseline *b, text *out)
{
	const cJSON *cuts = cJSON_GetObjectItemCaseSensitive(b->quality, "cuts");
	const cJSON *reversed = cJSON_GetObjectItemCaseSensitive(b->quality, "reversed");
	char l[SHOWN_BYTES], m[SHOWN_BYTES], r[SHOWN_BYTES];
	const cJSON *alone = cJSON_GetObjectItemCaseSensitive(b->quality, "alone");
	text_printf(out, "\n## Is the ranking of %s better than chance\n\n|least sensitive|KL|"
	            "of other choices|ratio|must be|verdict|\n|---|---:|---:|---:|---|---|\n",
	            b->name);
	for (const cJSON *cut = cuts ? cuts->child : NULL; cut; cut = cut->next)
		text_printf(out, "|%g %%|%s|median of random ones %s|%s|at most 0.5|%s|\n",
		            quality_number(cut, "percent"),
		            show(l, "%.2e", quality_number(cut, "least_sensitive_kl")),
		            show(m, "%.2e", quality_number(cut, "random_median_kl")),
		            show_estimate(r, "%.3f", quality_estimate(cut, "ratio")), verdict(cut));
	text_printf(out, "|50 %%|%s|reversed ranking %s|%s|at most 0.2|%s|\n",
	            show(l, "%.2e", quality_number(cuts && cuts->child ? cuts->child->next : NULL,
	                                           "least_sensitive_kl")),
	            show(m, "%.2e", quality_number(reversed, "kl")),
	            show_estimate(r, "%.3f", quality_estimate(reversed, "ratio")),
	            verdict(reversed));
	text_printf(out, "\nRank correlation of scores and KL, some groups quantised alone: %s.\n",
	            show(r, "%.3f", quality_number(alone, "rank_correlation")));
}

static bool print_confidence(const struct found_baseline *b, text *out, error *err)
{
	struct confidence c;
	arena memory = { 0 };
	char a[SHOWN_BYTES], d[SHOWN_BYTES];
	if (!confidence_make(&c, b, &memory, err)) {
		arena_free(&memory);
		return false;
	}
	text_printf(out, "\n## How sure the ranking of %s is\n\n", b->name);
	text_printf(out, "Standard errors from %s blocks of samples.\n\n|cut|groups|share within "
	            "two standard errors|kept at half of the blocks|\n|---|---:|---:|---:|\n",
	            show(a, "%.0f", c.blocks ? c.blocks : MISSING));
	for (int cut = 0; cut < CUTS && c.groups; cut++)
		text_printf(out, "|top %d %%|%d|%s|%s|\n", 10 * (cut + 1), cut_size(c.groups, cut),
		            show(a, "%.2f", c.unsure[cut] < 0 ? MISSING : c.unsure[cut]),
		            show(d, "%.2f", c.blocks < 2 ? MISSING
		                            : c.settled[cut * c.blocks + c.blocks / 2 - 1]));
	text_puts(out, "\n|group|kind|tower|rank|score|standard error|\n|---|---|---|---:|---:|"
	          "---:|\n");
	for (int i = c.groups - 1; i >= 0; i--) {
		int g = b->ranked.ranking[i];
		const struct scored_group *s = &b->ranked.groups[g];
		const struct group *shape = g < b->groups.count ? &b->groups.groups[g] : NULL;
		text_printf(out, "|%.*s|%s|%s|%d|%.3e|%s|\n", group_length(s->name), s->name,
		            shape ? group_kind_name(shape->kind) : NOT_THERE,
		            !shape ? NOT_THERE : shape->vision ? "vision" : "language", s->rank,
		            s->importance,
		            show(a, "%.1e", c.errors[g] < 0 || !c.blocks ? MISSING : c.errors[g]));
	}
	arena_free(&memory);
	return true;
}

bool print_report_markdown(const struct findings *f, text *out, error *err)
{
	text_printf(out, "# FP8 AutoQuant schemes of %s\n\nEvery number is read from an artifact "
	            "of the build; what has none says \"" NOT_THERE "\". ± is one standard error "
	            "over samples, every sample paired with itself unquantised.\n\n", f->model);
	print_settings(f, out);
	print_schemes(f, out);
	text_puts(out, "\n## Damage\n");
	for (int k = 0; k < f->set_count; k++)
		print_set(f, k, out);
	print_consumers(f, out);
	if (!print_probes_markdown(f, out, err))
		return false;
	for (int i = 0; i < f->baseline_count; i++) {
		print_quality_table(&f->baselines[i], out);
		if (!print_confidence(&f->baselines[i], out, err))
			return false;
	}
	return text_ok(out, err);
}
