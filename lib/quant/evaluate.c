/* Evaluation in blocks of samples; see evaluate.h.
 *
 * Of every block, the choices that the store lacks are measured together: each
 * thread takes a sample, runs the base model, keeps its logits, then runs every
 * missing choice and compares; or the threads only prepare the samples, and a GPU does
 * the same with all of them. Nothing depends on which choices ran together. */
#include <stdlib.h>
#include <string.h>

#include "kernels/matmul.h"
#include "lib/base/parallel.h"
#include "lib/model/caches.h"
#include "lib/quant/damage_block.h"
#include "lib/quant/evaluate_parts.h"

enum { MAX_BLOCK_BYTES = 1 << 28 };

static bool choice_key(struct evaluator *e, int64_t block, int choice,
                       const struct key *model, struct key *key, error *err)
{
	const struct evaluation *job = e->job;
	key_begin(key, job->tool, &job->sources);
	key_add(key, "device", e->device);
	key_add(key, "numerics", numerics_name(job->numbers.numerics));
	key_add(key, "scales", job->numbers.shared_scales ? "group" : "member");
	for (int g = 0; g < job->groups->count; g++) {
		const struct format *format = job->choices[choice].formats[g];
		for (int m = 0; format && m < job->groups->groups[g].member_count; m++) {
			int linear = job->groups->groups[g].members[m];
			key_addf(key, "quantised", "%s %s %s %.9g", job->linears[linear].name,
			         format->element, format->granularity,
			         (double)job->input_amax[linear]);
		}
		if (format)
			fold_key(key, job->folds, format, job->groups->groups[g].name);
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
	if ((!e->model_open && !open_evaluator(e, err)) ||
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
	for (int i = 0; i < e->format_count; i++)
		quantised_free(&e->quantised[i]);
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
