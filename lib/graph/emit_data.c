/* The edges of section "data" of build.ninja: per baseline calibrate, merge, score,
 * rank and quantize; per scheme slice, export and verify; and the scan list that
 * moves their stamps. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/graph/emit_internal.h"

void add_word(text *out, const char *word)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	                            "0123456789_-./:=@%+,";
	bool quote = !*word || strspn(word, plain) != strlen(word);
	if (quote)
		text_puts(out, "'");
	for (const char *p = word; *p; p++) {
		if (*p == '\'')
			text_puts(out, "'\\''");
		else if (*p == '$')
			text_puts(out, "$$");
		else
			text_add(out, p, 1);
	}
	if (quote)
		text_puts(out, "'");
}

void add_option(text *out, const char *name, const char *value)
{
	text_printf(out, " --%s ", name);
	add_word(out, value);
}

/* Settings that several edges of one baseline share, as variables of each edge. */
static void add_data_arguments(text *out, const struct catalog_baseline *b)
{
	const struct calibration *k = b->calibration;
	text_puts(out, "  data =");
	add_option(out, "model", b->model->path);
	if (k->captions)
		add_option(out, "captions", k->captions);
	else
		add_option(out, "calib-db", k->calib_db);
	if (k->image_root)
		add_option(out, "image-root", k->image_root);
	add_option(out, "prompt", k->prompt_form);
	text_printf(out, " --block-samples %lld --max-tokens %lld --max-pixels %lld",
	            (long long)k->block_samples, (long long)k->max_tokens,
	            (long long)k->max_pixels);
	add_option(out, "on-bad-sample", k->on_bad_sample);
	text_puts(out, "\n");
}

static void add_globs(text *out, const char *option, const struct globs *globs)
{
	for (int i = 0; i < globs->count; i++)
		add_option(out, option, globs->values[i]);
}

static void add_numerics(text *out, const struct catalog_baseline *b)
{
	add_option(out, "numerics", b->numerics);
	if (!b->shared_scales)
		text_puts(out, " --scale-per-member");
}

void add_format_arguments(text *out, const struct catalog_baseline *b,
                          const struct catalog_format *f)
{
	text_puts(out, "  format =");
	add_option(out, "format-name", f->name);
	add_option(out, "element", f->element);
	add_option(out, "granularity", f->granularity);
	if (f->skip_bad_shapes)
		text_puts(out, " --skip-bad-shapes");
	add_numerics(out, b);
	add_globs(out, "include", &f->include);
	add_globs(out, "exclude", &f->exclude);
	text_puts(out, "\n");
}

/* ---- the scan list ---- */

void add_scan(struct emitted *e, const char *kind, const char *stamp, const char *what,
              const char *more)
{
	text line = { 0 };
	text_printf(&line, "%s\t%s\t%s%s%s\n", kind, stamp, what, *more ? "\t" : "", more);
	if (line.data && (!e->scan_list.data || !strstr(e->scan_list.data, line.data)))
		text_puts(&e->scan_list, line.data);
	e->scan_list.failed |= line.failed;
	text_free(&line);
}

void name_stamps(struct stamp_names *names, const struct catalog_baseline *b,
                 const char *out)
{
	snprintf(names->weights, PATH_BYTES, "%s/stamps/%s.weights", out, b->model->name);
	snprintf(names->texts, PATH_BYTES, "%s/stamps/%s.texts", out, b->model->name);
	snprintf(names->data, PATH_BYTES, "%s/stamps/%s.data", out, b->calibration->name);
}

static void scan_baseline(struct emitted *e, const struct stamp_names *names,
                          const struct catalog_baseline *b)
{
	const struct calibration *k = b->calibration;
	char more[PATH_BYTES + 32] = "";
	add_scan(e, "weights", names->weights, b->model->path, "");
	add_scan(e, "texts", names->texts, b->model->path, "");
	if (k->calib_db) {
		int64_t most = k->calib_samples > k->score_samples ? k->calib_samples
		                                                   : k->score_samples;
		snprintf(more, sizeof more, "%s\t%lld", k->image_root, (long long)most);
	}
	add_scan(e, k->captions ? "file" : "images", names->data,
	         k->captions ? k->captions : k->calib_db, more);
}

/* ---- baselines ---- */

void baseline_folder(char *folder, const struct catalog_baseline *b, const char *out)
{
	snprintf(folder, PATH_BYTES, "%s/work/%s/%s", out, b->model->name, b->name);
}

/* One edge a worker, each with its run of blocks; never more edges than blocks. */
static int count_parts(int64_t samples, const struct calibration *k, int64_t workers)
{
	int64_t blocks = (samples + k->block_samples - 1) / k->block_samples;
	return (int)(blocks < workers ? (blocks ? blocks : 1) : workers);
}

static void add_parts(text *out, const char *folder, const char *verb, int parts)
{
	for (int i = 0; i < parts; i++)
		text_printf(out, " %s/%s.%d.json", folder, verb, i);
}

static void emit_calibrate(struct emitted *e, text *out, const char *folder,
                           const struct planned_baseline *p,
                           const struct stamp_names *stamps, int parts)
{
	const struct catalog_baseline *b = p->catalog;
	for (int i = 0; i < parts; i++, e->edges++) {
		text_printf(out, "build %s/calibrate.%d.json: calibrate | %s %s %s" TOOL("calibrate")
		            RUNS("calibrate") " gpu_half\n  part = %d/%d\n  baseline = %s\n"
		            "  samples = %lld\n", folder, i, stamps->weights, stamps->texts,
		            stamps->data, i, parts, b->name, (long long)p->calib_samples);
		add_data_arguments(out, b);
	}
	text_printf(out, "build %s/amax.json: merge", folder);
	add_parts(out, folder, "calibrate", parts);
	text_printf(out, " |" TOOL("merge") RUNS("merge") "\n  baseline = %s\n", b->name);
	e->edges++;
}

static void add_score_parts(text *out, const char *folder,
                            const struct catalog_baseline *b, int parts)
{
	for (int f = 0; f < b->format_count; f++)
		for (int i = 0; i < parts; i++)
			text_printf(out, " $\n  %s/score.%s.%d.json", folder, b->formats[f]->name, i);
}

static void emit_score(struct emitted *e, text *out, const char *folder,
                       const struct planned_baseline *p, const struct catalog_format *f,
                       const struct stamp_names *stamps, int parts)
{
	const struct catalog_baseline *b = p->catalog;
	for (int i = 0; i < parts; i++, e->edges++) {
		text_printf(out, "build %s/score.%s.%d.json: score | %s/amax.json %s %s %s"
		            TOOL("score") RUNS("score") " gpu_half\n  part = %d/%d\n  baseline = %s\n"
		            "  samples = %lld\n  amax = %s/amax.json\n  method = %s\n", folder,
		            f->name, i, folder, stamps->weights, stamps->texts, stamps->data, i,
		            parts, b->name, (long long)p->score_samples, folder, b->method);
		add_data_arguments(out, b);
		add_format_arguments(out, b, f);
	}
}

static void add_about(text *out, const struct catalog_baseline *b)
{
	const struct calibration *k = b->calibration;
	text_puts(out, "  about =");
	add_option(out, "baseline", b->name);
	add_option(out, "file-name", b->file_name);
	add_option(out, "model-name", b->model->name);
	add_option(out, "data-name", k->data);
	add_numerics(out, b);
	add_option(out, "prompt", k->prompt_form);
	if (b->model->stand_in)
		text_puts(out, " --model-stand-in");
	if (k->stand_in)
		text_puts(out, " --data-stand-in");
	text_puts(out, "\n");
}

/* The stamp of the manifest that a baseline is imported from. */
static void name_import_stamp(char *stamp, const struct catalog_baseline *b,
                              const char *tree)
{
	snprintf(stamp, PATH_BYTES, "%s/stamps/import/%s", tree, b->name);
}

/* From the parts of score, or from another run's manifest. */
static void emit_rank(struct emitted *e, text *out, const char *folder,
                      const struct catalog_baseline *b, const struct stamp_names *stamps,
                      int parts, const char *tree)
{
	text_printf(out, "build %s/%s_quant_manifest.json %s/%s_autoquant_state.json $\n  "
	            "%s/per-layer-sensitivity.md %s/per-layer-sensitivity.json: rank |", folder,
	            b->file_name, folder, b->file_name, folder, folder);
	if (b->import) {
		char stamp[PATH_BYTES];
		name_import_stamp(stamp, b, tree);
		add_scan(e, "file", stamp, b->import, "");
		text_printf(out, " %s", stamp);
	} else {
		add_score_parts(out, folder, b, parts);
	}
	text_printf(out, " %s/amax.json %s" TOOL("rank") RUNS("rank") "\n  parts =", folder,
	            stamps->weights);
	if (b->import) {
		add_option(out, "import", b->import);
		text_printf(out, " --import-bits %g", b->formats[0]->format->bits);
	} else {
		add_score_parts(out, folder, b, parts);
	}
	text_printf(out, "\n  baseline = %s\n  amax = %s/amax.json\n  folder = %s\n  model = ",
	            b->name, folder, folder);
	add_word(out, b->model->path);
	text_puts(out, "\n");
	add_about(out, b);
	e->edges++;
}

static void emit_quantize(struct emitted *e, text *out, const char *folder,
                          const struct catalog_baseline *b,
                          const struct stamp_names *stamps, const char *tree)
{
	char pieces[PATH_BYTES], list[PATH_BYTES + 32], store[PATH_BYTES];
	snprintf(pieces, sizeof pieces, "%s/stamps/pieces/%s", tree, b->name);
	snprintf(list, sizeof list, "%s/quantize.json", folder);
	snprintf(store, sizeof store, "%s/store", tree);
	add_scan(e, "pieces", pieces, list, store);
	text_printf(out, "build %s: quantize | %s %s" TOOL("quantize") RUNS("quantize")
	            "\n  model = ", list, stamps->weights, pieces);
	add_word(out, b->model->path);
	text_puts(out, "\n");
	add_format_arguments(out, b, b->formats[0]);
	e->edges++;
}

/* Budgets against scores; only built when asked for. */
static void emit_pareto(struct emitted *e, text *out, const char *folder,
                        const struct catalog_baseline *b)
{
	text_printf(out, "build %s/pareto.json %s/pareto.md %s/pareto.csv: pareto | "
	            "%s/%s_quant_manifest.json" TOOL("pareto") RUNS("pareto")
	            "\n  ranked = %s/%s_quant_manifest.json\n  folder = %s\n  baseline = %s\n",
	            folder, folder, folder, folder, b->file_name, folder, b->file_name, folder,
	            b->name);
	e->edges++;
}

/* ---- schemes ---- */

const char *file_name_of(const struct scheme *s)
{
	return s->is_baseline ? s->baseline->file_name : s->name;
}

static void add_rule(text *out, const struct rule *rule)
{
	text_puts(out, "  rule =");
	switch (rule->kind) {
	case RULE_FULL: text_puts(out, " --full"); break;
	case RULE_TOP_PERCENT: text_printf(out, " --top-percent %g", rule->percent); break;
	case RULE_TOP_BLOCKS: text_printf(out, " --top-blocks %g", rule->percent); break;
	case RULE_LIST: add_globs(out, "group", &rule->groups); break;
	case RULE_MANIFEST: add_option(out, "coverage", rule->manifest); break;
	}
	if (rule->bits > 0)
		text_printf(out, " --effective-bits %.17g", rule->bits);
	if (rule->costs) {
		add_option(out, "costs", rule->costs);
		text_printf(out, " --budget %.17g", rule->budget);
	}
	add_globs(out, "pin-bf16", &rule->pin_bf16);
	add_globs(out, "pin-quantized", &rule->pin_quantised);
	add_globs(out, "cost-exclude", &rule->cost_exclude);
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
	const char *file = file_name_of(s);
	text_printf(out, "build %s/slice.json %s/manifest.json: slice | %s/%s_quant_manifest.json"
	            TOOL("slice"), work, work, baseline, s->baseline->file_name);
	if (s->rule.kind == RULE_MANIFEST)
		add_slice_input(e, out, s, "coverage", s->rule.manifest, tree);
	if (s->rule.costs)
		add_slice_input(e, out, s, "costs", s->rule.costs, tree);
	text_printf(out, RUNS("slice") "\n  ranked = %s/%s_quant_manifest.json\n"
	            "  baseline = %s\n  scheme = %s\n  file_name = %s\n  folder = %s\n",
	            baseline, s->baseline->file_name,
	            s->baseline->publish ? s->baseline->name : s->name, s->name, file, work);
	add_rule(out, &s->rule);
	e->edges++;
}

static void emit_export(struct emitted *e, text *out, const struct scheme *s,
                        const char *baseline, const char *work, const char *folder,
                        const char *published, const struct stamp_names *stamps)
{
	const struct catalog_baseline *b = s->baseline;
	const char *file = file_name_of(s);
	text_printf(out, "build %s/layer-sensitivity/%s_files.json: export | %s/slice.json "
	            "%s/quantize.json %s/amax.json %s/%s_quant_manifest.json %s %s"
	            TOOL("export") RUNS("export") " |@ %s/verify.json\n", folder, file, work,
	            baseline, baseline, baseline, b->file_name, stamps->texts, published,
	            work);
	text_printf(out, "  slice = %s\n  ranked = %s/%s_quant_manifest.json\n"
	            "  amax = %s/amax.json\n  quantized = %s/quantize.json\n  scheme = %s\n"
	            "  file_name = %s\n  profile = %s\n  folder = %s\n  numerics = %s\n"
	            "  model = ", work, baseline, b->file_name, baseline,
	            baseline, s->name, file, b->profile, folder, b->numerics);
	add_word(out, b->model->path);
	text_printf(out, "\nbuild %s/verify.json: verify | %s/layer-sensitivity/%s_files.json %s"
	            TOOL("verify") RUNS("verify") "\n  folder = %s\n  scheme = %s\n  model = ",
	            work, folder, file, stamps->weights, folder, s->name);
	add_word(out, b->model->path);
	text_printf(out, "\nbuild %s: phony %s/layer-sensitivity/%s_files.json || $o/bin/generate\n", s->name,
	            folder, file);
	e->edges += 2;
}

static void emit_scheme(struct emitted *e, text *out, const struct scheme *s,
                        const struct tree_settings *settings)
{
	char baseline[PATH_BYTES], work[PATH_BYTES], folder[PATH_BYTES], published[PATH_BYTES];
	struct stamp_names stamps;
	const char *model = s->baseline->model->name;
	name_stamps(&stamps, s->baseline, settings->out);
	baseline_folder(baseline, s->baseline, settings->out);
	snprintf(work, sizeof work, "%s/work/%s/schemes/%s", settings->out, model, s->name);
	snprintf(folder, sizeof folder, "%s/models/%s/quantized/%s", settings->out, model,
	         s->name);
	emit_slice(e, out, s, baseline, work, settings->out);
	if (!baseline_exportable(s->baseline)) {
		text_printf(out, "build %s: phony %s/slice.json\n", s->name, work);
		return;
	}
	snprintf(published, sizeof published, "%s/stamps/published/%s", settings->out, s->name);
	add_scan(e, "published", published, folder, file_name_of(s));
	emit_export(e, out, s, baseline, work, folder, published, &stamps);
}

static bool has_checkpoints(const struct catalog *c, const struct catalog_model *model)
{
	for (int i = 0; i < c->scheme_count; i++)
		if (c->schemes[i].baseline->model == model &&
		    baseline_exportable(c->schemes[i].baseline))
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
			if (c->schemes[i].baseline->model == &c->models[m] &&
			    baseline_exportable(c->schemes[i].baseline))
				text_printf(&inputs, " $\n  %s/models/%s/quantized/%s/layer-sensitivity/"
				            "%s_files.json", tree, model, c->schemes[i].name,
				            file_name_of(&c->schemes[i]));
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

static void emit_pareto_target(text *out, const struct plan *plan, const char *tree)
{
	text_puts(out, "build pareto: phony");
	for (int i = 0; i < plan->catalog->baseline_count; i++) {
		char folder[PATH_BYTES];
		baseline_folder(folder, &plan->catalog->baselines[i], tree);
		text_printf(out, " $\n  %s/pareto.json", folder);
	}
	text_puts(out, "\n");
}

/* Everything, named by the files and not by the schemes' own names: `ninja -t targets`
 * lists what nothing else depends on, and that is to be the schemes. A comparison
 * depends on every checkpoint of its model. */
static void emit_defaults(text *out, const struct catalog *c, const char *tree)
{
	text_puts(out, "build all: phony");
	for (int m = 0; m < c->model_count; m++)
		if (has_checkpoints(c, &c->models[m]))
			text_printf(out, " $\n  %s/models/%s/quantized/scheme-diversity.json", tree,
			            c->models[m].name);
	for (int i = 0; i < c->scheme_count; i++)
		if (!baseline_exportable(c->schemes[i].baseline))
			text_printf(out, " $\n  %s/work/%s/schemes/%s/slice.json", tree,
			            c->schemes[i].baseline->model->name, c->schemes[i].name);
	text_puts(out, " || $o/bin/generate\ndefault all\n");
}

/* build.ninja depends on the catalog's stamp, so ninja runs the scan, once, when it
 * makes sure that its manifest is current, before it looks at anything else. The
 * other stamps are written then too; to the rest of the graph they are plain files,
 * or ninja would run the scan a second time for them. */
static void emit_manifest(struct emitted *e, text *edges,
                          const struct tree_settings *settings)
{
	char stamp[PATH_BYTES];
	snprintf(stamp, sizeof stamp, "%s/stamps/catalog", settings->out);
	add_scan(e, "file", stamp, settings->catalog, "");
	text_printf(edges, "build %s: scan | always $o/bin/scan %s/scan.list\n", stamp,
	            settings->out);
	text_printf(edges, "build build.ninja: configure | %s %s $o/bin/configure\n", stamp,
	            settings->template);
	e->edges += 2;
}

bool emit_data(struct emitted *e, text *edges, const struct plan *plan,
               const struct tree_settings *settings, error *err)
{
	const struct catalog *c = plan->catalog;
	for (int i = 0; i < c->baseline_count; i++) {
		const struct planned_baseline *p = &plan->baselines[i];
		struct stamp_names names;
		char folder[PATH_BYTES];
		int calibrate = count_parts(p->calib_samples, p->catalog->calibration,
		                            settings->workers);
		int score = count_parts(p->score_samples, p->catalog->calibration,
		                        settings->workers);
		name_stamps(&names, p->catalog, settings->out);
		baseline_folder(folder, p->catalog, settings->out);
		scan_baseline(e, &names, p->catalog);
		emit_calibrate(e, edges, folder, p, &names, calibrate);
		for (int f = 0; !p->catalog->import && f < p->catalog->format_count; f++)
			emit_score(e, edges, folder, p, p->catalog->formats[f], &names, score);
		emit_rank(e, edges, folder, p->catalog, &names, score, settings->out);
		emit_pareto(e, edges, folder, p->catalog);
		if (baseline_exportable(p->catalog))
			emit_quantize(e, edges, folder, p->catalog, &names, settings->out);
	}
	for (int i = 0; i < c->scheme_count; i++)
		emit_scheme(e, edges, &c->schemes[i], settings);
	emit_diversity(e, edges, plan, settings->out);
	emit_defaults(edges, c, settings->out);
	if (!emit_report(e, edges, plan, settings, err))
		return false;
	emit_manifest(e, edges, settings);
	emit_pareto_target(edges, plan, settings->out);
	text_printf(edges, "build help: show %s/help.txt | always\n", settings->out);
	return text_ok(edges, err);
}
