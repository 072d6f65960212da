/* The edges that decode images: one a model and set of samples, before everything that
 * looks at the set. Models and sets that give an image the same size find each other's
 * results in the store. */
#include "lib/graph/emit_pixels.h"

#include <stdio.h>

void name_pixels(char path[PATH_BYTES], const struct catalog_model *model,
                 const struct calibration *k, const char *tree)
{
	snprintf(path, PATH_BYTES, "%s/work/%s/pixels.%s.json", tree, model->name, k->name);
}

void name_evaluation_pixels(char path[PATH_BYTES], const struct catalog_model *model,
                            const struct evaluation_set *k, const char *tree)
{
	snprintf(path, PATH_BYTES, "%s/work/%s/pixels.evaluate.%s.json", tree, model->name,
	         k->name);
}

int64_t most_samples(const struct calibration *k)
{
	return k->calib_samples > k->score_samples ? k->calib_samples : k->score_samples;
}

/* An edge, whose `data` goes on where this ends. */
static void begin_edge(struct emitted *e, text *out, const char *path,
                       const struct catalog_model *model, const char *data_stamp,
                       const char *set, const char *tree)
{
	text_printf(out, "build %s: decode | %s/stamps/%s.weights %s/stamps/%s.texts %s"
	            TOOL("decode") RUNS("decode") "\n  set = %s\n  data =", path, tree,
	            model->name, tree, model->name, data_stamp, set);
	add_option(out, "model", model->path);
	e->edges++;
}

static void emit_calibration(struct emitted *e, text *out, const struct catalog_model *model,
                             const struct calibration *k, const char *tree)
{
	char path[PATH_BYTES], stamp[PATH_BYTES];
	name_pixels(path, model, k, tree);
	snprintf(stamp, sizeof stamp, "%s/stamps/%s.data", tree, k->name);
	begin_edge(e, out, path, model, stamp, k->name, tree);
	add_option(out, "calib-db", k->calib_db);
	add_option(out, "image-root", k->image_root);
	add_option(out, "on-bad-sample", k->on_bad_sample);
	text_printf(out, " --samples %lld --max-pixels %lld\n", (long long)most_samples(k),
	            (long long)k->max_pixels);
}

static void emit_evaluation(struct emitted *e, text *out, const struct catalog_model *model,
                            const struct evaluation_set *k, int64_t samples,
                            const char *tree)
{
	char path[PATH_BYTES], stamp[PATH_BYTES];
	name_evaluation_pixels(path, model, k, tree);
	snprintf(stamp, sizeof stamp, "%s/stamps/evaluate.%s.data", tree, k->name);
	begin_edge(e, out, path, model, stamp, k->name, tree);
	add_option(out, "eval-list", k->eval_list);
	add_option(out, "image-root", k->image_root);
	text_printf(out, " --first %lld --samples %lld --max-pixels %lld\n", (long long)k->first,
	            (long long)samples, (long long)k->max_pixels);
}

bool calibration_has_pixels(const struct catalog *c, const struct catalog_model *model,
                            const struct calibration *k)
{
	for (int i = 0; k->calib_db && i < c->baseline_count; i++)
		if (c->baselines[i].model == model && c->baselines[i].calibration == k)
			return true;
	return false;
}

static bool has_baseline(const struct catalog *c, const struct catalog_model *model)
{
	for (int i = 0; i < c->baseline_count; i++)
		if (c->baselines[i].model == model)
			return true;
	return false;
}

void emit_pixels(struct emitted *e, text *out, const struct plan *plan, const char *tree)
{
	const struct catalog *c = plan->catalog;
	for (int m = 0; m < c->model_count; m++) {
		const struct catalog_model *model = &c->models[m];
		for (int i = 0; i < c->calibration_count; i++)
			if (calibration_has_pixels(c, model, &c->calibrations[i]))
				emit_calibration(e, out, model, &c->calibrations[i], tree);
		for (int i = 0; i < c->evaluation_count; i++)
			if (c->evaluations[i].eval_list && plan->evaluation_samples[i] &&
			    has_baseline(c, model))
				emit_evaluation(e, out, model, &c->evaluations[i],
				                plan->evaluation_samples[i], tree);
	}
}
