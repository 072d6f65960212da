/* Batches under way: submitting, collecting, and how many samples fit one; see gpu.h. */
#include <stdlib.h>
#include <string.h>

#include "lib/gpu/numbers.h"
#include "lib/gpu/run.h"
#include "lib/model/caches.h"

enum { MOST_SAMPLES = 16 }; /* of a batch: beyond, the products do not get faster */

/* What gpu_collect gives of a sample. */
static int count_places(const struct device_model *g, enum gpu_work work)
{
	return g->model->linear_count +
	       (work == GPU_CALIBRATE ? count_caches(&g->model->config) : 0);
}

/* All members of a matrix see the input that was observed for the first. */
static void share_amax(const struct device_model *g, double *values, int samples)
{
	size_t places = (size_t)count_places(g, GPU_CALIBRATE);
	for (int i = 0; i < g->matrix_count; i++) {
		const struct matrix *x = g->matrices[i];
		for (int m = 1; m < x->member_count; m++)
			for (size_t s = 0; s < (size_t)samples; s++)
				values[s * places + (size_t)x->members[m]] =
					values[s * places + (size_t)x->members[0]];
	}
}

static bool prepare_slot(struct gpu_slot *slot, size_t bytes, error *err)
{
	if (!slot->done && cudaEventCreateWithFlags(&slot->done, cudaEventDisableTiming) !=
	                           cudaSuccess)
		return fail(err, EXIT_ENVIRONMENT, "CUDA: cannot make an event");
	if (bytes <= slot->results_bytes)
		return true;
	cudaFreeHost(slot->results);
	slot->results = NULL;
	slot->results_bytes = 0;
	if (!(slot->results = host_alloc(bytes, "a batch's results", err)))
		return false;
	slot->results_bytes = bytes;
	return true;
}

/* The results' way home: scores or amax first, then losses. */
static void send_results(struct run_state *r, struct gpu_slot *slot, const float *losses)
{
	size_t count = (size_t)r->samples * (size_t)r->places;
	cudaStream_t stream = r->g->device.stream;
	if (slot->work == GPU_CALIBRATE)
		cudaMemcpyAsync(slot->results, r->amax, count * sizeof *r->amax,
		                cudaMemcpyDeviceToHost, stream);
	else
		cudaMemcpyAsync(slot->results, r->score, count * sizeof *r->score,
		                cudaMemcpyDeviceToHost, stream);
	if (losses)
		cudaMemcpyAsync((double *)slot->results + count, losses,
		                (size_t)slot->graded * sizeof *losses, cudaMemcpyDeviceToHost,
		                stream);
	cudaEventRecord(slot->done, stream);
}

bool device_submit(struct gpu_model *handle, int index, enum gpu_work work,
                   const struct sample *const *samples, int count, error *err)
{
	struct device_model *g = (struct device_model *)handle;
	struct gpu_slot *slot = &g->slots[index];
	struct batch host, device;
	float *losses = NULL;
	struct run_state r = { .g = g, .batch = &device, .samples = count, .work = work,
		.places = count_places(g, work) };
	if (!batch_pack(&host, g->model, samples, count, g->device.number, &slot->packed,
	                &slot->packed_bytes, err))
		return false;
	slot->work = work;
	slot->samples = count;
	slot->graded = host.graded;
	slot->graded_starts = host.graded_starts;
	arena_reset(g);
	size_t bytes = (size_t)count * (size_t)r.places * sizeof(double) +
	               (size_t)host.graded * sizeof(float);
	bool ok = prepare_slot(slot, bytes, err) && batch_upload(&device, &host, g, err) &&
	          run_batch(&r, &losses, err);
	if (ok)
		send_results(&r, slot, losses);
	slot->busy = ok;
	return ok;
}

static void mean_losses(const struct gpu_slot *slot, const float *losses, double *loss)
{
	for (int s = 0; s < slot->samples; s++) {
		int first = slot->graded_starts[s], end = slot->graded_starts[s + 1];
		double sum = 0;
		for (int i = first; i < end; i++)
			sum += losses[i];
		loss[s] = end > first ? sum / (end - first) : 0;
	}
}

bool device_collect(struct gpu_model *handle, int index, double *values, double *loss,
                    error *err)
{
	struct device_model *g = (struct device_model *)handle;
	struct gpu_slot *slot = &g->slots[index];
	size_t count = (size_t)slot->samples * (size_t)count_places(g, slot->work);
	cudaError_t status = cudaEventSynchronize(slot->done);
	slot->busy = false;
	if (!device_check(&g->device, status, err))
		return false;
	for (int s = 0; s < slot->samples; s++)
		loss[s] = 0;
	if (slot->work == GPU_SCORE) {
		double scale = gradient_scale(g->device.number);
		for (size_t i = 0; i < count; i++)
			values[i] = ((const double *)slot->results)[i] / (scale * scale);
		mean_losses(slot, (const float *)((const double *)slot->results + count), loss);
		return true;
	}
	for (size_t i = 0; i < count; i++)
		values[i] = ((const float *)slot->results)[i];
	share_amax(g, values, slot->samples);
	return true;
}

/* ---- how much fits ---- */

static size_t tower_bytes(const struct tower *t, size_t rows, enum gpu_work work)
{
	size_t q = (size_t)t->heads * (size_t)t->head_dim;
	size_t kv = (size_t)t->kv_heads * (size_t)t->head_dim;
	size_t hidden = (size_t)t->hidden, wide = (size_t)t->intermediate;
	size_t inputs = hidden * 4;
	size_t rest = hidden * 4 + (q + 2 * kv) * 2 + q * 2 + (size_t)t->heads * 4 +
	              2 * wide * 2;
	size_t scratch = hidden * 2 + wide * 2 + (q + 2 * kv) * 2;
	if (work == GPU_COMPARE)
		scratch += 2 * hidden * 4;
	if (work == GPU_SCORE)
		scratch += hidden * 10 + (q + 2 * kv) * 2 + q * 10 + (size_t)t->heads * 4 +
		           2 * wide * 2;
	return rows * ((work == GPU_CALIBRATE ? 1 : (size_t)t->depth) * inputs +
	               (work == GPU_SCORE ? (size_t)t->depth : 1) * rest + scratch);
}

/* What quantised products take a row: codes, and differences or the codes' values. */
static size_t codes_bytes(const struct device_model *g, enum gpu_work work)
{
	size_t codes = 0, differences = 0;
	for (int i = 0; i < g->matrix_count; i++) {
		const struct matrix *x = g->matrices[i];
		size_t bytes = (size_t)x->padded_in * (runs_native(g, x, work) ? 1 : 3);
		if (!x->scored || x == &g->head)
			continue;
		codes = bytes > codes ? bytes : codes;
		if (work == GPU_SCORE && (size_t)x->padded_out * 4 > differences)
			differences = (size_t)x->padded_out * 4;
	}
	return codes + differences;
}

/* What a sample takes of the arena, generously. */
static size_t sample_bytes(const struct device_model *g, const struct sample *s,
                           enum gpu_work work)
{
	const struct model_config *c = &g->model->config;
	size_t text = (size_t)s->tokens, graded = 0;
	size_t vision = s->patches.values
	                ? (size_t)s->patches.grid_h * (size_t)s->patches.grid_w : 0;
	size_t bytes = tower_bytes(g->text.tower, text, work) +
	               tower_bytes(g->vision.tower, vision, work) +
	               vision * (size_t)c->vision.patch_values * 2 +
	               vision * (size_t)c->vision.hidden * 12;
	for (int i = 1; i < s->tokens; i++)
		graded += s->graded[i] != 0;
	if (work != GPU_CALIBRATE)
		bytes += (vision > text ? vision : text) * codes_bytes(g, work);
	if (work == GPU_SCORE)
		bytes += graded * (size_t)c->text.hidden * 16 +
		         (g->head.scored ? graded * (size_t)g->head.out * 10 : 0);
	if (work == GPU_COMPARE)
		bytes += text * ((size_t)c->text.vocab * 4 + (size_t)c->text.hidden * 2 + 64);
	return bytes + (1 << 20);
}

/* What does not grow with the samples. */
static size_t batch_bytes(const struct device_model *g, enum gpu_work work)
{
	size_t bytes = (size_t)64 << 20, weights = 0;
	for (int i = 0; i < g->matrix_count; i++) {
		const struct matrix *x = g->matrices[i];
		size_t values = (size_t)x->padded_out * (size_t)x->padded_in * 2;
		if (x->scored && !runs_native(g, x, work) && values > weights)
			weights = values;
	}
	if (work != GPU_CALIBRATE)
		bytes += weights + (size_t)LOGIT_ROWS * (size_t)g->head.out * 6;
	return bytes;
}

int device_batch_fits(const struct gpu_model *handle, const struct sample *const *samples,
                      int count, enum gpu_work work)
{
	const struct device_model *g = (const struct device_model *)handle;
	size_t used = batch_bytes(g, work);
	int fits = 0;
	while (fits < count && fits < MOST_SAMPLES) {
		used += sample_bytes(g, samples[fits], work);
		if (used > g->arena_bytes)
			break;
		fits++;
	}
	/* As many batches as it takes, all of one size: a small last one would be slow. */
	int batches = fits ? (count + fits - 1) / fits : count;
	return (count + batches - 1) / batches;
}
