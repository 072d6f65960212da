/* artifacts.list: what the catalog makes, for the lock, for `ninja ci`, and for what
 * the store may throw away. The form is in lib/artifact/release.h; paths are relative
 * to the tree and nothing here names a machine's folders, so that a lock holds
 * anywhere. */
#include <stdio.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/graph/emit_internal.h"
#include "lib/graph/emit_pixels.h"

static void add_artifact(text *out, const char *kind, const char *model, const char *owner,
                         const char *what)
{
	text_printf(out, "artifact\t%s/%s/%s\t%s\n", model, owner, what, kind);
}

static void add_tools(text *out, const char *first, const char *second)
{
	text_printf(out, "tool\t%s\n", first);
	if (second)
		text_printf(out, "tool\t%s\n", second);
}

static void add_parameter(text *out, const char *name, const char *value)
{
	text_printf(out, "parameter\t%s\t%s\n", name, value);
}

static void add_number(text *out, const char *name, int64_t value)
{
	text_printf(out, "parameter\t%s\t%lld\n", name, (long long)value);
}

static void add_from(text *out, const char *model, const char *owner, const char *what)
{
	text_printf(out, "from\t%s/%s/%s\n", model, owner, what);
}

/* Stamps as emit_data.c names them, without the tree. */
static void add_stamp(text *out, const char *name, const char *kind)
{
	text_printf(out, "stamp\tstamps/%s.%s\n", name, kind);
}

static void add_samples(text *out, const struct catalog_baseline *b, int64_t samples)
{
	const struct calibration *k = b->calibration;
	add_number(out, "samples", samples);
	add_number(out, "block_samples", k->block_samples);
	add_number(out, "max_tokens", k->max_tokens);
	add_number(out, "max_pixels", k->max_pixels);
	add_parameter(out, "prompt", k->prompt_form);
	add_parameter(out, "on_bad_sample", k->on_bad_sample);
	add_stamp(out, b->model->name, "weights");
	add_stamp(out, b->model->name, "texts");
	add_stamp(out, k->name, "data");
	if (k->calib_db)
		add_from(out, b->model->name, k->name, "pixels");
}

/* The decoded images of a set, which are the samples' too. */
static void add_pixels(text *out, const struct catalog_model *model,
                       const struct calibration *k)
{
	char path[PATH_BYTES];
	name_pixels(path, model, k, ".");
	add_artifact(out, "work", model->name, k->name, "pixels");
	add_tools(out, "decode", NULL);
	add_number(out, "samples", most_samples(k));
	add_number(out, "max_pixels", k->max_pixels);
	add_parameter(out, "on_bad_sample", k->on_bad_sample);
	add_stamp(out, model->name, "weights");
	add_stamp(out, model->name, "texts");
	add_stamp(out, k->name, "data");
	text_printf(out, "output\t%s\n", path + strlen("./"));
}

static void add_globs(text *out, const char *name, const struct globs *globs)
{
	if (!globs->count)
		return;
	text_printf(out, "parameter\t%s\t", name);
	for (int i = 0; i < globs->count; i++)
		text_printf(out, "%s%s", i ? " " : "", globs->values[i]);
	text_puts(out, "\n");
}

/* One candidate: "FP8_DEFAULT_CFG.element", ... */
static void add_format(text *out, const struct catalog_format *f)
{
	char name[PATH_BYTES];
	snprintf(name, sizeof name, "%s.element", f->name);
	add_parameter(out, name, f->element);
	snprintf(name, sizeof name, "%s.granularity", f->name);
	add_parameter(out, name, f->granularity);
	snprintf(name, sizeof name, "%s.skip_bad_shapes", f->name);
	add_parameter(out, name, f->skip_bad_shapes ? "yes" : "no");
	snprintf(name, sizeof name, "%s.include", f->name);
	add_globs(out, name, &f->include);
	snprintf(name, sizeof name, "%s.exclude", f->name);
	add_globs(out, name, &f->exclude);
}

static void add_numerics(text *out, const struct catalog_baseline *b)
{
	add_parameter(out, "numerics", b->numerics);
	add_parameter(out, "scales", b->shared_scales ? "group" : "member");
}

static void add_formats(text *out, const struct catalog_baseline *b)
{
	add_numerics(out, b);
	for (int f = 0; f < b->format_count; f++)
		add_format(out, b->formats[f]);
}

static void add_parts(text *out, const struct catalog_baseline *b, const char *verb,
                      int parts)
{
	for (int i = 0; i < parts; i++)
		text_printf(out, "part\twork/%s/%s/%s.%d.json\n", b->model->name, b->name, verb,
		            i);
}

static void add_output(text *out, const struct catalog_baseline *b, const char *prefix,
                       const char *name)
{
	text_printf(out, "output\twork/%s/%s/%s%s\n", b->model->name, b->name, prefix, name);
}

/* The scores: own ones, or those of the manifest that the baseline is imported from. */
static void add_scores(text *out, const struct planned_baseline *p, int parts)
{
	const struct catalog_baseline *b = p->catalog;
	char verb[PATH_BYTES];
	if (b->import) {
		add_tools(out, "rank", NULL);
		text_printf(out, "stamp\tstamps/import/%s\n", b->name);
		add_stamp(out, b->model->name, "weights");
		add_parameter(out, "prompt", b->calibration->prompt_form);
		return;
	}
	add_tools(out, "score", "rank");
	add_samples(out, b, p->score_samples);
	add_parameter(out, "method", b->method);
	for (int f = 0; f < b->format_count; f++) {
		snprintf(verb, sizeof verb, "score.%s", b->formats[f]->name);
		add_parts(out, b, verb, parts);
	}
}

/* "fold.NAME" */
static void name_fold_of(char name[PATH_BYTES], const struct catalog_format *f)
{
	snprintf(name, PATH_BYTES, "fold.%s", f->name);
}

static void add_scales(text *out, const struct planned_baseline *p,
                       const struct catalog_format *f)
{
	const struct catalog_baseline *b = p->catalog;
	char name[PATH_BYTES];
	name_fold_of(name, f);
	add_artifact(out, "work", b->model->name, b->name, name);
	add_tools(out, "fold", NULL);
	add_samples(out, b, p->calib_samples);
	add_numerics(out, b);
	add_format(out, f);
	add_output(out, b, name, ".json");
}

/* What fold found of a format, where it has channel scales. */
static void add_from_fold(text *out, const struct catalog_baseline *b,
                          const struct catalog_format *f)
{
	char name[PATH_BYTES];
	if (!f->format->channel_scales)
		return;
	name_fold_of(name, f);
	add_from(out, b->model->name, b->name, name);
}

static void add_ranking(text *out, const struct planned_baseline *p, int parts)
{
	const struct catalog_baseline *b = p->catalog;
	const char *model = b->model->name;
	add_artifact(out, "work", model, b->name, "ranking");
	add_scores(out, p, parts);
	add_formats(out, b);
	add_parameter(out, "file_name", b->file_name);
	add_parameter(out, "data", b->calibration->data);
	add_parameter(out, "model_stand_in", b->model->stand_in ? "yes" : "no");
	add_parameter(out, "data_stand_in", b->calibration->stand_in ? "yes" : "no");
	add_from(out, model, b->name, "amax");
	for (int f = 0; !b->import && f < b->format_count; f++)
		add_from_fold(out, b, b->formats[f]);
	add_output(out, b, b->file_name, "_quant_manifest.json");
	add_output(out, b, b->file_name, "_autoquant_state.json");
	add_output(out, b, "", "per-layer-sensitivity.md");
	add_output(out, b, "", "per-layer-sensitivity.json");
}

/* "pieces", or of several formats "pieces.NAME". */
static void name_pieces_of(char name[PATH_BYTES], const struct catalog_baseline *b,
                           int format)
{
	bool several = b->format_count > 1;
	snprintf(name, PATH_BYTES, "pieces%s%s", several ? "." : "",
	         several ? b->formats[format]->name : "");
}

/* Of the baseline's own profile. */
static void add_pieces(text *out, const struct catalog_baseline *b, int format)
{
	char name[PATH_BYTES], path[PATH_BYTES];
	enum profile p = PROFILE_UNIVERSAL;
	profile_from_name(b->profile, &p);
	name_pieces_of(name, b, format);
	name_pieces(path, b, format, p, ".");
	add_artifact(out, "work", b->model->name, b->name, name);
	add_tools(out, "quantize", NULL);
	add_numerics(out, b);
	add_format(out, b->formats[format]);
	if (!b->formats[format]->format->form.bilingual)
		add_parameter(out, "profile", p == PROFILE_MODELOPT ? "modelopt" : "universal");
	add_stamp(out, b->model->name, "weights");
	add_from_fold(out, b, b->formats[format]);
	text_printf(out, "output\t%s\n", path + strlen("./"));
}

static void add_baseline(text *out, const struct planned_baseline *p, int64_t workers)
{
	const struct catalog_baseline *b = p->catalog;
	add_artifact(out, "work", b->model->name, b->name, "amax");
	add_tools(out, "calibrate", "merge");
	add_samples(out, b, p->calib_samples);
	add_output(out, b, "", "amax.json");
	add_parts(out, b, "calibrate", count_parts(p->calib_samples, b->calibration, workers));
	for (int f = 0; f < b->format_count; f++)
		if (b->formats[f]->format->channel_scales)
			add_scales(out, p, b->formats[f]);
	add_ranking(out, p, count_parts(p->score_samples, b->calibration, workers));
	for (int f = 0; f < b->format_count; f++)
		add_pieces(out, b, f);
}

/* Files that a rule names are stamps: their content decides, not where they lie. */
static void add_rule(text *out, const struct scheme *s)
{
	const struct rule *rule = &s->rule;
	switch (rule->kind) {
	case RULE_FULL: add_parameter(out, "top_percent", "full"); break;
	case RULE_TOP_PERCENT:
		text_printf(out, "parameter\ttop_percent\t%g\n", rule->percent);
		break;
	case RULE_TOP_BLOCKS:
		text_printf(out, "parameter\ttop_blocks\t%g\n", rule->percent);
		break;
	case RULE_LIST: add_globs(out, "groups", &rule->groups); break;
	case RULE_MANIFEST: text_printf(out, "stamp\tstamps/coverage/%s\n", s->name); break;
	}
	if (rule->bits > 0)
		text_printf(out, "parameter\teffective_bits\t%.17g\n", rule->bits);
	if (rule->costs)
		text_printf(out, "stamp\tstamps/costs/%s\nparameter\tbudget\t%.17g\n", s->name,
		            rule->budget);
	add_globs(out, "pin_bf16", &rule->pin_bf16);
	add_globs(out, "pin_quantized", &rule->pin_quantised);
	add_globs(out, "cost_exclude", &rule->cost_exclude);
	if (s->kv_cache) {
		text_puts(out, "parameter\tkv_cache\t");
		kv_format_print(s->kv_cache, out);
		text_puts(out, "\n");
	}
}

static void add_slice(text *out, const struct scheme *s)
{
	const char *model = s->baseline->model->name;
	add_artifact(out, "work", model, s->name, "slice");
	add_tools(out, "slice", NULL);
	add_rule(out, s);
	add_parameter(out, "file_name", scheme_file_name(s));
	add_parameter(out, "baseline", s->baseline->publish ? s->baseline->name : s->name);
	add_from(out, model, s->baseline->name, "ranking");
	text_printf(out, "output\twork/%s/schemes/%s/slice.json\n"
	            "output\twork/%s/schemes/%s/manifest.json\n"
	            "output\twork/%s/schemes/%s/selection.json\n", model, s->name, model, s->name,
	            model, s->name);
}

static void add_checkpoint(text *out, const struct scheme *s)
{
	const struct catalog_baseline *b = s->baseline;
	const char *model = b->model->name, *file = scheme_file_name(s);
	add_artifact(out, "published", model, s->name, "checkpoint");
	add_tools(out, "export", "describe");
	add_parameter(out, "file_name", file);
	add_parameter(out, "profile", b->profile);
	add_parameter(out, "layout", b->layout);
	add_parameter(out, "numerics", b->numerics);
	add_stamp(out, model, "texts");
	add_from(out, model, s->name, "slice");
	add_from(out, model, b->name, "ranking");
	add_from(out, model, b->name, "amax");
	for (int f = 0; f < b->format_count; f++) {
		char pieces[PATH_BYTES];
		name_pieces_of(pieces, b, f);
		add_from(out, model, b->name, pieces);
	}
	text_printf(out, "list\tmodels/%s/quantized/%s\tmodels/%s/quantized/%s/"
	            "layer-sensitivity/%s_files.json\n", model, s->name, model, s->name, file);
}

/* Folders that are made when somebody asks for them; of an unlisted scheme, all are. */
static void add_siblings(text *out, const struct catalog *c, const struct scheme *s,
                         bool listed)
{
	for (enum profile p = 0; p < PROFILE_COUNT; p++) {
		struct checkpoint_names names;
		name_checkpoint(&names, s, p, ".");
		if (comes_in(c, s, p) && (!listed || strcmp(names.target, s->name) != 0))
			text_printf(out, "sibling\t%s\n", names.folder + strlen("./"));
	}
}

static void add_diversity(text *out, const struct catalog *c, const struct catalog_model *m)
{
	bool begun = false;
	for (int i = 0; i < c->scheme_count; i++) {
		if (c->schemes[i].baseline->model != m)
			continue;
		if (!begun) {
			add_artifact(out, "published", m->name, "all", "diversity");
			add_tools(out, "diversity", NULL);
			text_printf(out, "output\tmodels/%s/quantized/scheme-diversity.json\n",
			            m->name);
			begun = true;
		}
		add_from(out, m->name, c->schemes[i].name, "checkpoint");
	}
}

bool emit_artifacts(text *out, const struct plan *plan, int64_t workers, error *err)
{
	const struct catalog *c = plan->catalog;
	for (int m = 0; m < c->model_count; m++)
		for (int i = 0; i < c->calibration_count; i++)
			if (calibration_has_pixels(c, &c->models[m], &c->calibrations[i]))
				add_pixels(out, &c->models[m], &c->calibrations[i]);
	for (int i = 0; i < c->baseline_count; i++)
		add_baseline(out, &plan->baselines[i], workers);
	for (int i = 0; i < c->scheme_count; i++) {
		add_slice(out, &c->schemes[i]);
		add_checkpoint(out, &c->schemes[i]);
		add_siblings(out, c, &c->schemes[i], true);
	}
	for (int i = 0; i < c->unlisted_count; i++)
		add_siblings(out, c, &c->unlisted[i], false);
	for (int i = 0; i < c->model_count; i++)
		add_diversity(out, c, &c->models[i]);
	return text_ok(out, err);
}
