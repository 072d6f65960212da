/* Batches of a block through the device, two under way at a time; see block_gpu.h. */
#include "lib/quant/block_gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/progress.h"

/* A card of the user's own has 32 GB, shared with a desktop: stay below 24 GB, the
 * driver's own memory included. */
static const size_t MEMORY_LIMIT = (size_t)23400 * 1000 * 1000;

bool choose_device(const struct device_wish *wish, struct device_choice *choice, error *err)
{
	error none = { .text = "" };
	*choice = (struct device_choice){ .gpu = false };
	if (wish->cpu && wish->cuda)
		return fail(err, EXIT_USAGE, "--cpu and --cuda exclude each other");
	if (wish->cpu)
		return true;
	choice->gpu = gpu_usable(choice->name, wish->cuda ? err : &none);
	if (!choice->gpu && gpu_built())
		snprintf(choice->why, sizeof choice->why, "%.250s", none.text);
	return choice->gpu || !wish->cuda;
}

/* The range that scores and comparisons leave FP16: inputs this large were seen by the
 * calibration, other samples and the outputs between may be larger. */
static const float LARGEST_INPUT = 65504.0f / 8;

/* Calibration looks for the largest numbers, so it has the range of BF16. Scores and
 * comparisons are made of small differences: in FP16, unless the model's numbers are too
 * large for that. The same choice for every block, since it goes by the amax alone. */
static enum gpu_number choose_number(const struct gpu_measurement *m)
{
	const struct gpu_scales *s = m->scales;
	if (!s)
		return GPU_BF16;
	for (int g = 0; g < s->groups->count; g++)
		for (int i = 0; i < s->groups->groups[g].member_count; i++)
			if (s->input_amax[s->groups->groups[g].members[i]] > LARGEST_INPUT)
				return GPU_BF16;
	return GPU_FP16;
}

void name_device(const struct device_choice *choice, const struct gpu_measurement *m,
                 char name[160])
{
	snprintf(name, 160, "cpu float32");
	if (choice->gpu)
		snprintf(name, 160, "%s %s%s", choice->name,
		         choose_number(m) == GPU_FP16 ? "fp16" : "bf16",
		         m->wide_codes ? " wide codes" : "");
}

struct block_gpu {
	const struct gpu_measurement *m;
	const struct model *model;
	struct gpu_model *gpu;
	int places;
	double *values; /* [samples][places] of one block */
	int room;       /* samples that values has room for */
};

static bool quantise(struct block_gpu *b, error *err)
{
	size_t linears = (size_t)b->model->linear_count;
	float *amax = calloc(linears, sizeof *amax);
	struct gpu_quantisation *q = calloc(linears, sizeof *q);
	bool ok = (amax && q) || fail_memory(err, "scales", linears * sizeof *q);
	ok = ok && gpu_weight_amaxes(b->gpu, amax, err) &&
	     choose_gpu_scales(b->m->scales, amax, q, err) && gpu_quantise(b->gpu, q, err);
	free(amax);
	free(q);
	return ok;
}

bool block_gpu_open(struct block_gpu **out, const struct gpu_measurement *m,
                    const struct model *model, int places, double *quantise_seconds,
                    error *err)
{
	struct block_gpu *b = calloc(1, sizeof *b);
	*out = NULL;
	if (!b)
		return fail_memory(err, "a device's blocks", sizeof *b);
	*b = (struct block_gpu){ .m = m, .model = model, .places = places };
	bool ok = gpu_model_open(&b->gpu, model, choose_number(m), !m->wide_codes, err);
	double begun = monotonic_seconds();
	ok = ok && (!m->scales || quantise(b, err));
	*quantise_seconds = monotonic_seconds() - begun;
	if (!ok || !gpu_take_arena(b->gpu, MEMORY_LIMIT, err)) {
		block_gpu_close(b);
		return false;
	}
	*out = b;
	return true;
}

void block_gpu_close(struct block_gpu *b)
{
	if (!b)
		return;
	gpu_model_close(b->gpu);
	free(b->values);
	free(b);
}

uint64_t block_gpu_used_bytes(const struct block_gpu *b)
{
	return gpu_used_bytes(b->gpu);
}

static bool make_room(struct block_gpu *b, int count, error *err)
{
	size_t size = (size_t)count * (size_t)b->places * sizeof *b->values;
	if (count <= b->room)
		return true;
	free(b->values);
	b->values = malloc(size);
	b->room = b->values ? count : 0;
	return b->values || fail_memory(err, "a block's values", size);
}

/* A batch of the block: samples [first, first + count). */
struct piece {
	int first, count;
};

static bool collect(struct block_gpu *b, int slot, const struct piece *p, double *loss,
                    error *err)
{
	return gpu_collect(b->gpu, slot, b->values + (size_t)p->first * (size_t)b->places,
	                   loss + p->first, err);
}

static bool measure_batches(struct block_gpu *b, const struct sample *const *samples,
                            int count, double *const *values, double *loss, error *err)
{
	struct piece pieces[GPU_SLOTS] = { { 0 } };
	bool busy[GPU_SLOTS] = { false };
	bool ok = make_room(b, count, err);
	int slot = 0;
	for (int at = 0; ok && at < count; slot = (slot + 1) % GPU_SLOTS) {
		if (busy[slot])
			ok = collect(b, slot, &pieces[slot], loss, err);
		busy[slot] = false;
		int fits = gpu_batch_fits(b->gpu, samples + at, count - at,
		                          b->m->work);
		pieces[slot] = (struct piece){ at, fits };
		ok = ok && gpu_submit(b->gpu, slot, b->m->work, samples + at, fits, err);
		busy[slot] = ok;
		at += fits;
	}
	for (int i = 0; i < GPU_SLOTS; i++, slot = (slot + 1) % GPU_SLOTS)
		if (busy[slot])
			ok = collect(b, slot, &pieces[slot], loss, err) && ok;
	size_t places = (size_t)b->places;
	for (int i = 0; ok && i < count; i++)
		memcpy(values[i], b->values + (size_t)i * places, places * sizeof(double));
	return ok;
}

/* ---- comparing ---- */

static size_t count_tokens(const struct sample *const *samples, int count)
{
	size_t tokens = 0;
	for (int i = 0; i < count; i++)
		tokens += (size_t)samples[i]->tokens;
	return tokens;
}

static bool compare_batch(struct block_gpu *b, const struct sample *const *samples, int at,
                          int count, const struct gpu_choice *choices, int choice_count,
                          gpu_visit *visit, void *self, error *err)
{
	size_t rows = count_tokens(samples + at, count) * (size_t)choice_count;
	struct row_change *all = malloc(rows * sizeof *all), *next = all;
	bool ok = (all || fail_memory(err, "a comparison", rows * sizeof *all)) &&
	          gpu_compare(b->gpu, samples + at, count, choices, choice_count, all, err);
	for (int c = 0; ok && c < choice_count; c++)
		for (int i = at; ok && i < at + count; next += samples[i++]->tokens)
			ok = visit(self, c, i, next, err);
	free(all);
	return ok;
}

bool block_gpu_compare(struct block_gpu *b, const struct sample *const *samples, int count,
                       const struct gpu_choice *choices, int choice_count,
                       gpu_visit *visit, void *self, error *err)
{
	bool ok = true;
	for (int at = 0, fits; ok && at < count; at += fits) {
		fits = gpu_batch_fits(b->gpu, samples + at, count - at, GPU_COMPARE);
		ok = compare_batch(b, samples, at, fits, choices, choice_count, visit, self, err);
	}
	return ok;
}

/* Every group alone, as choices for the comparison. */
struct lone_groups {
	const struct group_list *groups;
	const struct sample *const *samples;
	double *const *values;
	bool *flags;                /* [group][linear] */
	struct gpu_choice *choices; /* [group], into flags */
};

static bool add_divergence(void *self, int choice, int sample, const struct row_change *rows,
                           error *err)
{
	const struct lone_groups *l = self;
	double sum = 0;
	(void)err;
	for (int i = 0; i < l->samples[sample]->tokens; i++)
		sum += rows[i].kl;
	l->values[sample][l->groups->groups[choice].members[0]] = sum;
	return true;
}

static bool measure_groups(struct block_gpu *b, const struct sample *const *samples,
                           int count, double *const *values, error *err)
{
	const struct group_list *groups = b->m->scales->groups;
	size_t linears = (size_t)b->model->linear_count, choices = (size_t)groups->count;
	struct lone_groups l = { .groups = groups, .samples = samples, .values = values,
		.flags = calloc(choices * linears + 1, sizeof *l.flags),
		.choices = calloc(choices + 1, sizeof *l.choices) };
	bool ok = (l.flags && l.choices) || fail_memory(err, "choices", choices * linears);
	for (size_t g = 0; ok && g < choices; g++) {
		l.choices[g].served = l.flags + g * linears;
		for (int m = 0; m < groups->groups[g].member_count; m++)
			l.flags[g * linears + (size_t)groups->groups[g].members[m]] = true;
	}
	ok = ok && block_gpu_compare(b, samples, count, l.choices, groups->count,
	                             add_divergence, &l, err);
	free(l.flags);
	free(l.choices);
	return ok;
}

bool block_gpu_measure(struct block_gpu *b, const struct sample *const *samples, int count,
                       double *const *values, double *loss, error *err)
{
	if (b->m->work != GPU_COMPARE)
		return measure_batches(b, samples, count, values, loss, err);
	memset(loss, 0, (size_t)count * sizeof *loss);
	return measure_groups(b, samples, count, values, err);
}
