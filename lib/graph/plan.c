/* The plan; see plan.h. */
#include "lib/graph/plan.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/checkpoint/safetensors.h"
#include "lib/data/samples.h"
#include "lib/graph/plan_schemes.h"
#include "lib/model/expand.h"

static int64_t smaller(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* How many rows the source has, up to `most`. */
static bool count_rows(const struct calibration *k, int64_t most, int64_t *rows, error *err)
{
	struct sample_list list = { 0 };
	bool ok = k->captions ? captions_load(&list, k->captions, 0, (size_t)most, err)
	                      : calib_db_load(&list, k->calib_db, 0, (size_t)most, err);
	*rows = ok ? (int64_t)list.count : 0;
	sample_list_free(&list);
	return ok;
}

static bool plan_data(struct planned_baseline *p, error *err)
{
	const struct calibration *k = p->catalog->calibration;
	if (p->catalog->import && !file_exists(p->catalog->import))
		return fail(err, EXIT_BAD_INPUT, "%s: the manifest that baseline %s imports is "
		            "missing", p->catalog->import, p->catalog->name);
	int64_t most = k->calib_samples > k->score_samples ? k->calib_samples
	                                                   : k->score_samples;
	int64_t rows;
	if (k->calib_db && !file_exists(k->image_root))
		return fail(err, EXIT_BAD_INPUT, "%s: image root of calibration %s is missing",
		            k->image_root, k->name);
	if (!count_rows(k, most, &rows, err))
		return false;
	p->calib_samples = smaller(rows, k->calib_samples);
	p->score_samples = smaller(rows, p->catalog->score_samples);
	return true;
}

/* The head is no linear that any consumer loads in FP8 from these profiles, and a
 * tied one would need a second copy of the embedding. */
static bool check_groups(const struct group_list *groups, const struct catalog_format *f,
                         const struct catalog_baseline *b, const struct catalog *c,
                         error *err)
{
	for (int i = 0; i < groups->count; i++) {
		if (groups->groups[i].kind == KIND_HEAD)
			return fail(err, EXIT_BAD_INPUT,
			            "%s: format %s of baseline %s: lm_head cannot be exported in "
			            "FP8; expected it among \"exclude\"", c->doc.name, f->name,
			            b->name);
	}
	return groups->count > 0 ||
	       fail(err, EXIT_BAD_INPUT, "%s: format %s excludes every linear of %s",
	            c->doc.name, f->name, b->model->path);
}

/* The groups of one candidate format. */
static bool plan_format(struct plan *plan, const struct catalog_baseline *b,
                        const struct catalog_format *f, const struct linear_shape *linears,
                        int count, struct group_list *out, error *err)
{
	if (!make_groups(linears, count, f->exclude.values, f->exclude.count, &plan->memory,
	                 out, err))
		return false;
	keep_included(out, linears, f->include.values, f->include.count);
	return keep_takeable(out, linears, f->format, f->name, f->skip_bad_shapes, err) &&
	       check_groups(out, f, b, plan->catalog, err);
}

/* p->groups and p->all. */
static bool plan_formats(struct plan *plan, struct planned_baseline *p,
                         const struct linear_shape *linears, int count, error *err)
{
	const struct catalog_baseline *b = p->catalog;
	bool *taken = arena_alloc(&plan->memory, (size_t)count, sizeof *taken, err);
	if (!taken)
		return false;
	for (int f = 0; f < b->format_count; f++) {
		struct group_list own;
		if (!plan_format(plan, b, b->formats[f], linears, count, &own, err))
			return false;
		for (int g = 0; g < own.count; g++)
			taken[own.groups[g].members[0]] = true;
	}
	if (!make_groups(linears, count, NULL, 0, &plan->memory, &p->all, err) ||
	    !(p->groups.groups = arena_alloc(&plan->memory, (size_t)p->all.count,
	                                     sizeof *p->groups.groups, err)))
		return false;
	for (int g = 0; g < p->all.count; g++)
		if (taken[p->all.groups[g].members[0]])
			p->groups.groups[p->groups.count++] = p->all.groups[g];
	return true;
}

/* The tensors must be there in the shapes the configuration implies, of a dtype that
 * can be quantised. */
static bool check_shapes(const struct checkpoint *ckpt, const struct linear_shape *linears,
                         int count, const struct model_config *config, error *err)
{
	for (int i = 0; i < count; i++) {
		char hub[NAME_BYTES], name[NAME_BYTES + 8];
		name_to_hub(linears[i].name, hub);
		snprintf(name, sizeof name, "%s.weight", hub);
		if (config->text.tied_head && strcmp(hub, "lm_head") == 0)
			continue;
		const struct tensor *t = checkpoint_find(ckpt, name);
		if (!t)
			return fail(err, EXIT_BAD_INPUT, "%s: expected tensor %s, found none",
			            ckpt->folder, name);
		if (t->rank < 2 || t->shape[0] != linears[i].out ||
		    t->elements != (int64_t)linears[i].out * linears[i].in)
			return fail(err, EXIT_BAD_INPUT,
			            "%s: %s: expected shape [%d, %d], found %lld elements with "
			            "first side %lld", t->file, name, linears[i].out, linears[i].in,
			            (long long)t->elements, t->rank ? (long long)t->shape[0] : 0LL);
		if (!can_expand(t->dtype))
			return fail(err, EXIT_BAD_INPUT, "%s: %s: expected BF16, F16 or F32, found %s",
			            t->file, name, dtype_name(t->dtype));
	}
	return true;
}

static void measure_groups(struct planned_baseline *p, const struct linear_shape *linears)
{
	for (int g = 0; g < p->groups.count; g++) {
		const struct group *group = &p->groups.groups[g];
		if (!group->exportable)
			continue;
		p->quantised_bytes += group->weights;
		for (int m = 0; m < group->member_count; m++) {
			const struct linear_shape *linear = &linears[group->members[m]];
			p->misaligned += linear->out % 16 || linear->in % 16;
		}
	}
}

static bool plan_model(struct plan *plan, struct planned_baseline *p, error *err)
{
	const struct catalog_baseline *b = p->catalog;
	struct model_config config;
	struct checkpoint ckpt = { 0 };
	struct linear_shape *linears;
	int count;
	if (!model_config_load(&config, b->model->path, err) ||
	    !list_linears(&config, &plan->memory, &linears, &count, err) ||
	    !plan_formats(plan, p, linears, count, err) ||
	    !checkpoint_open(&ckpt, b->model->path, err))
		return false;
	bool ok = check_shapes(&ckpt, linears, count, &config, err);
	for (size_t i = 0; i < ckpt.count; i++)
		p->model_bytes += (int64_t)ckpt.by_name[i]->bytes;
	checkpoint_close(&ckpt);
	measure_groups(p, linears);
	return ok;
}

/* A captions file that ends before the first row wanted is no fault: it may be all
 * that there is to calibrate with. The plan says that the set is left out. */
static bool plan_evaluations(struct plan *plan, error *err)
{
	const struct catalog *c = plan->catalog;
	plan->evaluation_samples = arena_alloc(&plan->memory, (size_t)c->evaluation_count,
	                                       sizeof *plan->evaluation_samples, err);
	if (!plan->evaluation_samples)
		return false;
	for (int i = 0; i < c->evaluation_count; i++) {
		const struct evaluation_set *k = &c->evaluations[i];
		struct sample_list list = { 0 };
		size_t first = (size_t)k->first, most = (size_t)k->samples;
		if (k->image_root && !file_exists(k->image_root))
			return fail(err, EXIT_BAD_INPUT, "%s: image root of evaluation %s is missing",
			            k->image_root, k->name);
		if (!(k->captions ? captions_load(&list, k->captions, first, most, err)
		                  : eval_list_load(&list, k->eval_list, first, most, err)))
			return false;
		plan->evaluation_samples[i] = (int64_t)list.count;
		sample_list_free(&list);
	}
	return true;
}

bool plan_build(struct plan *plan, const struct catalog *catalog, error *err)
{
	*plan = (struct plan){ .catalog = catalog };
	plan->baselines = arena_alloc(&plan->memory, (size_t)catalog->baseline_count,
	                              sizeof *plan->baselines, err);
	bool ok = plan->baselines != NULL;
	for (int i = 0; ok && i < catalog->baseline_count; i++) {
		plan->baselines[i].catalog = &catalog->baselines[i];
		ok = plan_model(plan, &plan->baselines[i], err) &&
		     plan_data(&plan->baselines[i], err);
	}
	ok = ok && check_schemes(plan, err) && plan_evaluations(plan, err);
	if (!ok)
		plan_free(plan);
	return ok;
}

void plan_free(struct plan *plan)
{
	arena_free(&plan->memory);
	*plan = (struct plan){ 0 };
}

static void print_baseline(const struct planned_baseline *p)
{
	const struct catalog_baseline *b = p->catalog;
	const struct calibration *k = b->calibration;
	printf("  %s\n", b->name);
	printf("    model      %s (%s)%s\n", b->model->name, b->model->path,
	       b->model->stand_in ? ", a STAND-IN for a real model" : "");
	printf("    data       %s (%s)%s\n", k->data, k->captions ? k->captions : k->calib_db,
	       k->stand_in ? ", a STAND-IN for COCO 2017" : "");
	printf("    samples    calibrate %lld (of %lld asked), score %lld (of %lld asked)\n",
	       (long long)p->calib_samples, (long long)k->calib_samples,
	       (long long)p->score_samples, (long long)b->score_samples);
	if (b->import)
		printf("    scores     from %s\n", b->import);
	printf("    groups     %d in %s", p->groups.count, b->formats[0]->name);
	for (int f = 1; f < b->format_count; f++)
		printf(" or %s", b->formats[f]->name);
	printf("\n");
	printf("    to write   %.1f MB once, then links\n",
	       (double)(p->quantised_bytes + p->model_bytes) / 1e6);
	if (p->misaligned)
		printf("    note       %d linears have a side that is no multiple of 16: vLLM "
		       "pads them or uses a slower kernel, TensorRT-LLM and SGLang may refuse "
		       "them\n", p->misaligned);
}

static void print_evaluation(const struct evaluation_set *k, int64_t samples)
{
	const char *source = k->captions ? k->captions : k->eval_list;
	if (samples)
		printf("  evaluation %s: %lld samples (of %lld asked) of %s (%s)%s\n", k->name,
		       (long long)samples, (long long)k->samples, k->data, source,
		       k->stand_in ? ", a STAND-IN for COCO 2017" : "");
	else
		printf("  evaluation %s: left out, %s has no row after the first %lld\n", k->name,
		       source, (long long)k->first);
}

void plan_print(const struct plan *plan, int edges)
{
	const struct catalog *c = plan->catalog;
	printf("quern: %d schemes from %d baselines, %d edges\n", c->scheme_count,
	       c->baseline_count, edges);
	for (int i = 0; i < c->baseline_count; i++)
		print_baseline(&plan->baselines[i]);
	for (int i = 0; i < c->evaluation_count; i++)
		print_evaluation(&c->evaluations[i], plan->evaluation_samples[i]);
}
