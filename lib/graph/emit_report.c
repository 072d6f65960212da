/* The edges that say what schemes do to the model: one evaluation a baseline and set,
 * one report a model; and report.json, which tells the report where everything lies. */
#include <stdio.h>
#include <string.h>

#include "lib/base/json_tree.h"
#include "lib/graph/emit_internal.h"
#include "lib/graph/emit_pixels.h"

void name_damage(char *path, const struct catalog_baseline *b,
                        const struct evaluation_set *k, const char *out)
{
	char folder[PATH_BYTES];
	baseline_folder(folder, b, out);
	snprintf(path, PATH_BYTES, "%.3800s/damage.%s.json", folder, k->name);
}

/* ---- evaluate ---- */

static void scan_evaluation(struct emitted *e, const struct evaluation_set *k,
                            const char *stamp)
{
	char more[PATH_BYTES + 64] = "";
	if (k->eval_list)
		snprintf(more, sizeof more, "%s\t%lld\t%lld", k->image_root, (long long)k->samples,
		         (long long)k->first);
	add_scan(e, k->captions ? "file" : "eval_list", stamp,
	         k->captions ? k->captions : k->eval_list, more);
}

/* The list of the set's decoded images, where it has any: " path". */
static void add_set_pixels(text *out, const struct catalog_baseline *b,
                           const struct evaluation_set *k)
{
	char path[PATH_BYTES];
	if (!k->eval_list)
		return;
	name_evaluation_pixels(path, b->model, k, "$o");
	text_printf(out, " %s", path);
}

static void add_set_arguments(text *out, const struct catalog_baseline *b,
                              const struct evaluation_set *k, int64_t samples,
                              const char *tree)
{
	text_puts(out, "  data =");
	add_option(out, "model", b->model->path);
	add_option(out, k->captions ? "captions" : "eval-list",
	           k->captions ? k->captions : k->eval_list);
	if (k->image_root)
		add_option(out, "image-root", k->image_root);
	if (k->eval_list)
		text_puts(out, " --pixels");
	add_set_pixels(out, b, k);
	add_option(out, "prompt", k->prompt_form);
	add_option(out, "baseline-name", b->name);
	add_option(out, "set-name", k->name);
	add_option(out, "data-name", k->data);
	add_folds(out, b, "--fold ", tree);
	text_printf(out, "%s --first %lld --samples %lld --block-samples %lld --max-tokens %lld "
	            "--max-pixels %lld\n", k->stand_in ? " --data-stand-in" : "",
	            (long long)k->first, (long long)samples, (long long)k->block_samples,
	            (long long)k->max_tokens, (long long)k->max_pixels);
}

static void add_slices(text *out, const struct catalog *c, const struct catalog_baseline *b,
                       const char *tree)
{
	for (int i = 0; i < c->scheme_count; i++)
		if (c->schemes[i].baseline == b)
			text_printf(out, " $\n  %s/work/%s/schemes/%s/slice.json", tree, b->model->name,
			            c->schemes[i].name);
}

static void emit_evaluate(struct emitted *e, text *out, const struct plan *plan,
                          const struct catalog_baseline *b, int set, const char *tree)
{
	const struct evaluation_set *k = &plan->catalog->evaluations[set];
	char damage[PATH_BYTES], folder[PATH_BYTES], stamp[PATH_BYTES];
	struct stamp_names stamps;
	name_stamps(&stamps, b, tree);
	name_damage(damage, b, k, tree);
	baseline_folder(folder, b, tree);
	snprintf(stamp, sizeof stamp, "%s/stamps/evaluate.%s.data", tree, k->name);
	scan_evaluation(e, k, stamp);
	text_printf(out, "build %s: evaluate |", damage);
	add_set_pixels(out, b, k);
	add_slices(out, plan->catalog, b, tree);
	add_folds(out, b, "", tree);
	text_printf(out, " %s/amax.json %s/%s_quant_manifest.json %s %s %s" TOOL("evaluate")
	            RUNS("evaluate") "\n  baseline = %s\n  set = %s\n  amax = %s/amax.json\n"
	            "  ranked = %s/%s_quant_manifest.json\n  slices =", folder, folder,
	            b->file_name, stamps.weights, stamps.texts, stamp, b->name, k->name, folder,
	            folder, b->file_name);
	add_slices(out, plan->catalog, b, tree);
	text_puts(out, "\n");
	add_set_arguments(out, b, k, plan->evaluation_samples[set], tree);
	e->edges++;
}

/* ---- quality ---- */

static void name_quality(char *path, const struct catalog_baseline *b, const char *out)
{
	char folder[PATH_BYTES];
	baseline_folder(folder, b, out);
	snprintf(path, PATH_BYTES, "%.3800s/quality.json", folder);
}

/* A ranking is judged on data of its own kind: the first set that has images where the
 * calibration has. -1: there is none. */
static int set_for(const struct plan *plan, const struct catalog_baseline *b)
{
	for (int k = 0; k < plan->catalog->evaluation_count; k++)
		if (plan->evaluation_samples[k] &&
		    !plan->catalog->evaluations[k].captions == !b->calibration->captions)
			return k;
	return -1;
}

static void emit_quality(struct emitted *e, text *out, const struct plan *plan,
                         const struct catalog_baseline *b, int set, const char *tree)
{
	const struct evaluation_set *k = &plan->catalog->evaluations[set];
	char path[PATH_BYTES], folder[PATH_BYTES];
	struct stamp_names stamps;
	name_stamps(&stamps, b, tree);
	if (k->eval_list) { /* the images decoded, beside the model's other files */
		size_t length = strlen(stamps.texts);
		name_evaluation_pixels(path, b->model, k, "$o");
		snprintf(stamps.texts + length, sizeof stamps.texts - length, " %s", path);
	}
	name_quality(path, b, tree);
	baseline_folder(folder, b, tree);
	text_printf(out, "build %s: quality | %s/amax.json %s/%s_quant_manifest.json %s %s "
	            "%s/stamps/evaluate.%s.data", path, folder, folder, b->file_name,
	            stamps.weights, stamps.texts, tree, k->name);
	add_folds(out, b, "", tree);
	text_printf(out, TOOL("quality") RUNS("quality") "\n  baseline = %s\n"
	            "  amax = %s/amax.json\n  ranked = %s/%s_quant_manifest.json\n", b->name,
	            folder, folder, b->file_name);
	add_set_arguments(out, b, k, plan->evaluation_samples[set], tree);
	e->edges++;
}

/* ---- questions to models ---- */

static void add_questions(text *out, const struct plan *plan)
{
	bool text_seen = false, images_seen = false;
	for (int k = 0; k < plan->catalog->evaluation_count; k++) {
		const struct evaluation_set *set = &plan->catalog->evaluations[k];
		bool *seen = set->captions ? &text_seen : &images_seen;
		if (!plan->evaluation_samples[k] || *seen)
			continue;
		*seen = true;
		if (set->captions) {
			add_option(out, "captions", set->captions);
			text_printf(out, " --first %lld", (long long)set->first);
		} else {
			add_option(out, "eval-list", set->eval_list);
			add_option(out, "image-root", set->image_root);
			text_printf(out, " --max-pixels %lld", (long long)set->max_pixels);
		}
	}
}

/* ---- probes: other programs that this machine has ---- */

static const char *const PROBED[] = { "vllm", "transformers", NULL };

static void name_probe(char *path, const struct catalog_model *model, const char *program,
                       const char *out)
{
	snprintf(path, PATH_BYTES, "%s/models/%s/probe.%s.json", out, model->name, program);
}

static void emit_probes(text *out, const struct plan *plan, const char *tree)
{
	const struct catalog *c = plan->catalog;
	text questions = { 0 };
	add_questions(&questions, plan);
	for (int p = 0; PROBED[p]; p++) {
		text all = { 0 };
		for (int m = 0; m < c->model_count; m++) {
			char path[PATH_BYTES];
			name_probe(path, &c->models[m], PROBED[p], tree);
			text_printf(out, "build probe_%s_%s: probe | always\n  program = %s\n"
			            "  record = %s\n  folder = %s/models/%s/quantized\n  questions =%s\n"
			            "  model = ", PROBED[p], c->models[m].name, PROBED[p], path, tree,
			            c->models[m].name, questions.data ? questions.data : "");
			add_word(out, c->models[m].path);
			text_printf(&all, " probe_%s_%s", PROBED[p], c->models[m].name);
			text_puts(out, "\n");
		}
		text_printf(out, "build probe_%s: phony%s\n", PROBED[p], all.data ? all.data : "");
		out->failed |= all.failed;
		text_free(&all);
	}
	out->failed |= questions.failed;
	text_free(&questions);
}

/* ---- report.json ---- */

static void describe_baseline(struct json_tree *tree, cJSON *list, const struct plan *plan,
                              const struct planned_baseline *p, const char *out)
{
	const struct catalog_baseline *b = p->catalog;
	char folder[PATH_BYTES], path[2 * PATH_BYTES];
	cJSON *item = tree_object(tree, list, NULL);
	baseline_folder(folder, b, out);
	tree_text(tree, item, "name", b->name);
	text formats = { 0 };
	for (int i = 0; i < b->format_count; i++)
		text_printf(&formats, "%s%s", i ? ", " : "", b->formats[i]->name);
	tree_text(tree, item, "format", formats.data ? formats.data : "");
	text_free(&formats);
	tree_text(tree, item, "profile", b->profile);
	snprintf(path, sizeof path, "%s/%s_quant_manifest.json", folder, b->file_name);
	tree_text(tree, item, "manifest", path);
	snprintf(path, sizeof path, "%s/%s_autoquant_state.json", folder, b->file_name);
	tree_text(tree, item, "state", path);
	name_quality(path, b, out);
	tree_text(tree, item, "quality", path);
	cJSON *damage = tree_object(tree, item, "damage");
	for (int i = 0; i < plan->catalog->evaluation_count; i++) {
		name_damage(path, b, &plan->catalog->evaluations[i], out);
		tree_text(tree, damage, plan->catalog->evaluations[i].name, path);
	}
}

static void describe_scheme(struct json_tree *tree, cJSON *list, const struct scheme *s,
                            const char *out)
{
	const char *model = s->baseline->model->name;
	char path[PATH_BYTES];
	cJSON *item = tree_object(tree, list, NULL);
	tree_text(tree, item, "name", s->name);
	tree_text(tree, item, "baseline", s->baseline->name);
	if (s->family)
		tree_text(tree, item, "family", s->family);
	if (s->sweep)
		tree_text(tree, item, "sweep", s->sweep);
	snprintf(path, sizeof path, "%s/work/%s/schemes/%s/slice.json", out, model, s->name);
	tree_text(tree, item, "slice", path);
	snprintf(path, sizeof path, "%s/work/%s/schemes/%s/verify.json", out, model, s->name);
	tree_text(tree, item, "verify", path);
	snprintf(path, sizeof path, "%s/models/%s/quantized/%s/layer-sensitivity/%s_files.json",
	         out, model, s->name, scheme_file_name(s));
	tree_text(tree, item, "files", path);
}

static bool describe_artifacts(struct emitted *e, const struct plan *plan, const char *out,
                               error *err)
{
	const struct catalog *c = plan->catalog;
	struct json_tree tree = tree_new();
	cJSON *models = tree_object(&tree, tree.root, "models");
	for (int m = 0; m < c->model_count; m++) {
		cJSON *model = tree_object(&tree, models, c->models[m].name);
		cJSON *baselines = tree_array(&tree, model, "baselines");
		for (int i = 0; i < c->baseline_count; i++)
			if (c->baselines[i].model == &c->models[m])
				describe_baseline(&tree, baselines, plan, &plan->baselines[i], out);
		cJSON *probes = tree_object(&tree, model, "probes");
		for (int p = 0; PROBED[p]; p++) {
			char path[PATH_BYTES];
			name_probe(path, &c->models[m], PROBED[p], out);
			tree_text(&tree, probes, PROBED[p], path);
		}
		cJSON *schemes = tree_array(&tree, model, "schemes");
		for (int i = 0; i < c->scheme_count; i++)
			if (c->schemes[i].baseline->model == &c->models[m])
				describe_scheme(&tree, schemes, &c->schemes[i], out);
	}
	return tree_finish(&tree, &e->report, err);
}

/* ---- report ---- */

/* A scheme by the last file of its checkpoint: `ninja -t targets` lists what nothing
 * depends on, and that is to be the schemes' names. */
static void add_checkpoint(text *out, const struct scheme *s, const char *tree)
{
	text_printf(out, " $\n  %s/models/%s/quantized/%s/layer-sensitivity/%s_files.json", tree,
	            s->baseline->model->name, s->name, scheme_file_name(s));
}

static void add_artifacts(text *out, const struct plan *plan,
                          const struct catalog_model *model, const char *tree)
{
	const struct catalog *c = plan->catalog;
	for (int i = 0; i < c->baseline_count; i++) {
		const struct catalog_baseline *b = &c->baselines[i];
		char folder[PATH_BYTES];
		if (b->model != model)
			continue;
		baseline_folder(folder, b, tree);
		text_printf(out, " $\n  %s/%s_quant_manifest.json %s/%s_autoquant_state.json",
		            folder, b->file_name, folder, b->file_name);
		for (int k = 0; k < c->evaluation_count; k++) {
			name_damage(folder, b, &c->evaluations[k], tree);
			if (plan->evaluation_samples[k])
				text_printf(out, " $\n  %s", folder);
		}
		name_quality(folder, b, tree);
		if (set_for(plan, b) >= 0)
			text_printf(out, " $\n  %s", folder);
	}
	for (int i = 0; i < c->scheme_count; i++) {
		const struct scheme *s = &c->schemes[i];
		if (s->baseline->model != model)
			continue;
		text_printf(out, " $\n  %s/work/%s/schemes/%s/slice.json", tree, model->name,
		            s->name);
		text_printf(out, " %s/work/%s/schemes/%s/verify.json", tree, model->name, s->name);
		add_checkpoint(out, s, tree);
	}
}

/* Records of probes are there or not, and made by nobody that the report may call. */
static void add_records(struct emitted *e, text *out, const struct catalog_model *model,
                        const char *tree)
{
	for (int p = 0; PROBED[p]; p++) {
		char path[PATH_BYTES], stamp[PATH_BYTES];
		name_probe(path, model, PROBED[p], tree);
		snprintf(stamp, sizeof stamp, "%s/stamps/probe/%s.%s", tree, model->name, PROBED[p]);
		add_scan(e, "file", stamp, path, "");
		text_printf(out, " $\n  %s", stamp);
	}
}

/* Two ways to the same files: `report` after everything it tells of is current,
 * `report_only` at once. */
static void emit_model(struct emitted *e, text *out, const struct plan *plan,
                       const struct catalog_model *model, const char *tree)
{
	char files[PATH_BYTES];
	snprintf(files, sizeof files, "%s/models/%s/report-fp8-autoquant-schemes", tree,
	         model->name);
	text_printf(out, "build %s.md %s.html: report | %s/report.json", files, files, tree);
	add_artifacts(out, plan, model, tree);
	add_records(e, out, model, tree);
	text_printf(out, TOOL("report") RUNS("report") "\n  model = %s\n", model->name);
	text_printf(out, "build report_only_%s: report_only | always $o/bin/report\n"
	            "  model = %s\n  files = %s.md %s.html\n", model->name, model->name, files,
	            files);
	e->edges += 2;
}

/* ---- sweeps: all schemes of a family, then a table of them ---- */

static bool is_first_of_sweep(const struct catalog *c, int scheme)
{
	for (int i = 0; i < scheme; i++)
		if (c->schemes[i].sweep && strcmp(c->schemes[i].sweep, c->schemes[scheme].sweep) == 0)
			return false;
	return true;
}

static void emit_sweeps(text *out, const struct catalog *c, const char *tree)
{
	for (int first = 0; first < c->scheme_count; first++) {
		const char *sweep = c->schemes[first].sweep;
		if (!sweep || !is_first_of_sweep(c, first))
			continue;
		text_printf(out, "build %s: sweep | always $o/bin/sweep", sweep);
		for (int i = first; i < c->scheme_count; i++)
			if (c->schemes[i].sweep && strcmp(c->schemes[i].sweep, sweep) == 0) {
				add_checkpoint(out, &c->schemes[i], tree);
				text_printf(out, " %s/work/%s/schemes/%s/verify.json", tree,
				            c->schemes[i].baseline->model->name, c->schemes[i].name);
			}
		text_printf(out, "\n  model = %s\n", c->schemes[first].baseline->model->name);
	}
}

/* ---- sanity: three of each family are asked, beside the model as it is ---- */

static bool is_asked(const struct scheme *s, const struct catalog_model *model)
{
	double percent = s->rule.percent;
	return s->family && s->baseline->model == model &&
	       (percent == 10 || percent == 50 || percent == 100);
}

static void emit_sanity(text *out, const struct plan *plan,
                        const struct catalog_model *model, const char *tree)
{
	const struct catalog *c = plan->catalog;
	text questions = { 0 }, folders = { 0 };
	add_questions(&questions, plan);
	for (int i = 0; i < c->scheme_count; i++)
		if (is_asked(&c->schemes[i], model))
			text_printf(&folders, " $\n  %s/models/%s/quantized/%s", tree, model->name,
			            c->schemes[i].name);
	text_printf(out, "build sanity_%s: %s", model->name,
	            questions.length && folders.length ? "sanity | always $o/bin/sanity" : "phony");
	for (int i = 0; questions.length && i < c->scheme_count; i++)
		if (is_asked(&c->schemes[i], model))
			add_checkpoint(out, &c->schemes[i], tree);
	if (questions.length && folders.length) {
		text_printf(out, "\n  folders =%s\n  questions =%s\n  model = ", folders.data,
		            questions.data);
		add_word(out, model->path);
	}
	text_puts(out, "\n");
	out->failed |= questions.failed || folders.failed;
	text_free(&questions);
	text_free(&folders);
}

bool emit_report(struct emitted *e, text *edges, const struct plan *plan,
                 const struct tree_settings *settings, error *err)
{
	const struct catalog *c = plan->catalog;
	text all = { 0 }, only = { 0 }, damage = { 0 }, quality = { 0 };
	text sanity = { 0 };
	for (int i = 0; i < c->baseline_count; i++) {
		char path[PATH_BYTES];
		int set = set_for(plan, &c->baselines[i]);
		if (set < 0)
			continue;
		emit_quality(e, edges, plan, &c->baselines[i], set, settings->out);
		name_quality(path, &c->baselines[i], settings->out);
		text_printf(&quality, " $\n  %s", path);
	}
	for (int i = 0; i < c->baseline_count; i++)
		for (int k = 0; k < c->evaluation_count; k++) {
			char path[PATH_BYTES];
			if (!plan->evaluation_samples[k])
				continue;
			emit_evaluate(e, edges, plan, &c->baselines[i], k, settings->out);
			name_damage(path, &c->baselines[i], &c->evaluations[k], settings->out);
			text_printf(&damage, " $\n  %s", path);
		}
	emit_sweeps(edges, c, settings->out);
	emit_probes(edges, plan, settings->out);
	for (int m = 0; m < c->model_count; m++) {
		emit_model(e, edges, plan, &c->models[m], settings->out);
		text_printf(&all, " %s/models/%s/report-fp8-autoquant-schemes.html", settings->out,
		            c->models[m].name);
		text_printf(&only, " report_only_%s", c->models[m].name);
		emit_sanity(edges, plan, &c->models[m], settings->out);
		text_printf(&sanity, " sanity_%s", c->models[m].name);
	}
	text_printf(edges, "build evaluate: phony%s\nbuild report: phony%s cards\n"
	            "build report_only: phony%s\nbuild sanity: phony%s\n",
	            damage.data ? damage.data : "",
	            all.data ? all.data : "", only.data ? only.data : "",
	            sanity.data ? sanity.data : "");
	if (quality.length)
		text_printf(edges, "build check_quality: check_quality%s | always || "
		            "$o/bin/check_quality\n", quality.data);
	bool ok = text_ok(&all, err) && text_ok(&only, err) && text_ok(&damage, err) &&
	          text_ok(&quality, err) && text_ok(&sanity, err) &&
	          describe_artifacts(e, plan, settings->out, err);
	text_free(&all);
	text_free(&only);
	text_free(&damage);
	text_free(&quality);
	text_free(&sanity);
	return ok;
}
