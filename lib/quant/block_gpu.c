/* Batches of a block through the device, two under way at a time; see block_gpu.h. */
#include "lib/quant/block_gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/progress.h"

/* A card of the user's own has 32 GB, shared with a desktop: stay well below. */
static const size_t MEMORY_LIMIT = (size_t)24 << 30;

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

struct block_gpu {
	const struct gpu_measurement *m;
	const struct model *model;
	struct gpu_model *gpu;
	int places;
	double *values; /* [samples][places] of one block */
	int room;       /* samples that values has room for */
};

static bool quantise(struct block_gpu *b, void *self, error *err)
{
	size_t linears = (size_t)b->model->linear_count;
	float *amax = calloc(linears, sizeof *amax);
	struct gpu_quantisation *q = calloc(linears, sizeof *q);
	bool ok = (amax && q) || fail_memory(err, "scales", linears * sizeof *q);
	ok = ok && gpu_weight_amaxes(b->gpu, amax, err) &&
	     b->m->quantisation(self, b->model, amax, q, err) && gpu_quantise(b->gpu, q, err);
	free(amax);
	free(q);
	return ok;
}

bool block_gpu_open(struct block_gpu **out, const struct gpu_measurement *m, void *self,
                    const struct model *model, int places, double *quantise_seconds,
                    error *err)
{
	struct block_gpu *b = calloc(1, sizeof *b);
	*out = NULL;
	if (!b)
		return fail_memory(err, "a device's blocks", sizeof *b);
	*b = (struct block_gpu){ .m = m, .model = model, .places = places };
	bool ok = gpu_model_open(&b->gpu, model, MEMORY_LIMIT, true, err);
	double begun = monotonic_seconds();
	ok = ok && (!m->quantisation || quantise(b, self, err));
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

bool block_gpu_measure(struct block_gpu *b, const struct sample *const *samples, int count,
                       double *const *values, double *loss, error *err)
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
		                          b->m->work == GPU_SCORE);
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
