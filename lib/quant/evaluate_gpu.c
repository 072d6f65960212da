/* A block of an evaluation on a GPU: the threads prepare its samples, the device runs all
 * of them plainly and with every choice that the store lacks. */
#include "lib/base/parallel.h"
#include "lib/quant/evaluate_parts.h"

static bool read_sample(void *self, int thread, int index, error *err)
{
	struct evaluator *e = self;
	bool unreadable;
	(void)thread;
	return source_sample(&e->source, e->first + index, &e->samples[index], &unreadable,
	                     err) || (unreadable && e->source.skip_bad);
}

/* Those of a block that were read, and where they stand in it. */
struct readable {
	struct evaluator *e;
	const struct sample **samples;
	int *places;
	int count;
};

static bool take_changes(void *self, int choice, int sample,
                         const struct row_change *changes, error *err)
{
	const struct readable *r = self;
	struct evaluator *e = r->e;
	struct sample_damage *out =
		&e->damage[e->missing[choice]].samples[e->first + r->places[sample]];
	if (!take_tokens(e, r->samples[sample], out, err))
		return false;
	add_changes(e, r->samples[sample], changes, out);
	return true;
}

/* What every missing choice quantises: [missing_count]. Only one format is known there. */
static const struct gpu_choice *list_choices(struct evaluator *e, arena *memory, error *err)
{
	const struct group_list *groups = e->job->groups;
	struct gpu_choice *choices = arena_alloc(memory, (size_t)e->missing_count,
	                                         sizeof *choices, err);
	for (int i = 0; choices && i < e->missing_count; i++) {
		const struct variant_choice *from = &e->job->choices[e->missing[i]];
		bool *flags = arena_alloc(memory, (size_t)e->model.linear_count, sizeof *flags, err);
		if (!flags)
			return NULL;
		for (int g = 0; g < groups->count; g++)
			for (int m = 0; from->formats[g] && m < groups->groups[g].member_count; m++)
				flags[groups->groups[g].members[m]] = true;
		choices[i] = (struct gpu_choice){ .served = flags,
			.cache_scales = from->fp8_cache ? e->cache_scales : NULL };
	}
	return choices;
}

bool compare_block(struct evaluator *e, error *err)
{
	arena memory = { 0 };
	size_t count = (size_t)e->count;
	struct readable r = { .e = e,
		.samples = arena_alloc(&memory, count, sizeof *r.samples, err) };
	e->samples = r.samples ? arena_alloc(&memory, count, sizeof *e->samples, err) : NULL;
	r.places = e->samples ? arena_alloc(&memory, count, sizeof *r.places, err) : NULL;
	const struct gpu_choice *choices = r.places ? list_choices(e, &memory, err) : NULL;
	bool ok = choices && parallel_run(e->bench_count, e->count, e, read_sample, err);
	for (int i = 0; ok && i < e->count; i++) {
		if (e->samples[i].tokens == 0)
			continue;
		r.samples[r.count] = &e->samples[i];
		r.places[r.count++] = i;
	}
	ok = ok && block_gpu_compare(e->gpu, r.samples, r.count, choices, e->missing_count,
	                             take_changes, &r, err);
	for (size_t i = 0; e->samples && i < count; i++)
		sample_free(&e->samples[i]);
	e->samples = NULL;
	arena_free(&memory);
	return ok;
}
