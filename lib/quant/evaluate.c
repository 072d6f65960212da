/* Evaluation in blocks of samples; see evaluate.h.
 *
 * Of every block, the choices that the store lacks are measured together: each
 * thread takes a sample, runs the base model, keeps its logits, then runs every
 * missing choice and compares; or the threads only prepare the samples, and a GPU does
 * the same with all of them. Nothing depends on which choices ran together. */
#include "lib/quant/evaluate.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cross_entropy.h"
#include "kernels/divergence.h"
#include "kernels/matmul.h"
#include "lib/artifact/edge.h"
#include "lib/base/parallel.h"
#include "lib/base/progress.h"
#include "lib/model/caches.h"
#include "lib/quant/damage_block.h"
#include "lib/quant/taps.h"

static const size_t RESIDENT_BYTES = (size_t)4 << 30;

/* Every thread holds the logits of all positions twice, hence few threads. */
enum { MAX_THREADS = 16, MAX_BLOCK_BYTES = 1 << 28 };

/* What one thread works with. */
struct bench {
	struct workspace *workspace;
	float *base; /* the base's logits of the sample at hand, [positions][vocab] */
	size_t base_capacity;
	struct divergence *rows; /* [positions] */
	size_t row_capacity;
	struct row_change *changes; /* [positions] */
	size_t change_capacity;
};

struct evaluator {
	const struct evaluation *job;
	char device[160]; /* as keys call it */
	struct source source;
	struct memo *memo;
	struct key model_key; /* taken before the model's files were opened */
	struct checkpoint checkpoint;
	struct model model;
	bool model_open;
	struct quantised_model quantised; /* every group */
	struct quantised_model *views;    /* [choice] its linears only */
	float *cache_scales;              /* [part]; NULL: no choice has an FP8 cache */
	struct bench *benches;
	int bench_count;
	struct gpu_measurement gpu_measurement;
	struct gpu_scales gpu_scales;
	struct block_gpu *gpu; /* NULL: the threads compute */
	arena memory;

	/* The block at hand. */
	int64_t first;
	int count;
	struct damage *damage; /* [choice] */
	const int *missing;    /* choices to measure */
	int missing_count;
	struct sample *samples; /* [count] for the GPU; no tokens: not read */
	pthread_mutex_t lock; /* guards done and progress */
	int64_t done;
	struct progress progress;
	arena *results;
};

/* ---- one sample ---- */

static bool reserve(void **buffer, size_t *capacity, size_t count, size_t size, error *err)
{
	if (count <= *capacity)
		return true;
	free(*buffer);
	*buffer = calloc(count, size);
	*capacity = *buffer ? count : 0;
	return *buffer || fail_memory(err, "logits", (unsigned long long)count * size);
}

/* Where the model stands before it answers. */
static int last_asked(const struct evaluator *e, const struct sample *s)
{
	int first = 1;
	if (e->source.form != PROMPT_ANSWER || !s->patches.values)
		return s->tokens - 1;
	while (first < s->tokens && !s->graded[first])
		first++;
	return first - 1;
}

static double cross_entropy_at(const float *logits, int vocab, int32_t target)
{
	double loss;
	float largest, sum;
	cross_entropy_forward(&loss, &largest, &sum, logits, &target, 1, vocab);
	return loss;
}

/* changes[positions] become the sample's sums. */
static void add_changes(const struct evaluator *e, const struct sample *s,
                        const struct row_change *changes, struct sample_damage *out)
{
	int last = last_asked(e, s);
	double *token_kl = out->token_kl;
	*out = (struct sample_damage){ .positions = s->tokens, .token_kl = token_kl };
	for (int i = 0; i < s->tokens; i++)
		out->kl_all += changes[i].kl;
	for (int i = 1; i < s->tokens; i++) {
		const struct row_change *row = &changes[i - 1];
		if (!s->graded[i])
			continue;
		out->base_loss += row->base_loss;
		out->loss += row->loss;
		out->kl += row->kl;
		out->agreed += row->agrees;
		out->token_kl[out->tokens++] = row->kl;
	}
	out->last_kl = changes[last].kl;
	out->last_mse = changes[last].squared;
}

/* The base's logits are in b->base; other[positions][vocab]. */
static void compare_sample(const struct evaluator *e, const struct bench *b,
                           const struct sample *s, const float *other,
                           struct sample_damage *out)
{
	int vocab = e->model.config.text.vocab;
	divergence_of_rows(b->rows, b->base, other, s->tokens, vocab);
	for (int i = 0; i < s->tokens; i++) {
		const struct divergence *d = &b->rows[i];
		size_t row = (size_t)i * (size_t)vocab;
		b->changes[i] = (struct row_change){ .kl = d->kl, .squared = d->squared,
			.agrees = d->agrees };
		if (i + 1 == s->tokens || !s->graded[i + 1])
			continue;
		b->changes[i].base_loss = cross_entropy_at(b->base + row, vocab, s->ids[i + 1]);
		b->changes[i].loss = cross_entropy_at(other + row, vocab, s->ids[i + 1]);
	}
	add_changes(e, s, b->changes, out);
}

static bool run_base(struct evaluator *e, struct bench *b, const struct sample *s, error *err)
{
	struct outcome outcome;
	size_t rows = (size_t)s->tokens, count = rows * (size_t)e->model.config.text.vocab;
	if (!model_forward(&e->model, b->workspace, s, WANT_LOGITS, NULL, &outcome, err) ||
	    !reserve((void **)&b->base, &b->base_capacity, count, sizeof *b->base, err) ||
	    !reserve((void **)&b->rows, &b->row_capacity, rows, sizeof *b->rows, err) ||
	    !reserve((void **)&b->changes, &b->change_capacity, rows, sizeof *b->changes, err))
		return false;
	memcpy(b->base, outcome.logits, count * sizeof *b->base);
	return true;
}

/* Room for the sample's tokens; the arena is everyone's. */
static bool take_tokens(struct evaluator *e, const struct sample *s,
                        struct sample_damage *out, error *err)
{
	pthread_mutex_lock(&e->lock);
	out->token_kl = arena_alloc(e->results, (size_t)s->tokens, sizeof *out->token_kl, err);
	progress_set(&e->progress, ++e->done);
	pthread_mutex_unlock(&e->lock);
	return out->token_kl != NULL;
}

static bool run_choice(struct evaluator *e, struct bench *b, const struct sample *s,
                       int choice, struct sample_damage *out, error *err)
{
	struct served *served = served_new(&e->views[choice], err);
	if (!served)
		return false;
	struct tap tap = served_tap(served);
	struct outcome outcome;
	bool ok = model_forward(&e->model, b->workspace, s, WANT_LOGITS, &tap, &outcome, err);
	served_free(served);
	if (!ok || !take_tokens(e, s, out, err))
		return false;
	compare_sample(e, b, s, outcome.logits, out);
	return true;
}

static bool measure_sample(void *self, int thread, int index, error *err)
{
	struct evaluator *e = self;
	struct bench *b = &e->benches[thread];
	struct sample sample;
	bool unreadable;
	if (!source_sample(&e->source, e->first + index, &sample, &unreadable, err))
		return unreadable && e->source.skip_bad;
	bool ok = run_base(e, b, &sample, err);
	for (int i = 0; ok && i < e->missing_count; i++)
		ok = run_choice(e, b, &sample, e->missing[i],
		                &e->damage[e->missing[i]].samples[e->first + index], err);
	sample_free(&sample);
	return ok;
}

/* ---- all samples of a block on a GPU ---- */

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

/* What every missing choice quantises: [missing_count]. */
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
			for (int m = 0; from->keeps[g] && m < groups->groups[g].member_count; m++)
				flags[groups->groups[g].members[m]] = true;
		choices[i] = (struct gpu_choice){ .served = flags,
			.cache_scales = from->fp8_cache ? e->cache_scales : NULL };
	}
	return choices;
}

static bool compare_block(struct evaluator *e, error *err)
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

/* ---- the model and the threads, made when first needed ---- */

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

static void describe_measurement(struct evaluator *e)
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

/* ---- blocks ---- */

static bool choice_key(struct evaluator *e, int64_t block, int choice,
                       const struct key *model, struct key *key, error *err)
{
	const struct evaluation *job = e->job;
	key_begin(key, job->tool, &job->sources);
	key_add(key, "device", e->device);
	key_addf(key, "format", "%s %s", job->format->element, job->format->granularity);
	key_add(key, "numerics", numerics_name(job->numerics));
	key_add(key, "scales", job->shared_scales ? "group" : "member");
	for (int g = 0; g < job->groups->count; g++)
		for (int m = 0; job->choices[choice].keeps[g] &&
		     m < job->groups->groups[g].member_count; m++) {
			int linear = job->groups->groups[g].members[m];
			key_addf(key, "quantised", "%s %.9g", job->linears[linear].name,
			         (double)job->input_amax[linear]);
		}
	for (int i = 0; job->choices[choice].fp8_cache && i < count_caches(&e->source.config);
	     i++)
		key_addf(key, "kv_cache", "fp8_e4m3 tensor %.9g", (double)job->cache_amax[i]);
	text_add(&key->text, model->text.data, model->text.length);
	return source_key(&e->source, block, e->memo, key, err);
}

/* The key of a block that was measured, from the inputs as they are now. */
static bool choice_key_now(struct evaluator *e, int64_t block, int choice, struct key *key,
                           error *err)
{
	struct key model = { 0 };
	bool ok = model_key(e->job->data.model, e->memo, &model, err) &&
	          text_ok(&model.text, err) && choice_key(e, block, choice, &model, key, err);
	key_free(&model);
	return ok;
}

static bool fetch_block(struct evaluator *e, const struct edge *edge, int choice, error *err)
{
	const struct output *stored = result_output(&edge->result, "damage.json");
	char *data;
	size_t size;
	if (!stored)
		return fail(err, EXIT_ENVIRONMENT, "%s: result %s has no damage.json",
		            edge->store.folder, edge->digest.hex);
	if (!store_read(&edge->store, &stored->digest, MAX_BLOCK_BYTES, &data, &size, err))
		return false;
	bool ok = read_damage_block(e->damage[choice].samples + e->first, e->count,
	                            stored->digest.hex, data, size, e->results, err);
	free(data);
	return ok;
}

static bool store_block(struct evaluator *e, struct edge *edge, int choice, error *err)
{
	struct output output = { .name = "damage.json" };
	text printed = { 0 };
	bool ok = print_damage_block(e->damage[choice].samples + e->first, e->count, &printed,
	                             err) &&
	          store_add_bytes(&edge->store, printed.data, printed.length, &output, err) &&
	          edge_publish(edge, &output, 1, err) && edge_log(edge, printed.length, err);
	text_free(&printed);
	return ok;
}

/* Takes the block from the store; with `measured`, puts it there instead if it is
 * not. The key is made anew each time: had an input changed while it was in use,
 * the digest would not be `expected` any more. */
static bool visit_store(struct evaluator *e, int64_t block, int choice, bool measured,
                        struct digest *digest, bool *found, error *err)
{
	struct key key = { 0 };
	struct edge edge;
	struct digest expected = *digest;
	bool ok = (measured ? choice_key_now(e, block, choice, &key, err)
	                    : choice_key(e, block, choice, &e->model_key, &key, err)) &&
	          key_digest(&key, digest, err);
	if (ok && measured && !digest_equal(digest, &expected))
		ok = fail(err, EXIT_BAD_INPUT, "%s: an input of block %lld changed while it was in "
		          "use; run again", e->job->data.model, (long long)block);
	if (ok && (ok = edge_begin(&edge, e->job->tree, e->job->tool, e->job->target, &key,
	                           err))) {
		*found = edge.hit;
		if (measured && !edge.hit)
			ok = store_block(e, &edge, choice, err);
		else if (!measured && edge.hit)
			ok = fetch_block(e, &edge, choice, err) && edge_log(&edge, 0, err);
		edge_end(&edge);
	}
	key_free(&key);
	return ok;
}

/* An earlier choice of the same groups, so of the same key; else the choice itself. */
static int same_as(const struct digest *digests, int choice)
{
	for (int i = 0; i < choice; i++)
		if (digest_equal(&digests[i], &digests[choice]))
			return i;
	return choice;
}

static bool run_block(struct evaluator *e, int64_t block, struct digest *digests,
                      int *missing, error *err)
{
	int choices = e->job->choice_count;
	int64_t size = e->job->data.block_samples, left;
	bool found;
	e->first = block * size;
	left = (int64_t)e->source.rows.count - e->first;
	e->count = (int)(left < size ? left : size);
	e->missing = missing;
	e->missing_count = 0;
	for (int i = 0; i < choices; i++) {
		if (!visit_store(e, block, i, false, &digests[i], &found, err))
			return false;
		if (!found && same_as(digests, i) == i)
			missing[e->missing_count++] = i;
		else
			progress_set(&e->progress, e->done += e->count);
	}
	if (!e->missing_count)
		return true;
	if ((!e->model_open && !(open_model(e, err) && make_benches(e, err))) ||
	    !(e->gpu ? compare_block(e, err)
	             : parallel_run(e->bench_count, e->count, e, measure_sample, err)))
		return false;
	for (int i = 0; i < e->missing_count; i++)
		if (!visit_store(e, block, missing[i], true, &digests[missing[i]], &found, err))
			return false;
	for (int i = 0; i < choices; i++)
		if (same_as(digests, i) != i)
			memcpy(e->damage[i].samples + e->first,
			       e->damage[same_as(digests, i)].samples + e->first,
			       (size_t)e->count * sizeof *e->damage[i].samples);
	return true;
}

static bool check_rows(const struct evaluator *e, error *err)
{
	const struct source_settings *g = &e->job->data;
	return e->source.rows.count ||
	       fail(err, EXIT_BAD_INPUT, "%s: expected samples after the first %lld, found none",
	            g->captions ? g->captions : g->calib_db ? g->calib_db : g->eval_list,
	            (long long)g->first);
}

static bool run_all(struct evaluator *e, error *err)
{
	size_t choices = (size_t)e->job->choice_count, rows = e->source.rows.count;
	struct digest *digests = arena_alloc(&e->memory, choices, sizeof *digests, err);
	int *missing = digests ? arena_alloc(&e->memory, choices, sizeof *missing, err) : NULL;
	bool ok = missing != NULL;
	for (size_t i = 0; ok && i < choices; i++) {
		struct damage *d = &e->damage[i];
		d->count = (int)rows;
		d->samples = arena_alloc(e->results, rows, sizeof *d->samples, err);
		ok = d->samples != NULL;
	}
	progress_begin(&e->progress, stderr, e->job->tool, "samples",
	               (int64_t)(rows * choices));
	for (int64_t b = 0; ok && b < e->source.blocks; b++)
		ok = run_block(e, b, digests, missing, err);
	progress_end(&e->progress);
	for (size_t i = 0; ok && i < choices; i++)
		for (size_t s = 0; s < rows; s++)
			e->damage[i].skipped += e->damage[i].samples[s].tokens == 0;
	return ok;
}

static void close_evaluator(struct evaluator *e)
{
	for (int i = 0; i < e->bench_count; i++) {
		workspace_free(e->benches[i].workspace);
		free(e->benches[i].base);
		free(e->benches[i].rows);
		free(e->benches[i].changes);
	}
	block_gpu_close(e->gpu);
	quantised_free(&e->quantised);
	if (e->model_open) {
		model_close(&e->model);
		checkpoint_close(&e->checkpoint);
	}
	if (e->memo)
		memo_close(e->memo);
	source_close(&e->source);
	key_free(&e->model_key);
	arena_free(&e->memory);
	pthread_mutex_destroy(&e->lock);
}

bool evaluate_choices(const struct evaluation *job, struct damage *damage, arena *memory,
                      error *err)
{
	struct evaluator e = { .job = job, .damage = damage, .results = memory,
		.lock = PTHREAD_MUTEX_INITIALIZER };
	char memo_path[PATH_BYTES];
	memset(damage, 0, (size_t)job->choice_count * sizeof *damage);
	describe_measurement(&e);
	matmul_threads(1);
	bool ok = source_check(&job->data, err) &&
	          join_path(memo_path, sizeof memo_path, job->tree, "state/memo.db", err) &&
	          (e.memo = memo_open(memo_path, err)) &&
	          model_key(job->data.model, e.memo, &e.model_key, err) &&
	          text_ok(&e.model_key.text, err) && source_open(&e.source, &job->data, err) &&
	          check_rows(&e, err) && run_all(&e, err);
	close_evaluator(&e);
	return ok;
}
