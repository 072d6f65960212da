/* The edges that complete model cards. A checkpoint is exported before anybody knows what
 * it does to the model; its card gets that table later, from an edge of its own, so that
 * no export waits for an evaluation. */
#include <stdio.h>
#include <string.h>

#include "lib/graph/emit_internal.h"

static void add_damage_files(text *out, const struct plan *plan,
                             const struct catalog_baseline *b, const char *before,
                             const char *tree)
{
	for (int k = 0; k < plan->catalog->evaluation_count; k++) {
		char path[PATH_BYTES];
		if (!plan->evaluation_samples[k])
			continue;
		name_damage(path, b, &plan->catalog->evaluations[k], tree);
		text_printf(out, " $\n  %s%s", before, path);
	}
}

static void emit_card(struct emitted *e, text *out, const struct plan *plan,
                      const struct scheme *s, enum profile p, const char *tree)
{
	const struct catalog_baseline *b = s->baseline;
	struct checkpoint_names names;
	name_checkpoint(&names, s, p, tree);
	/* After verify, which looks at every file of the folder. */
	text_printf(out, "build %s: card | %s %s", names.card, names.list, names.verified);
	add_damage_files(out, plan, b, "", tree);
	text_printf(out, TOOL("card") RUNS("card") "\n  scheme = %s\n  target = %s\n"
	            "  folder = %s\n  damage =", s->name, names.target, names.folder);
	add_damage_files(out, plan, b, "--damage ", tree);
	text_puts(out, "\n");
	e->edges++;
}

/* `cards` are those of the schemes' own profiles, `cards_bf16` of that one. */
void emit_cards(struct emitted *e, text *out, const struct plan *plan, const char *tree)
{
	const struct catalog *c = plan->catalog;
	text own = { 0 };
	for (enum profile p = 0; p < PROFILE_COUNT; p++) {
		text cards = { 0 };
		for (int i = 0; i < c->scheme_count; i++) {
			const struct scheme *s = &c->schemes[i];
			struct checkpoint_names names;
			if (!comes_in(c, s, p))
				continue;
			emit_card(e, out, plan, s, p, tree);
			name_checkpoint(&names, s, p, tree);
			text_printf(&cards, " $\n  %s", names.card);
			if (strcmp(names.target, s->name) == 0)
				text_printf(&own, " $\n  %s", names.card);
		}
		text_printf(out, "build cards_%s: phony%s\n", profile_name(p),
		            cards.data ? cards.data : "");
		out->failed |= cards.failed;
		text_free(&cards);
	}
	text_printf(out, "build cards: phony%s\n", own.data ? own.data : "");
	out->failed |= own.failed;
	text_free(&own);
}
