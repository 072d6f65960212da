/* The edges of schemes: slice, export, describe and verify, and one comparison of all. */
#include <stdio.h>
#include <string.h>

#include "lib/graph/emit_internal.h"

const char *scheme_file_name(const struct scheme *s)
{
	return s->is_baseline ? s->baseline->file_name : s->name;
}

static void add_rule(text *out, const struct scheme *s)
{
	const struct rule *rule = &s->rule;
	text_puts(out, "  rule =");
	switch (rule->kind) {
	case RULE_FULL: text_puts(out, " --full"); break;
	case RULE_TOP_PERCENT: text_printf(out, " --top-percent %g", rule->percent); break;
	case RULE_TOP_BLOCKS: text_printf(out, " --top-blocks %g", rule->percent); break;
	case RULE_LIST: add_glob_options(out, "group", &rule->groups); break;
	case RULE_MANIFEST: add_option(out, "coverage", rule->manifest); break;
	}
	if (rule->bits > 0)
		text_printf(out, " --effective-bits %.17g", rule->bits);
	if (rule->costs) {
		add_option(out, "costs", rule->costs);
		text_printf(out, " --budget %.17g", rule->budget);
	}
	add_glob_options(out, "pin-bf16", &rule->pin_bf16);
	add_glob_options(out, "pin-quantized", &rule->pin_quantised);
	add_glob_options(out, "cost-exclude", &rule->cost_exclude);
	if (s->kv_cache) {
		text_puts(out, " --kv-cache ");
		kv_format_print(s->kv_cache, out);
	}
	text_puts(out, "\n");
}

/* A file that only this scheme's slice reads, as an input of it. */
static void add_slice_input(struct emitted *e, text *out, const struct scheme *s,
                            const char *what, const char *path, const char *tree)
{
	char stamp[PATH_BYTES];
	snprintf(stamp, PATH_BYTES, "%s/stamps/%s/%s", tree, what, s->name);
	add_scan(e, "file", stamp, path, "");
	text_printf(out, " %s", stamp);
}

/* A baseline that is not published itself has its manifest in the scheme's folder. */
static void emit_slice(struct emitted *e, text *out, const struct scheme *s,
                       const char *baseline, const char *work, const char *tree)
{
	const char *file = scheme_file_name(s);
	text_printf(out, "build %s/slice.json %s/manifest.json %s/selection.json: slice | "
	            "%s/%s_quant_manifest.json" TOOL("slice"), work, work, work, baseline,
	            s->baseline->file_name);
	if (s->rule.kind == RULE_MANIFEST)
		add_slice_input(e, out, s, "coverage", s->rule.manifest, tree);
	if (s->rule.costs)
		add_slice_input(e, out, s, "costs", s->rule.costs, tree);
	text_printf(out, RUNS("slice") "\n  ranked = %s/%s_quant_manifest.json\n"
	            "  baseline = %s\n  scheme = %s\n  file_name = %s\n  folder = %s\n",
	            baseline, s->baseline->file_name,
	            s->baseline->publish ? s->baseline->name : s->name, s->name, file, work);
	add_rule(out, s);
	e->edges++;
}

/* ---- checkpoints ---- */

bool comes_in(const struct catalog *c, const struct scheme *s, enum profile p)
{
	bool listed = s >= c->schemes && s < c->schemes + c->scheme_count;
	if (!listed)
		return strcmp(s->baseline->profile, profile_name(p)) == 0;
	return !s->kv_cache || profile_is_quantised(p);
}

void name_checkpoint(struct checkpoint_names *n, const struct scheme *s, enum profile p,
                     const char *tree)
{
	const char *model = s->baseline->model->name;
	bool own = strcmp(s->baseline->profile, profile_name(p)) == 0;
	snprintf(n->target, NAME_BYTES, "%s%s%s", s->name, own ? "" : "_",
	         own ? "" : profile_name(p));
	snprintf(n->folder, PATH_BYTES, "%s/models/%s/quantized/%s", tree, model, n->target);
	snprintf(n->index, PATH_BYTES, "%.3000s/model.safetensors.index.json", n->folder);
	snprintf(n->list, PATH_BYTES, "%.3000s/layer-sensitivity/%s_files.json", n->folder,
	         scheme_file_name(s));
	snprintf(n->card, PATH_BYTES, "%s/work/%s/schemes/%s/card%s%s.md", tree, model, s->name,
	         own ? "" : ".", own ? "" : profile_name(p));
	snprintf(n->verified, PATH_BYTES, "%s/work/%s/schemes/%s/verify%s%s.json", tree, model,
	         s->name, own ? "" : ".", own ? "" : profile_name(p));
}

/* The pieces of every format of the baseline. */
static void add_pieces(text *out, const struct catalog_baseline *b, enum profile p,
                       const char *option, const char *tree)
{
	for (int f = 0; f < b->format_count; f++) {
		char path[PATH_BYTES];
		name_pieces(path, b, f, p, tree);
		text_printf(out, " %s%s", option, path);
	}
}

/* What all exports and descriptions of a baseline are told, once: it is most of their
 * text. */
static void emit_common(text *out, const struct catalog_baseline *b, const char *tree)
{
	char folder[PATH_BYTES];
	baseline_folder(folder, b, tree);
	text_printf(out, "about.%s = --baseline %s/%s_quant_manifest.json", b->name, folder,
	            b->file_name);
	add_option(out, "model", b->model->path);
	text_printf(out, "\nfrom.%s = --amax %s/amax.json --numerics %s --layout %s", b->name,
	            folder, b->numerics, b->layout);
	for (enum profile p = PROFILE_UNIVERSAL; p <= PROFILE_MODELOPT; p++) {
		text_printf(out, "\npieces.%s.%s =", b->name, profile_name(p));
		add_pieces(out, b, p, "--quantized ", tree);
	}
	text_puts(out, "\n");
}

/* What export and describe are told of one checkpoint. */
static void add_about(text *out, const struct scheme *s, enum profile p,
                      const struct checkpoint_names *names, const char *tree)
{
	text_printf(out, "  slice = %s/work/%s/schemes/%s\n  scheme = %s\n  file_name = %s\n"
	            "  profile = %s\n  target = %s\n  about = ${about.%s}\n", tree,
	            s->baseline->model->name, s->name, s->name, scheme_file_name(s),
	            profile_name(p), names->target, s->baseline->name);
}

/* Of the slice only the selection: what else it says is for describe. */
static void emit_export(struct emitted *e, text *out, const struct scheme *s,
                        enum profile p, const struct checkpoint_names *names,
                        const char *tree)
{
	const struct catalog_baseline *b = s->baseline;
	char baseline[PATH_BYTES], published[PATH_BYTES];
	struct stamp_names stamps;
	name_stamps(&stamps, b, tree);
	baseline_folder(baseline, b, tree);
	snprintf(published, sizeof published, "%s/stamps/published/%s", tree, names->target);
	add_scan(e, "published", published, names->folder, scheme_file_name(s));
	text_printf(out, "build %s: export | %s/work/%s/schemes/%s/selection.json %s/amax.json "
	            "%s %s", names->index, tree, b->model->name, s->name, baseline, stamps.texts,
	            published);
	add_pieces(out, b, p, "", tree);
	text_puts(out, TOOL("export") RUNS("export") "\n");
	add_about(out, s, p, names, tree);
	text_printf(out, "  folder = %s\n  from = ${from.%s}\n  quantized = ${pieces.%s.%s}\n",
	            names->folder, b->name, b->name,
	            p == PROFILE_MODELOPT ? "modelopt" : "universal");
	e->edges++;
}

/* The list of files is there after export too; describe makes it that of the manifests as
 * they are, whoever moved them. */
static void emit_describe(struct emitted *e, text *out, const struct scheme *s,
                          enum profile p, const struct checkpoint_names *names,
                          const char *tree)
{
	const struct catalog_baseline *b = s->baseline;
	char baseline[PATH_BYTES];
	baseline_folder(baseline, b, tree);
	text_printf(out, "build %s: describe | %s %s/work/%s/schemes/%s/slice.json "
	            "%s/work/%s/schemes/%s/manifest.json %s/%s_quant_manifest.json"
	            TOOL("describe") RUNS("describe") " |@ %s\n", names->list, names->index, tree,
	            b->model->name, s->name, tree, b->model->name, s->name, baseline,
	            b->file_name, names->verified);
	add_about(out, s, p, names, tree);
	e->edges++;
}

static void emit_verify(struct emitted *e, text *out, const struct scheme *s,
                        const struct checkpoint_names *names, const char *tree)
{
	struct stamp_names stamps;
	name_stamps(&stamps, s->baseline, tree);
	text_printf(out, "build %s: verify | %s %s" TOOL("verify") RUNS("verify")
	            "\n  folder = %s\n  scheme = %s\n  model = ", names->verified, names->list,
	            stamps.weights, names->folder, names->target);
	add_word(out, s->baseline->model->path);
	text_puts(out, "\n");
	e->edges++;
}

static void emit_checkpoint(struct emitted *e, text *out, const struct scheme *s,
                            enum profile p, const char *tree)
{
	struct checkpoint_names names;
	name_checkpoint(&names, s, p, tree);
	emit_export(e, out, s, p, &names, tree);
	emit_describe(e, out, s, p, &names, tree);
	emit_verify(e, out, s, &names, tree);
	text_printf(out, "build %s: phony %s || $o/bin/generate\n", names.target, names.list);
}

static void emit_scheme(struct emitted *e, text *out, const struct catalog *c,
                        const struct scheme *s, const char *tree)
{
	char baseline[PATH_BYTES], work[PATH_BYTES];
	baseline_folder(baseline, s->baseline, tree);
	snprintf(work, sizeof work, "%s/work/%s/schemes/%s", tree, s->baseline->model->name,
	         s->name);
	emit_slice(e, out, s, baseline, work, tree);
	for (enum profile p = 0; p < PROFILE_COUNT; p++)
		if (comes_in(c, s, p))
			emit_checkpoint(e, out, s, p, tree);
}

/* ---- comparison ---- */

bool has_checkpoints(const struct catalog *c, const struct catalog_model *model)
{
	for (int i = 0; i < c->scheme_count; i++)
		if (c->schemes[i].baseline->model == model)
			return true;
	return false;
}

/* One comparison of all schemes of a model that share a folder. */
static void emit_diversity(struct emitted *e, text *out, const struct plan *plan,
                           const char *tree)
{
	const struct catalog *c = plan->catalog;
	for (int m = 0; m < c->model_count; m++) {
		const char *model = c->models[m].name;
		text inputs = { 0 };
		for (int i = 0; i < c->scheme_count; i++)
			if (c->schemes[i].baseline->model == &c->models[m])
				text_printf(&inputs, " $\n  %s/models/%s/quantized/%s/layer-sensitivity/"
				            "%s_files.json", tree, model, c->schemes[i].name,
				            scheme_file_name(&c->schemes[i]));
		if (inputs.length) {
			text_printf(out, "build %s/models/%s/quantized/scheme-diversity.json: "
			            "diversity%s |" TOOL("diversity") RUNS("diversity") "\n", tree,
			            model, inputs.data);
			text_printf(out, "build diversity_%s: phony %s/models/%s/quantized/"
			            "scheme-diversity.json\n", model, tree, model);
			e->edges++;
		}
		out->failed |= inputs.failed;
		text_free(&inputs);
	}
}

void emit_schemes(struct emitted *e, text *out, const struct plan *plan, const char *tree)
{
	const struct catalog *c = plan->catalog;
	for (int i = 0; i < c->baseline_count; i++)
		emit_common(out, &c->baselines[i], tree);
	for (int i = 0; i < c->scheme_count; i++)
		emit_scheme(e, out, c, &c->schemes[i], tree);
	for (int i = 0; i < c->unlisted_count; i++)
		emit_scheme(e, out, c, &c->unlisted[i], tree);
	emit_diversity(e, out, plan, tree);
}
