/* The worker behind calibrate and score; see block_run.h.
 *
 * Samples of a block are shared out among threads, each with a workspace of its
 * own; what they measure is kept per sample and merged in sample order, so the
 * number of threads changes nothing. */
#include "lib/quant/block_run.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/matmul.h"
#include "lib/artifact/publish.h"
#include "lib/artifact/tool.h"
#include "lib/base/parallel.h"
#include "lib/base/progress.h"
#include "lib/model/caches.h"
#include "lib/quant/timings.h"

/* Weights are held in float32 up to this size, beyond it expanded at use. */
static const size_t RESIDENT_BYTES = (size_t)4 << 30;

enum { MAX_THREADS = 256, MAX_BLOCK_BYTES = 1 << 28 };

/* One sample's outcome. */
struct measured {
	double *values; /* [places] */
	double loss;
	bool skipped, cut;
	struct sample sample; /* waiting for the device */
	bool waits;
};

struct worker;

/* The samples of a block on their way through the threads. */
struct stretch {
	int64_t first;
	int count;                 /* 0: none */
	struct measured *measured; /* [block_samples] */
	int next;
	bool failed;
	int failed_at; /* index of the first sample that failed, with its error */
	error err;
};

struct runner {
	const struct measurement *m;
	struct source source;
	struct memo *memo;
	struct digest sources;  /* of the tool */
	struct key model_key;   /* taken before the model's files were opened */
	struct model model;
	struct checkpoint checkpoint;
	bool model_open;
	int places;              /* values of a sample: the linears', then those of the cache */
	bool gpu;                /* measure on the device, prepare samples on the threads */
	char device[160];        /* as keys and manifests call it */
	struct block_gpu *blocks_gpu;
	struct worker *workers;
	int worker_count;
	struct progress progress;
	int64_t done; /* samples */
	struct timings spent;

	/* The block at hand and, while the device has that, the worker's next one. */
	struct stretch block, ahead;
	int64_t ahead_first; /* where that begins; -1: there is none */
	pthread_mutex_t lock; /* guards the stretches, done and progress */
};

struct worker {
	struct runner *r;
	struct stretch *stretch;
	struct workspace *workspace;
	void *state;
	pthread_t thread;
};

/* ---- one block on all threads ---- */

static bool measure_sample(struct worker *w, int index, error *err)
{
	struct runner *r = w->r;
	struct measured *out = &w->stretch->measured[index];
	struct sample sample;
	bool unreadable;
	memset(out->values, 0, (size_t)r->places * sizeof *out->values);
	out->loss = 0;
	out->skipped = out->cut = false;
	if (!source_sample(&r->source, w->stretch->first + index, &sample, &unreadable, err)) {
		out->skipped = unreadable && r->source.skip_bad;
		return out->skipped;
	}
	out->cut = sample.cut;
	if (r->gpu) {
		out->sample = sample;
		out->waits = true;
		return true;
	}
	bool ok = r->m->measure(r->m->self, w->state, &r->model, w->workspace, &sample,
	                        out->values, &out->loss, err);
	sample_free(&sample);
	return ok;
}

/* Of several samples that fail it is the first whose error is told: when a later one
 * has failed, all before it were begun and are waited for. */
static void *work(void *argument)
{
	struct worker *w = argument;
	struct runner *r = w->r;
	struct stretch *s = w->stretch;
	pthread_mutex_lock(&r->lock);
	while (!s->failed && s->next < s->count) {
		error err;
		int index = s->next++;
		pthread_mutex_unlock(&r->lock);
		bool ok = measure_sample(w, index, &err);
		pthread_mutex_lock(&r->lock);
		if (!ok && (!s->failed || index < s->failed_at)) {
			s->failed = true;
			s->failed_at = index;
			s->err = err;
		}
		if (!r->gpu)
			progress_set(&r->progress, ++r->done);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

static void run_threads(struct runner *r, struct stretch *s)
{
	int started = 0;
	s->next = 0;
	s->failed = false;
	for (int i = 0; i < r->worker_count; i++)
		r->workers[i].stretch = s;
	for (int i = 1; i < r->worker_count; i++, started++)
		if (pthread_create(&r->workers[i].thread, NULL, work, &r->workers[i]) != 0)
			break; /* fewer threads do as well */
	work(&r->workers[0]);
	for (int i = 1; i <= started; i++)
		pthread_join(r->workers[i].thread, NULL);
}

static void free_waiting(struct stretch *s)
{
	for (int i = 0; i < s->count; i++)
		if (s->measured[i].waits)
			sample_free(&s->measured[i].sample);
	for (int i = 0; i < s->count; i++)
		s->measured[i].waits = false;
}

/* The samples that the threads prepared, through the device. */
static bool run_device(struct runner *r, error *err)
{
	struct stretch *s = &r->block;
	const struct sample **samples = calloc((size_t)s->count, sizeof *samples);
	double **values = calloc((size_t)s->count, sizeof *values);
	double *losses = calloc((size_t)s->count, sizeof *losses);
	int count = 0;
	bool ok = (samples && values && losses) || fail_memory(err, "a batch", 0);
	for (int i = 0; ok && i < s->count; i++) {
		if (!s->measured[i].waits)
			continue;
		samples[count] = &s->measured[i].sample;
		values[count++] = s->measured[i].values;
	}
	ok = ok && block_gpu_measure(r->blocks_gpu, samples, count, values, losses, err);
	for (int i = 0, n = 0; ok && i < s->count; i++)
		if (s->measured[i].waits)
			s->measured[i].loss = losses[n++];
	free(samples);
	free(values);
	free(losses);
	return ok;
}

static int samples_from(const struct runner *r, int64_t first)
{
	int64_t left = (int64_t)r->source.rows.count - first;
	int64_t size = r->source.settings->block_samples;
	return (int)(left < size ? left : size);
}

static void *prepare_ahead(void *argument)
{
	struct runner *r = argument;
	run_threads(r, &r->ahead);
	return NULL;
}

/* The block's samples, unless they were prepared while the device had the one before. */
static void take_samples(struct runner *r)
{
	struct stretch *ahead = &r->ahead;
	if (ahead->count && ahead->first == r->block.first) {
		struct stretch taken = *ahead;
		ahead->measured = r->block.measured;
		r->block = taken;
	} else {
		free_waiting(ahead);
		run_threads(r, &r->block);
	}
	ahead->count = 0;
}

/* The device measures while the cores decode the next block's images. */
static bool run_device_ahead(struct runner *r, error *err)
{
	pthread_t thread;
	bool started = false;
	if (r->ahead_first >= 0) {
		r->ahead.first = r->ahead_first;
		r->ahead.count = samples_from(r, r->ahead_first);
		started = pthread_create(&thread, NULL, prepare_ahead, r) == 0;
		if (!started)
			r->ahead.count = 0;
	}
	bool ok = run_device(r, err);
	if (started)
		pthread_join(thread, NULL);
	progress_set(&r->progress, r->done += r->block.count);
	return ok;
}

static bool measure_samples(struct runner *r, error *err)
{
	double begun = monotonic_seconds();
	take_samples(r);
	bool ok = !r->block.failed;
	if (!ok)
		*err = r->block.err;
	ok = ok && (!r->gpu || run_device_ahead(r, err));
	free_waiting(&r->block);
	timings_block(&r->spent, begun, r->block.count);
	return ok;
}

/* ---- the model and the threads, made when first needed ---- */

static bool open_model(struct runner *r, error *err)
{
	const char *folder = r->source.settings->model;
	double begun = monotonic_seconds();
	if (!checkpoint_open(&r->checkpoint, folder, err))
		return false;
	if (!model_open(&r->model, &r->checkpoint, &r->source.config,
	                r->gpu ? 0 : RESIDENT_BYTES, err)) {
		checkpoint_close(&r->checkpoint);
		return false;
	}
	r->model_open = true;
	r->places = r->model.linear_count +
	            (r->m->caches ? count_caches(&r->model.config) : 0);
	double loaded = monotonic_seconds();
	bool ok = r->gpu ? block_gpu_open(&r->blocks_gpu, &r->m->gpu, &r->model, r->places,
	                                  &r->spent.quantise, err)
	                 : r->m->prepare(r->m->self, &r->model, err);
	if (!r->gpu)
		r->spent.quantise = monotonic_seconds() - loaded;
	r->spent.load = monotonic_seconds() - begun - r->spent.quantise;
	return ok;
}

static bool make_measured(struct runner *r, struct stretch *s, error *err)
{
	size_t most = (size_t)r->source.settings->block_samples;
	if (!(s->measured = calloc(most, sizeof *s->measured)))
		return fail_memory(err, "a block's samples", most);
	for (size_t i = 0; i < most; i++)
		if (!(s->measured[i].values = calloc((size_t)r->places, sizeof(double))))
			return fail_memory(err, "the values of a sample", 0);
	return true;
}

static void free_measured(struct runner *r, struct stretch *s)
{
	if (!s->measured)
		return;
	free_waiting(s);
	for (int64_t i = 0; i < r->source.settings->block_samples; i++)
		free(s->measured[i].values);
	free(s->measured);
}

static bool make_workers(struct runner *r, error *err)
{
	int64_t most = r->source.settings->block_samples;
	int count = count_cores(MAX_THREADS);
	if (count > most)
		count = (int)most;
	r->workers = calloc((size_t)count, sizeof *r->workers);
	if (!r->workers)
		return fail_memory(err, "the workers", (unsigned long long)count);
	if (!make_measured(r, &r->block, err) || (r->gpu && !make_measured(r, &r->ahead, err)))
		return false;
	for (; r->worker_count < count; r->worker_count++) {
		struct worker *w = &r->workers[r->worker_count];
		w->r = r;
		if (r->gpu)
			continue; /* it only prepares samples */
		w->workspace = workspace_new(err);
		w->state = w->workspace ? r->m->begin_thread(r->m->self, err) : NULL;
		if (!w->state) {
			workspace_free(w->workspace);
			return false;
		}
	}
	return true;
}

/* ---- blocks ---- */

/* The key of a block of samples measured on the model whose key is given. */
static bool block_key(struct runner *r, int64_t index, const struct key *model,
                      struct key *key, error *err)
{
	key_begin(key, r->m->tool, &r->sources);
	key_add(key, "device", r->device);
	key_addf(key, "block", "%lld", (long long)index);
	text_add(&key->text, model->text.data, model->text.length);
	return r->m->add_key(r->m->self, key, err) &&
	       source_key(&r->source, index, r->memo, key, err);
}

/* The key again, after the inputs were used: had one changed meanwhile, the block
 * would be stored under a key that it does not belong to. */
static bool inputs_unchanged(struct runner *r, int64_t index, const struct edge *e,
                             error *err)
{
	struct key model = { 0 }, again = { 0 };
	struct digest digest;
	bool ok = model_key(r->source.settings->model, r->memo, &model, err) &&
	          text_ok(&model.text, err) && block_key(r, index, &model, &again, err) &&
	          key_digest(&again, &digest, err);
	key_free(&model);
	key_free(&again);
	if (ok && !digest_equal(&digest, &e->digest))
		return fail(err, EXIT_BAD_INPUT, "%s: an input of block %lld changed while it was "
		            "in use; run again", r->source.settings->model, (long long)index);
	return ok;
}

/* A model that overflows would otherwise poison every ranking made from it. */
static bool check_finite(const struct runner *r, int64_t index, const char *what,
                         double value, error *err)
{
	return isfinite(value) ||
	       fail(err, EXIT_BAD_INPUT, "%s: block %lld: %s: expected a finite number, found "
	            "%g%s", r->source.settings->model, (long long)index, what, value,
	            r->gpu ? " (--cpu has a larger range)" : "");
}

static double merge_samples(const struct runner *r, int place)
{
	double merged = 0;
	for (int i = 0; i < r->block.count; i++) {
		double value = r->block.measured[i].values[place];
		if (r->m->kind != BLOCK_AMAX)
			merged += value;
		else if (value > merged)
			merged = value;
	}
	return merged;
}

/* NULL on failure. */
static const char *name_place(const struct runner *r, int place, arena *memory, error *err)
{
	char name[NAME_BYTES];
	if (place < r->model.linear_count)
		return r->model.linears[place].name;
	name_cache(place - r->model.linear_count, name);
	return arena_text(memory, name, strlen(name), err);
}

static bool add_places(const struct runner *r, int64_t index, struct block *b,
                       arena *memory, error *err)
{
	const struct model *model = &r->model;
	for (int place = 0; place < r->places; place++) {
		if (place < model->linear_count && !r->m->measures(r->m->self, model, place))
			continue;
		const char *name = name_place(r, place, memory, err);
		double value = merge_samples(r, place);
		if (!name || !check_finite(r, index, name, value, err))
			return false;
		b->names[b->count] = name;
		b->values[b->count++] = value;
	}
	return true;
}

/* Merges the samples in their order into arrays of `memory`. */
static bool gather_block(struct runner *r, int64_t index, const char *key,
                         struct block *b, arena *memory, error *err)
{
	size_t places = (size_t)r->places;
	*b = (struct block){ .index = index, .key = key, .device = r->device };
	b->names = arena_alloc(memory, places, sizeof *b->names, err);
	b->values = b->names ? arena_alloc(memory, places, sizeof *b->values, err) : NULL;
	b->skipped = b->values ? arena_alloc(memory, (size_t)r->block.count,
	                                     sizeof *b->skipped, err)
	                       : NULL;
	if (!b->skipped)
		return false;
	for (int i = 0; i < r->block.count; i++) {
		const struct measured *s = &r->block.measured[i];
		b->samples += !s->skipped;
		b->cut += s->cut;
		b->loss += s->loss;
		if (s->skipped)
			b->skipped[b->skipped_count++] = r->source.rows.rows[r->block.first + i].image;
	}
	return check_finite(r, index, "the loss", b->loss, err) &&
	       add_places(r, index, b, memory, err);
}

static bool measure_block(struct runner *r, struct edge *e, int64_t index, text *out,
                          error *err)
{
	struct block block;
	struct output output = { .name = "block.json" };
	arena memory = { 0 };
	bool ok = (r->model_open || open_model(r, err)) &&
	          (r->workers || make_workers(r, err)) && measure_samples(r, err) &&
	          gather_block(r, index, e->digest.hex, &block, &memory, err) &&
	          print_block(&block, r->m->kind, out, err) &&
	          store_add_bytes(&e->store, out->data, out->length, &output, err) &&
	          inputs_unchanged(r, index, e, err) && edge_publish(e, &output, 1, err);
	arena_free(&memory);
	return ok;
}

static bool fetch_block(struct edge *e, text *out, error *err)
{
	const struct output *stored = result_output(&e->result, "block.json");
	char *data;
	size_t size;
	if (!stored)
		return fail(err, EXIT_ENVIRONMENT, "%s: result %s has no block.json",
		            e->store.folder, e->digest.hex);
	if (!store_read(&e->store, &stored->digest, MAX_BLOCK_BYTES, &data, &size, err))
		return false;
	text_add(out, data, size);
	free(data);
	return text_ok(out, err);
}

static bool run_block(struct runner *r, const char *tree, int64_t index, const char *target,
                      text *out, error *err)
{
	struct key key = { 0 };
	struct edge e;
	r->block.first = index * r->source.settings->block_samples;
	r->block.count = samples_from(r, r->block.first);
	bool ok = block_key(r, index, &r->model_key, &key, err);
	if (ok && (ok = edge_begin(&e, tree, r->m->tool, target, &key, err))) {
		bool hit = e.hit;
		ok = hit ? fetch_block(&e, out, err) : measure_block(r, &e, index, out, err);
		if (hit)
			progress_set(&r->progress, r->done += r->block.count);
		ok = ok && edge_log(&e, hit ? 0 : out->length, err);
		edge_end(&e);
	}
	key_free(&key);
	return ok;
}

static bool write_part(const text *blocks, int count, const struct measurement *m,
                       const char *out, error *err)
{
	text part = { 0 };
	bool ok = print_part(blocks, count, m->kind, m->format, &part, err) &&
	          write_file_if_changed(out, part.data, part.length, NULL, err);
	text_free(&part);
	return ok;
}

static bool run_part(struct runner *r, const char *tree, int part, int parts,
                     const char *out, error *err)
{
	int64_t total = r->source.blocks;
	int count = 0, mine = (int)((total - part + parts - 1) / parts);
	text *texts = calloc((size_t)mine + 1, sizeof *texts);
	bool ok = texts || fail_memory(err, "the blocks", (unsigned long long)mine);
	progress_begin(&r->progress, stderr, r->m->tool, "samples",
	               mine * r->source.settings->block_samples);
	for (int64_t b = part; ok && b < total; b += parts) {
		r->ahead_first = b + parts < total
		                         ? (b + parts) * r->source.settings->block_samples : -1;
		ok = run_block(r, tree, b, out, &texts[count++], err);
	}
	progress_end(&r->progress);
	ok = ok && write_part(texts, count, r->m, out, err);
	for (int i = 0; texts && i < count; i++)
		text_free(&texts[i]);
	free(texts);
	return ok;
}

/* A run that found all blocks in the store has nothing to tell. */
static bool log_timings(struct runner *r, const char *tree, const char *target, error *err)
{
	if (!r->model_open)
		return true;
	r->spent.device_bytes = r->gpu ? block_gpu_used_bytes(r->blocks_gpu) : 0;
	return timings_append(&r->spent, tree, r->m->tool, target, r->device, err);
}

static void close_runner(struct runner *r)
{
	for (int i = 0; i < r->worker_count; i++) {
		if (r->gpu)
			continue;
		r->m->end_thread(r->m->self, r->workers[i].state);
		workspace_free(r->workers[i].workspace);
	}
	free_measured(r, &r->block);
	free_measured(r, &r->ahead);
	free(r->workers);
	block_gpu_close(r->blocks_gpu);
	if (r->model_open) {
		model_close(&r->model);
		checkpoint_close(&r->checkpoint);
	}
	if (r->memo)
		memo_close(r->memo);
	key_free(&r->model_key);
	source_close(&r->source);
	pthread_mutex_destroy(&r->lock);
}

bool run_blocks(const struct source_settings *settings, const struct measurement *m,
                const struct device_choice *device, const char *tree, int part, int parts,
                const char *out, error *err)
{
	struct runner r = { .m = m, .gpu = device->gpu, .lock = PTHREAD_MUTEX_INITIALIZER };
	char memo_path[PATH_BYTES];
	name_device(device, &m->gpu, r.device);
	matmul_threads(1);
	bool ok = source_check(settings, err) &&
	          join_path(memo_path, sizeof memo_path, tree, "state/memo.db", err) &&
	          tool_sources(&r.sources, err) && (r.memo = memo_open(memo_path, err)) &&
	          model_key(settings->model, r.memo, &r.model_key, err) &&
	          text_ok(&r.model_key.text, err) && source_open(&r.source, settings, err) &&
	          run_part(&r, tree, part, parts, out, err) &&
	          log_timings(&r, tree, out, err);
	close_runner(&r);
	return ok;
}
