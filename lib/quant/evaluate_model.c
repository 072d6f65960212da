/* What an evaluation computes with: the model, the weights that any choice keeps
 * quantised, a view of them for each choice, and what the threads work with. */
#include <unistd.h>

#include "lib/model/caches.h"
#include "lib/quant/evaluate_parts.h"

static const size_t RESIDENT_BYTES = (size_t)4 << 30;

/* Every thread holds the logits of all positions twice, hence few threads. */
enum { MAX_THREADS = 16 };

/* A choice sees the codes of its own groups and no others. */
static bool make_view(struct evaluator *e, int choice, error *err)
{
	const struct group_list *groups = e->job->groups;
	struct quantised_model *view = &e->views[choice];
	*view = e->quantised;
	view->linears = arena_alloc(&e->memory, (size_t)e->model.linear_count,
	                            sizeof *view->linears, err);
	if (!view->linears)
		return false;
	if (e->job->choices[choice].fp8_cache)
		view->cache_scales = e->cache_scales;
	for (int g = 0; g < groups->count; g++)
		for (int m = 0; e->job->choices[choice].keeps[g] && m < groups->groups[g].member_count;
		     m++) {
			int linear = groups->groups[g].members[m];
			view->linears[linear] = e->quantised.linears[linear];
		}
	return true;
}

static bool any_keeps(const struct evaluation *job, int group)
{
	for (int i = 0; i < job->choice_count; i++)
		if (job->choices[i].keeps[group])
			return true;
	return false;
}

static bool scale_caches(struct evaluator *e, error *err)
{
	const struct evaluation *job = e->job;
	int parts = count_caches(&e->model.config);
	bool any = false;
	for (int i = 0; i < job->choice_count; i++)
		any |= job->choices[i].fp8_cache;
	if (!any)
		return true;
	e->cache_scales = arena_alloc(&e->memory, (size_t)parts, sizeof *e->cache_scales, err);
	for (int i = 0; e->cache_scales && i < parts; i++)
		e->cache_scales[i] = fp8_shipped_cache_scale(job->numerics, job->cache_amax[i]);
	return e->cache_scales != NULL;
}

/* The choices are quantised from one set of codes, those that any of them keeps. */
static bool open_gpu(struct evaluator *e, const bool *keeps, error *err)
{
	double quantise_seconds;
	e->gpu_scales.keeps = keeps;
	return block_gpu_open(&e->gpu, &e->gpu_measurement, &e->model, e->model.linear_count,
	                      &quantise_seconds, err);
}

void describe_measurement(struct evaluator *e)
{
	const struct evaluation *job = e->job;
	e->gpu_scales = (struct gpu_scales){ .linears = job->linears, .groups = job->groups,
		.input_amax = job->input_amax, .numerics = job->numerics,
		.shared = job->shared_scales };
	e->gpu_measurement = (struct gpu_measurement){ .work = GPU_COMPARE,
		.scales = &e->gpu_scales };
	name_device(&job->device, &e->gpu_measurement, e->device);
}

static bool quantise_choices(struct evaluator *e, error *err)
{
	const struct evaluation *job = e->job;
	bool *keeps = arena_alloc(&e->memory, (size_t)job->groups->count, sizeof *keeps, err);
	e->views = keeps ? arena_alloc(&e->memory, (size_t)job->choice_count, sizeof *e->views,
	                               err) : NULL;
	if (!e->views)
		return false;
	for (int g = 0; g < job->groups->count; g++)
		keeps[g] = any_keeps(job, g);
	if (!scale_caches(e, err))
		return false;
	if (job->device.gpu)
		return open_gpu(e, keeps, err);
	if (!quantise_model(&e->quantised, &e->model, job->groups, keeps, job->format,
	                    job->numerics, job->shared_scales, job->input_amax, RESIDENT_BYTES,
	                    err))
		return false;
	for (int i = 0; i < job->choice_count; i++)
		if (!make_view(e, i, err))
			return false;
	return true;
}

static bool open_model(struct evaluator *e, error *err)
{
	const char *folder = e->job->data.model;
	if (!checkpoint_open(&e->checkpoint, folder, err))
		return false;
	if (!model_open(&e->model, &e->checkpoint, &e->source.config,
	                e->job->device.gpu ? 0 : RESIDENT_BYTES, err)) {
		checkpoint_close(&e->checkpoint);
		return false;
	}
	e->model_open = true;
	return quantise_choices(e, err);
}

static bool make_benches(struct evaluator *e, error *err)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	int count = cores < 1 ? 1 : cores > MAX_THREADS ? MAX_THREADS : (int)cores;
	e->benches = arena_alloc(&e->memory, (size_t)count, sizeof *e->benches, err);
	for (; e->benches && e->bench_count < count; e->bench_count++)
		if (!e->gpu && !(e->benches[e->bench_count].workspace = workspace_new(err)))
			return false;
	return e->benches != NULL;
}

bool open_evaluator(struct evaluator *e, error *err)
{
	return open_model(e, err) && make_benches(e, err);
}
