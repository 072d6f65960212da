/* What an evaluation computes with: the model, the weights that any choice keeps
 * quantised, a view of them for each choice, and what the threads work with. */
#include <unistd.h>

#include "lib/model/caches.h"
#include "lib/quant/evaluate_parts.h"

static const size_t RESIDENT_BYTES = (size_t)4 << 30;

/* Every thread holds the logits of all positions twice, hence few threads. */
enum { MAX_THREADS = 16 };

static int find_format(const struct evaluator *e, const struct format *format)
{
	int i = 0;
	while (i < e->format_count && e->formats[i] != format)
		i++;
	return i;
}

static bool list_formats(struct evaluator *e, error *err)
{
	const struct evaluation *job = e->job;
	size_t most = 0;
	while (format_at((int)most))
		most++;
	e->formats = arena_alloc(&e->memory, most, sizeof *e->formats, err);
	for (int i = 0; e->formats && i < job->choice_count; i++)
		for (int g = 0; g < job->groups->count; g++) {
			const struct format *format = job->choices[i].formats[g];
			if (format && find_format(e, format) == e->format_count)
				e->formats[e->format_count++] = format;
		}
	return e->formats != NULL;
}

/* A choice sees the codes of its own groups and no others. */
static bool make_view(struct evaluator *e, int choice, error *err)
{
	const struct variant_choice *c = &e->job->choices[choice];
	const struct group_list *groups = e->job->groups;
	struct quantised_model *view = &e->views[choice];
	*view = (struct quantised_model){ .model = &e->model,
		.numerics = e->job->numbers.numerics,
		.cache_scales = c->fp8_cache ? e->cache_scales : NULL };
	view->linears = arena_alloc(&e->memory, (size_t)e->model.linear_count,
	                            sizeof *view->linears, err);
	for (int i = 0; i < e->format_count; i++)
		if (e->quantised[i].largest > view->largest)
			view->largest = e->quantised[i].largest;
	for (int g = 0; view->linears && g < groups->count; g++)
		for (int m = 0; c->formats[g] && m < groups->groups[g].member_count; m++) {
			int linear = groups->groups[g].members[m];
			view->linears[linear] =
				e->quantised[find_format(e, c->formats[g])].linears[linear];
		}
	return view->linears != NULL;
}

/* keeps[group]: a choice has it in this format; NULL: in any. */
static void mark_groups(const struct evaluation *job, const struct format *format,
                        bool *keeps)
{
	for (int g = 0; g < job->groups->count; g++) {
		keeps[g] = false;
		for (int i = 0; i < job->choice_count; i++) {
			const struct format *has = job->choices[i].formats[g];
			keeps[g] = keeps[g] || (has && (!format || has == format));
		}
	}
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
		e->cache_scales[i] = fp8_shipped_cache_scale(job->numbers.numerics, job->cache_amax[i]);
	return e->cache_scales != NULL;
}

/* The choices are quantised from one set of codes, those that any of them has. */
static bool open_gpu(struct evaluator *e, bool *keeps, error *err)
{
	double quantise_seconds;
	mark_groups(e->job, NULL, keeps);
	e->gpu_scales.keeps = keeps;
	return block_gpu_open(&e->gpu, &e->gpu_measurement, &e->model, e->model.linear_count,
	                      &quantise_seconds, err);
}

void describe_measurement(struct evaluator *e)
{
	const struct evaluation *job = e->job;
	e->gpu_scales = (struct gpu_scales){ .linears = job->linears, .groups = job->groups,
		.input_amax = job->input_amax, .numerics = job->numbers.numerics,
		.shared = job->numbers.shared_scales };
	e->gpu_measurement = (struct gpu_measurement){ .work = GPU_COMPARE,
		.scales = &e->gpu_scales };
	name_device(&job->device, &e->gpu_measurement, e->device);
}

/* Every format once, what any choice has in it; and of those a view a choice. */
static bool quantise_formats(struct evaluator *e, bool *keeps, error *err)
{
	const struct evaluation *job = e->job;
	e->views = arena_alloc(&e->memory, (size_t)job->choice_count, sizeof *e->views, err);
	if (!e->views || !list_formats(e, err) ||
	    !(e->quantised = arena_alloc(&e->memory, (size_t)e->format_count,
	                                 sizeof *e->quantised, err)))
		return false;
	for (int i = 0; i < e->format_count; i++) {
		mark_groups(job, e->formats[i], keeps);
		if (!quantise_model(&e->quantised[i], &e->model, job->groups, keeps, e->formats[i],
		                    job->numbers.numerics, job->numbers.shared_scales,
		                    job->input_amax, job->folds,
		                    RESIDENT_BYTES / (size_t)e->format_count, err))
			return false;
	}
	for (int i = 0; i < job->choice_count; i++)
		if (!make_view(e, i, err))
			return false;
	return true;
}

static bool quantise_choices(struct evaluator *e, error *err)
{
	bool *keeps = arena_alloc(&e->memory, (size_t)e->job->groups->count, sizeof *keeps, err);
	return keeps && scale_caches(e, err) &&
	       (e->job->device.gpu ? open_gpu(e, keeps, err) : quantise_formats(e, keeps, err));
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
