/* Evaluation in blocks of samples; see evaluate.h.
 *
 * Of every block, the choices that the store lacks are measured together: each
 * thread takes a sample, runs the base model, keeps its logits, then runs every
 * missing choice and compares. Nothing depends on which choices ran together. */
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
};

struct evaluator {
	const struct evaluation *job;
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
	arena memory;

	/* The block at hand. */
	int64_t first;
	int count;
	struct damage *damage; /* [choice] */
	const int *missing;    /* choices to measure */
	int missing_count;
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

/* The base's logits are in b->base; other[positions][vocab]. */
static void compare_sample(const struct evaluator *e, const struct bench *b,
                           const struct sample *s, const float *other,
                           struct sample_damage *out)
{
	int vocab = e->model.config.text.vocab, last = last_asked(e, s);
	double *token_kl = out->token_kl;
	*out = (struct sample_damage){ .positions = s->tokens, .token_kl = token_kl };
	divergence_of_rows(b->rows, b->base, other, s->tokens, vocab);
	for (int i = 0; i < s->tokens; i++)
		out->kl_all += b->rows[i].kl;
	for (int i = 1; i < s->tokens; i++) {
		size_t row = (size_t)(i - 1) * (size_t)vocab;
		if (!s->graded[i])
			continue;
		out->base_loss += cross_entropy_at(b->base + row, vocab, s->ids[i]);
		out->loss += cross_entropy_at(other + row, vocab, s->ids[i]);
		out->kl += b->rows[i - 1].kl;
		out->agreed += b->rows[i - 1].agrees;
		out->token_kl[out->tokens++] = b->rows[i - 1].kl;
	}
	out->last_kl = b->rows[last].kl;
	out->last_mse = b->rows[last].squared;
}

static bool run_base(struct evaluator *e, struct bench *b, const struct sample *s, error *err)
{
	struct outcome outcome;
	size_t rows = (size_t)s->tokens, count = rows * (size_t)e->model.config.text.vocab;
	if (!model_forward(&e->model, b->workspace, s, WANT_LOGITS, NULL, &outcome, err) ||
	    !reserve((void **)&b->base, &b->base_capacity, count, sizeof *b->base, err) ||
	    !reserve((void **)&b->rows, &b->row_capacity, rows, sizeof *b->rows, err))
		return false;
	memcpy(b->base, outcome.logits, count * sizeof *b->base);
	return true;
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
	if (!ok)
		return false;
	pthread_mutex_lock(&e->lock); /* the arena is everyone's */
	out->token_kl = arena_alloc(e->results, (size_t)s->tokens, sizeof *out->token_kl, err);
	progress_set(&e->progress, ++e->done);
	pthread_mutex_unlock(&e->lock);
	if (out->token_kl)
		compare_sample(e, b, s, outcome.logits, out);
	return out->token_kl != NULL;
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
	if (!quantise_model(&e->quantised, &e->model, job->groups, keeps, job->format,
	                    job->numerics, job->shared_scales, job->input_amax, RESIDENT_BYTES,
	                    err) ||
	    !scale_caches(e, err))
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
	if (!model_open(&e->model, &e->checkpoint, &e->source.config, RESIDENT_BYTES, err)) {
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
		if (!(e->benches[e->bench_count].workspace = workspace_new(err)))
			return false;
	return e->benches != NULL;
}

/* ---- blocks ---- */

static bool choice_key(struct evaluator *e, int64_t block, int choice,
                       const struct key *model, struct key *key, error *err)
{
	const struct evaluation *job = e->job;
	key_begin(key, job->tool, &job->sources);
	key_add(key, "device", "cpu float32");
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
	    !parallel_run(e->bench_count, e->count, e, measure_sample, err))
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
	}
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
