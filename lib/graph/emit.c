/* Fills the template; see emit.h. */
#include "lib/graph/emit.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/graph/emit_internal.h"

enum { MAX_TEMPLATE_BYTES = 1 << 20 };

/* A mark of the template and what stands in its place. */
struct mark {
	const char *name;
	const char *value;
};

/* Copies the template, replacing every @NAME@; an unknown mark is an error, and so
 * is one that the template lacks. */
static bool fill_template(text *out, const char *path, const char *template,
                          const struct mark *marks, int count, error *err)
{
	unsigned seen = 0;
	const char *rest = template, *at;
	while ((at = strchr(rest, '@'))) {
		text_add(out, rest, (size_t)(at - rest));
		int i = 0;
		while (i < count && strncmp(at, marks[i].name, strlen(marks[i].name)) != 0)
			i++;
		if (i == count) {
			if (at[1] >= 'A' && at[1] <= 'Z' && strncmp(at, "@MARKS@", 7) != 0)
				return fail(err, EXIT_BAD_INPUT, "%s: unknown mark %.20s", path, at);
			text_add(out, at, 1);
			rest = at + 1;
			continue;
		}
		seen |= 1u << i;
		text_puts(out, marks[i].value);
		rest = at + strlen(marks[i].name);
	}
	text_puts(out, rest);
	for (int i = 0; i < count; i++)
		if (!(seen & 1u << i))
			return fail(err, EXIT_BAD_INPUT, "%s: expected the mark %s, found none", path,
			            marks[i].name);
	return text_ok(out, err);
}

/* What a ninja variable is set to that shall hold `value`. */
static void add_value(text *out, const char *value)
{
	for (; *value; value++)
		text_puts(out, *value == '$' ? "$$" : (char[]){ *value, 0 });
}

static void describe_scheme(text *out, const struct scheme *s)
{
	const struct rule *rule = &s->rule;
	if (s->is_baseline)
		text_puts(out, "every group of");
	else if (rule->kind == RULE_TOP_PERCENT)
		text_printf(out, "least sensitive %g %% of", rule->percent);
	else if (rule->kind == RULE_TOP_BLOCKS)
		text_printf(out, "least sensitive %g %% of the blocks of", rule->percent);
	else if (rule->kind == RULE_FULL)
		text_puts(out, "of");
	else
		text_puts(out, "chosen groups of");
	const struct catalog_baseline *b = s->baseline;
	text_printf(out, " %s", s->is_baseline ? b->formats[0]->name : b->name);
	for (int f = 1; s->is_baseline && f < b->format_count; f++)
		text_printf(out, ", %s", b->formats[f]->name);
	if (rule->bits > 0)
		text_printf(out, ", %g bits", rule->bits);
	if (rule->costs)
		text_printf(out, ", %g of %s", rule->budget, rule->costs);
	if (s->kv_cache)
		text_printf(out, ", cache in %s", s->kv_cache->name);
	text_puts(out, "\n");
}

static void emit_help(text *out, const struct catalog *c)
{
	text_puts(out, "targets:\n"
	          "  all (default)  every scheme, and their comparison\n"
	          "  tools          compile and link the programs\n"
	          "  pareto         budgets against scores, of every baseline\n"
	          "  evaluate       the damage of schemes against the model as it is\n"
	          "  cards          the same, then into the checkpoints' model cards (cards_bf16 ...)\n"
	          "  check_quality  fails unless every ranking does far less damage than chance\n"
	          "  report         evaluate, then one page about every model, as .md and .html\n"
	          "  report_only    that page from what is there, nothing computed\n"
	          "  sanity         10, 50 and 100 % of each family answer beside the model as it is\n"
	          "  probe_vllm, probe_transformers\n"
	          "                 every checkpoint loaded by that program, where this machine has it\n"
	          "  test           run every test\n"
	          "  dry-run        what `ninja` would do now, and how long that took before\n"
	          "  stats          time, bytes and store hits of every tool\n"
	          "  lock           build everything, then record it in the lock\n"
	          "  ci             hold this tree against the lock; builds nothing\n"
	          "  prune          checkpoints that no scheme names any more\n"
	          "  help           this list\n"
	          "sweeps (a family, then a table; out/bin/sweep does parts of one):\n");
	for (int i = 0; i < c->scheme_count; i++) {
		const char *before = i ? c->schemes[i - 1].sweep : NULL, *sweep = c->schemes[i].sweep;
		if (sweep && (!before || strcmp(before, sweep) != 0))
			text_printf(out, "  %-45s every scheme of %s\n", sweep, c->schemes[i].family);
	}
	text_puts(out, "schemes (each also as NAME_universal, NAME_modelopt, NAME_bf16, where that "
	          "is not its own profile");
	for (int i = 0; i < c->kv_format_count; i++)
		text_printf(out, ",\nand as NAME_%s with the key/value cache in %s per %s",
		            c->kv_formats[i].name, c->kv_formats[i].element,
		            c->kv_formats[i].granularity);
	text_puts(out, "):\n");
	for (int i = 0; i < c->scheme_count; i++) {
		const struct scheme *s = &c->schemes[i];
		text_printf(out, "  %-45s ", s->name);
		describe_scheme(out, s);
	}
}

bool emit_graph(struct emitted *e, const struct plan *plan,
                const struct tree_settings *settings, error *err)
{
	text edges = { 0 }, workers = { 0 }, launch = { 0 }, compiler = { 0 };
	text device = { 0 }; /* with the space before it */
	char *template = NULL;
	size_t size;
	*e = (struct emitted){ 0 };
	text_printf(&workers, "%lld", (long long)settings->workers);
	add_value(&launch, settings->launch);
	add_value(&compiler, settings->compiler);
	text_printf(&device, "%s%s", *settings->device ? " " : "", settings->device);
	bool one = settings->workers == 1;
	bool ok = read_file(settings->template, MAX_TEMPLATE_BYTES, &template, &size, err) &&
	          emit_programs(&edges, settings, err) && emit_data(e, &edges, plan, settings, err) &&
	          text_ok(&edges, err) && text_ok(&workers, err) && text_ok(&launch, err) &&
	          text_ok(&compiler, err) && text_ok(&device, err);
	if (ok) {
		/* A single worker owns the terminal and shows its own progress. */
		const struct mark marks[] = {
			{ "@OUT@", settings->out },
			{ "@LAUNCH@", launch.data ? launch.data : "" },
			{ "@CC@", compiler.data ? compiler.data : "" },
			{ "@WORKERS@", workers.data },
			{ "@CONFIGURE@", settings->configure },
			{ "@HEAVY_POOL@", one ? "console" : "work" },
			{ "@CUDA@", settings->cuda },
			{ "@DEVICE@", device.data },
			{ "@EDGES@", edges.data },
		};
		ok = fill_template(&e->ninja, settings->template, template, marks,
		                   sizeof marks / sizeof marks[0], err);
	}
	emit_help(&e->help, plan->catalog);
	ok = ok && text_ok(&e->help, err) && text_ok(&e->scan_list, err);
	free(template);
	text_free(&edges);
	text_free(&workers);
	text_free(&launch);
	text_free(&compiler);
	text_free(&device);
	if (!ok)
		emitted_free(e);
	return ok;
}

void emitted_free(struct emitted *e)
{
	text_free(&e->ninja);
	text_free(&e->scan_list);
	text_free(&e->help);
	text_free(&e->artifacts);
	text_free(&e->report);
}
