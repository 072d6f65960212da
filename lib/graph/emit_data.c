/* The edges of section "data" of build.ninja: per baseline calibrate, merge, score,
 * rank and quantize, and fold of formats with channel scales; and the scan list that moves their stamps. Those of schemes are in
 * emit_schemes.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/graph/emit_internal.h"
#include "lib/graph/emit_pixels.h"

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
	if (k->calib_db) {
		char pixels[PATH_BYTES];
		name_pixels(pixels, b->model, k, "$o");
		text_printf(out, " --pixels %s", pixels);
	}
	add_option(out, "prompt", k->prompt_form);
	text_printf(out, " --block-samples %lld --max-tokens %lld --max-pixels %lld",
	            (long long)k->block_samples, (long long)k->max_tokens,
	            (long long)k->max_pixels);
	add_option(out, "on-bad-sample", k->on_bad_sample);
	text_puts(out, "\n");
}

void add_glob_options(text *out, const char *option, const struct globs *globs)
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

/* What fold found of one of a baseline's formats. */
static void name_fold(char path[PATH_BYTES], const struct catalog_baseline *b,
                      const struct catalog_format *f, const char *tree)
{
	char folder[PATH_BYTES];
	baseline_folder(folder, b, tree);
	snprintf(path, PATH_BYTES, "%.3000s/fold.%.900s.json", folder, f->name);
}

void add_fold(text *out, const struct catalog_baseline *b, const struct catalog_format *f,
              const char *before, const char *tree)
{
	char path[PATH_BYTES];
	if (!f->format->channel_scales)
		return;
	name_fold(path, b, f, tree);
	text_printf(out, " %s%s", before, path);
}

void add_folds(text *out, const struct catalog_baseline *b, const char *before,
               const char *tree)
{
	for (int f = 0; f < b->format_count; f++)
		add_fold(out, b, b->formats[f], before, tree);
}

static void add_format_options(text *out, const struct catalog_baseline *b,
                               const struct catalog_format *f)
{
	text_puts(out, "  format =");
	add_option(out, "format-name", f->name);
	add_option(out, "element", f->element);
	add_option(out, "granularity", f->granularity);
	if (f->skip_bad_shapes)
		text_puts(out, " --skip-bad-shapes");
	add_numerics(out, b);
	add_glob_options(out, "include", &f->include);
	add_glob_options(out, "exclude", &f->exclude);
}

void add_format_arguments(text *out, const struct catalog_baseline *b,
                          const struct catalog_format *f, const char *tree)
{
	add_format_options(out, b, f);
	add_fold(out, b, f, "--fold ", tree);
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
	snprintf(names->rows, PATH_BYTES, "%s/stamps/%s.data", out, b->calibration->name);
	char pixels[PATH_BYTES] = "";
	if (b->calibration->calib_db)
		name_pixels(pixels, b->model, b->calibration, out);
	snprintf(names->data, sizeof names->data, "%s %s", names->rows, pixels);
}

static void scan_baseline(struct emitted *e, const struct stamp_names *names,
                          const struct catalog_baseline *b)
{
	const struct calibration *k = b->calibration;
	char more[PATH_BYTES + 32] = "";
	add_scan(e, "weights", names->weights, b->model->path, "");
	add_scan(e, "texts", names->texts, b->model->path, "");
	if (k->calib_db)
		snprintf(more, sizeof more, "%s\t%lld", k->image_root, (long long)most_samples(k));
	add_scan(e, k->captions ? "file" : "images", names->rows,
	         k->captions ? k->captions : k->calib_db, more);
}

/* ---- baselines ---- */

void baseline_folder(char *folder, const struct catalog_baseline *b, const char *out)
{
	snprintf(folder, PATH_BYTES, "%s/work/%s/%s", out, b->model->name, b->name);
}

int count_parts(int64_t samples, const struct calibration *k, int64_t workers)
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

/* Channel scales of the formats that have such. */
static void emit_folds(struct emitted *e, text *out, const struct planned_baseline *p,
                       const struct stamp_names *stamps, const char *tree)
{
	const struct catalog_baseline *b = p->catalog;
	for (int f = 0; f < b->format_count; f++) {
		char path[PATH_BYTES];
		if (!b->formats[f]->format->channel_scales)
			continue;
		name_fold(path, b, b->formats[f], tree);
		text_printf(out, "build %s: fold | %s %s %s" TOOL("fold") RUNS("fold")
		            " gpu_half\n  baseline = %s\n  samples = %lld\n", path,
		            stamps->weights, stamps->texts, stamps->data, b->name,
		            (long long)p->calib_samples);
		add_data_arguments(out, b);
		add_format_options(out, b, b->formats[f]);
		text_puts(out, "\n");
		e->edges++;
	}
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
                       const struct stamp_names *stamps, int parts, const char *tree)
{
	const struct catalog_baseline *b = p->catalog;
	for (int i = 0; i < parts; i++, e->edges++) {
		text_printf(out, "build %s/score.%s.%d.json: score | %s/amax.json %s %s %s", folder,
		            f->name, i, folder, stamps->weights, stamps->texts, stamps->data);
		add_fold(out, b, f, "", tree);
		text_printf(out, TOOL("score") RUNS("score") " gpu_half\n  part = %d/%d\n"
		            "  baseline = %s\n  samples = %lld\n  amax = %s/amax.json\n"
		            "  method = %s\n", i, parts, b->name, (long long)p->score_samples,
		            folder, b->method);
		add_data_arguments(out, b);
		add_format_arguments(out, b, f, tree);
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
		add_option(out, "import-element", b->formats[0]->element);
		add_option(out, "import-granularity", b->formats[0]->granularity);
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

/* "quantize.json"; with the format's name in it where there are several, and for
 * ModelOpt's tensors where they are others. */
static void name_pieces_file(char name[PATH_BYTES], const struct catalog_baseline *b,
                             int format, enum profile p)
{
	bool several = b->format_count > 1;
	bool own = p == PROFILE_MODELOPT && !b->formats[format]->format->form.bilingual;
	snprintf(name, PATH_BYTES, "quantize%s%s%s.json", several ? "." : "",
	         several ? b->formats[format]->name : "", own ? ".modelopt" : "");
}

void name_pieces(char path[PATH_BYTES], const struct catalog_baseline *b, int format,
                 enum profile p, const char *tree)
{
	char folder[PATH_BYTES], name[PATH_BYTES];
	baseline_folder(folder, b, tree);
	name_pieces_file(name, b, format, p);
	snprintf(path, PATH_BYTES, "%.3000s/%.900s", folder, name);
}

static void emit_quantize(struct emitted *e, text *out, const struct catalog_baseline *b,
                          int format, enum profile p, const struct stamp_names *stamps,
                          const char *tree)
{
	char stamp[PATH_BYTES], pieces[PATH_BYTES], name[PATH_BYTES];
	name_pieces(pieces, b, format, p, tree);
	name_pieces_file(name, b, format, p);
	snprintf(stamp, sizeof stamp, "%.2000s/stamps/pieces/%.900s.%.900s", tree, b->name,
	         name);
	add_scan(e, "pieces", stamp, pieces, "");
	text_printf(out, "build %s: quantize | %s %s", pieces, stamps->weights, stamp);
	add_fold(out, b, b->formats[format], "", tree);
	text_puts(out, TOOL("quantize") RUNS("quantize") "\n  model = ");
	add_word(out, b->model->path);
	text_puts(out, "\n");
	add_format_arguments(out, b, b->formats[format], tree);
	text_printf(out, "  profile = %s\n", profile_name(p));
	e->edges++;
}

/* The tensors of the universal profile, and ModelOpt's where they are others. */
static void emit_quantizes(struct emitted *e, text *out, const struct catalog_baseline *b,
                           const struct stamp_names *stamps, const char *tree)
{
	for (int f = 0; f < b->format_count; f++) {
		emit_quantize(e, out, b, f, PROFILE_UNIVERSAL, stamps, tree);
		if (!b->formats[f]->format->form.bilingual)
			emit_quantize(e, out, b, f, PROFILE_MODELOPT, stamps, tree);
	}
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

/* ---- targets ---- */

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

/* The lock lies beside the catalog: schemes.json, schemes.lock.json. */
static void add_lock(text *out, const char *catalog)
{
	char lock[PATH_BYTES];
	size_t length = strlen(catalog), tail = strlen(".json");
	if (length > tail && strcmp(catalog + length - tail, ".json") == 0)
		length -= tail;
	snprintf(lock, sizeof lock, "%.*s.lock.json", (int)length, catalog);
	text_puts(out, "  lock = ");
	add_word(out, lock);
	text_puts(out, "\n");
}

/* An edge that holds the tree against the lock or the catalog. */
static void emit_release(text *out, const char *verb, const struct tree_settings *settings,
                         const char *inputs)
{
	text_printf(out, "build %s: release | always%s" RUNS("release") "\n  verb = %s\n", verb,
	            inputs, verb);
	add_lock(out, settings->catalog);
}

/* Everything that artifacts.list names, built and verified. */
static void add_everything(text *out, const struct catalog *c, const char *tree)
{
	for (int i = 0; i < c->model_count; i++)
		if (has_checkpoints(c, &c->models[i]))
			text_printf(out, " diversity_%s", c->models[i].name);
	for (int i = 0; i < c->baseline_count; i++) {
		const struct catalog_baseline *b = &c->baselines[i];
		char folder[PATH_BYTES];
		baseline_folder(folder, b, tree);
		text_printf(out, " $\n  %s/%s_quant_manifest.json", folder, b->file_name);
	}
	for (int i = 0; i < c->scheme_count; i++)
		text_printf(out, " $\n  %s/work/%s/schemes/%s/verify.json", tree,
		            c->schemes[i].baseline->model->name, c->schemes[i].name);
}

/* Edges for a person: what there is, and how it stands. None is built unless named. */
static void emit_looks(text *out, const struct plan *plan,
                       const struct tree_settings *settings)
{
	const struct catalog *c = plan->catalog;
	text everything = { 0 };
	text_printf(out, "build help: show %s/help.txt | always\n", settings->out);
	text_puts(out, "build stats: store | always" RUNS("store") "\n  verb = stats\n"
	          "build dry-run: dry_run | always" RUNS("store") "\n");
	add_everything(&everything, c, settings->out);
	emit_release(out, "ci", settings, " tools");
	emit_release(out, "prune", settings, "");
	emit_release(out, "lock", settings, everything.data ? everything.data : "");
	out->failed |= everything.failed;
	text_free(&everything);
}

static bool fail_taken(const struct catalog *c, const char *name, error *err)
{
	return fail(err, EXIT_BAD_INPUT, "%s: schemes.%s: the name is that of another target; "
	            "expected another one", c->doc.name, name);
}

/* Whether a name is "<scheme>_<profile>". */
static bool is_in_profile(const char *name, const char *scheme)
{
	size_t length = strlen(scheme);
	enum profile unused;
	return strncmp(name, scheme, length) == 0 && name[length] == '_' &&
	       profile_from_name(name + length + 1, &unused);
}

/* Schemes are targets beside these. */
static bool check_names(const struct catalog *c, error *err)
{
	static const char *const taken[] = { "all", "tools", "test", "help", "stats",
		"dry-run", "ci", "lock", "prune", "pareto", "gpu_half", "always", NULL };
	for (int i = 0; i < c->scheme_count; i++)
		for (int k = 0; taken[k]; k++)
			if (strcmp(c->schemes[i].name, taken[k]) == 0)
				return fail_taken(c, taken[k], err);
	for (int i = 0; i < c->scheme_count; i++)
		for (int k = 0; k < c->scheme_count; k++)
			if (is_in_profile(c->schemes[i].name, c->schemes[k].name))
				return fail_taken(c, c->schemes[i].name, err);
	return true;
}

bool emit_data(struct emitted *e, text *edges, const struct plan *plan,
               const struct tree_settings *settings, error *err)
{
	const struct catalog *c = plan->catalog;
	if (!check_names(c, err))
		return false;
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
		emit_folds(e, edges, p, &names, settings->out);
		for (int f = 0; !p->catalog->import && f < p->catalog->format_count; f++)
			emit_score(e, edges, folder, p, p->catalog->formats[f], &names, score,
			           settings->out);
		emit_rank(e, edges, folder, p->catalog, &names, score, settings->out);
		emit_pareto(e, edges, folder, p->catalog);
		emit_quantizes(e, edges, p->catalog, &names, settings->out);
	}
	emit_pixels(e, edges, plan, settings->out);
	emit_schemes(e, edges, plan, settings->out);
	emit_defaults(edges, c, settings->out);
	if (!emit_artifacts(&e->artifacts, plan, settings->workers, err) ||
	    !emit_report(e, edges, plan, settings, err))
		return false;
	emit_cards(e, edges, plan, settings->out);
	emit_manifest(e, edges, settings);
	emit_pareto_target(edges, plan, settings->out);
	emit_looks(edges, plan, settings);
	return text_ok(edges, err);
}
