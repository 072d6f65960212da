/* Watching inputs and searching for channel scales; see fold_run.h.
 *
 * Of each input the mean magnitude of every channel is taken over all samples, and a few
 * hundred rows are kept to judge scales by: the same number of each sample, evenly
 * spaced. Threads take samples, then groups; sums of samples are added in their order. */
#include "lib/quant/fold_run.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/matmul.h"
#include "lib/artifact/edge.h"
#include "lib/artifact/tool.h"
#include "lib/base/parallel.h"
#include "lib/base/progress.h"
#include "lib/model/expand.h"
#include "lib/model/qwen.h"

static const size_t RESIDENT_BYTES = (size_t)4 << 30;

enum { MOST_SAMPLES = 128, KEPT_ROWS = 256, AT_ONCE = 16, MAX_THREADS = 16,
       MAX_FOLDS_BYTES = 256 << 20 };

/* An input that is watched: that of a group with a norm before it. */
struct watched {
	const struct group *group;
	int in;
	size_t start;  /* of its channels among all */
	double *mean;  /* [in]; while samples run, the sum */
	int64_t seen;  /* rows */
	float *kept;   /* [samples][kept_rows][in], then without gaps [kept_count][in] */
	int *kept_of;  /* [samples] rows kept of each */
	int kept_count;
};

/* What one sample of a stretch gave. */
struct sample_sums {
	double *sums;  /* [channels] */
	int64_t *seen; /* [watched] */
};

struct folder {
	const struct fold_job *job;
	struct source_settings data;
	struct source source;
	struct memo *memo;
	struct digest sources;
	struct checkpoint checkpoint;
	struct model model;
	bool model_open;
	struct watched *watched;
	int watched_count;
	int *watched_of; /* [linear]; -1: not watched */
	size_t channels;
	int kept_rows;   /* of each sample */
	struct sample_sums sums[AT_ONCE];
	int64_t first;   /* sample of the stretch at hand */
	int64_t measured;
	struct workspace *spaces[MAX_THREADS];
	int threads;
	struct folds folds;
	pthread_mutex_t lock; /* guards done and progress */
	int64_t done;
	struct progress progress;
	arena memory;
};

/* ---- watching ---- */

struct watch {
	struct folder *f;
	int place; /* in the stretch */
};

static void keep_rows(struct folder *f, struct watched *w, int64_t sample, const float *x,
                      int rows)
{
	int count = rows < f->kept_rows ? rows : f->kept_rows;
	size_t in = (size_t)w->in;
	float *to = w->kept + (size_t)sample * (size_t)f->kept_rows * in;
	for (int k = 0; k < count; k++) {
		size_t row = (size_t)((2 * (int64_t)k + 1) * rows / (2 * count));
		memcpy(to + (size_t)k * in, x + row * in, in * sizeof *x);
	}
	w->kept_of[sample] = count;
}

static bool watch_input(void *self, int linear, bool same_input, const float *x, float *y,
                        int rows, error *err)
{
	const struct watch *watch = self;
	struct folder *f = watch->f;
	int place = f->watched_of[linear];
	(void)same_input, (void)y, (void)err;
	if (place < 0)
		return true;
	struct watched *w = &f->watched[place];
	double *sums = f->sums[watch->place].sums + w->start;
	for (int row = 0; row < rows; row++)
		for (int i = 0; i < w->in; i++)
			sums[i] += fabsf(x[(size_t)row * (size_t)w->in + (size_t)i]);
	f->sums[watch->place].seen[place] += rows;
	keep_rows(f, w, f->first + watch->place, x, rows);
	return true;
}

static bool run_sample(void *self, int thread, int index, error *err)
{
	struct folder *f = self;
	struct watch watch = { .f = f, .place = index };
	const struct tap tap = { .self = &watch, .forward = watch_input };
	struct sample sample;
	struct outcome outcome;
	bool unreadable;
	if (!source_sample(&f->source, f->first + index, &sample, &unreadable, err))
		return unreadable && f->source.skip_bad;
	bool ok = model_forward(&f->model, f->spaces[thread], &sample, 0, &tap, &outcome, err);
	sample_free(&sample);
	pthread_mutex_lock(&f->lock);
	progress_set(&f->progress, ++f->done);
	f->measured++;
	pthread_mutex_unlock(&f->lock);
	return ok;
}

static bool run_samples(struct folder *f, error *err)
{
	int64_t total = (int64_t)f->source.rows.count;
	for (f->first = 0; f->first < total; f->first += AT_ONCE) {
		int count = total - f->first < AT_ONCE ? (int)(total - f->first) : AT_ONCE;
		for (int i = 0; i < count; i++) {
			memset(f->sums[i].sums, 0, f->channels * sizeof(double));
			memset(f->sums[i].seen, 0, (size_t)f->watched_count * sizeof(int64_t));
		}
		if (!parallel_run(f->threads, count, f, run_sample, err))
			return false;
		for (int i = 0; i < count; i++)
			for (int k = 0; k < f->watched_count; k++) {
				struct watched *w = &f->watched[k];
				w->seen += f->sums[i].seen[k];
				for (int c = 0; c < w->in; c++)
					w->mean[c] += f->sums[i].sums[w->start + (size_t)c];
			}
	}
	return f->measured || fail(err, EXIT_BAD_INPUT, "%s: every sample was left out",
	                           f->data.model);
}

/* Sums become means, and the kept rows lie without gaps. */
static bool finish_watched(struct folder *f, struct watched *w, error *err)
{
	size_t in = (size_t)w->in;
	for (size_t s = 0; s < f->source.rows.count; s++) {
		const float *from = w->kept + s * (size_t)f->kept_rows * in;
		memmove(w->kept + (size_t)w->kept_count * in, from,
		        (size_t)w->kept_of[s] * in * sizeof *from);
		w->kept_count += w->kept_of[s];
	}
	for (int c = 0; c < w->in; c++) {
		w->mean[c] /= w->seen ? (double)w->seen : 1;
		if (!isfinite(w->mean[c]))
			return fail(err, EXIT_BAD_INPUT, "%s: %s: channel %d of the input: expected a "
			            "finite mean, found %g", f->data.model, w->group->name, c, w->mean[c]);
	}
	return true;
}

/* ---- searching ---- */

static const struct tensor *find_norm(const struct folder *f, const struct fold *fold,
                                      error *err)
{
	char hub[NAME_BYTES], name[NAME_BYTES + 8];
	name_to_hub(fold->norm, hub);
	snprintf(name, sizeof name, "%s.weight", hub);
	const struct tensor *t = checkpoint_find(&f->checkpoint, name);
	if (t && t->dtype == DTYPE_BF16 && t->elements == fold->in)
		return t;
	fail(err, EXIT_BAD_INPUT, "%s: %s: expected %d BF16 to fold channel scales into, found "
	     "%s", f->data.model, name, fold->in, t ? dtype_name(t->dtype) : "none");
	return NULL;
}

/* Rows without which nothing was seen of an input (no sample had an image) take
 * candidate 0: all errors are 0 then. */
static bool search_one(void *self, int thread, int index, error *err)
{
	struct folder *f = self;
	const struct watched *w = &f->watched[index];
	struct fold *fold = &f->folds.folds[index];
	const struct tensor *norm = find_norm(f, fold, err);
	struct fold_search s = { .format = f->job->format, .numerics = f->job->numerics,
		.in = w->in, .member_count = w->group->member_count, .norm = fold->before,
		.x = w->kept, .rows = w->kept_count };
	(void)thread;
	if (!norm)
		return false;
	expand_values(fold->before, norm->dtype, norm->data, (size_t)w->in);
	for (int m = 0; m < s.member_count; m++)
		s.weights[m] = f->model.linears[w->group->members[m]].tensor;
	float *mean = malloc((size_t)w->in * sizeof *mean);
	if (!mean)
		return fail_memory(err, "channel means", (size_t)w->in);
	for (int c = 0; c < w->in; c++)
		mean[c] = (float)w->mean[c];
	s.mean = mean;
	bool ok = search_fold(&s, fold->after, &fold->choice, err);
	free(mean);
	return ok;
}

/* ---- rooms ---- */

/* Every group whose linears have a norm before them. */
static bool list_watched(struct folder *f, error *err)
{
	const struct fold_job *job = f->job;
	size_t most = (size_t)job->groups->count + 1;
	f->watched = arena_alloc(&f->memory, most, sizeof *f->watched, err);
	f->watched_of = arena_alloc(&f->memory, (size_t)job->linear_count,
	                            sizeof *f->watched_of, err);
	f->folds.folds = arena_alloc(&f->folds.memory, most, sizeof *f->folds.folds, err);
	if (!f->watched || !f->watched_of || !f->folds.folds)
		return false;
	for (int i = 0; i < job->linear_count; i++)
		f->watched_of[i] = -1;
	for (int g = 0; g < job->groups->count; g++) {
		const struct group *group = &job->groups->groups[g];
		struct fold *fold = &f->folds.folds[f->folds.count];
		int first = group->members[0];
		if (!norm_of_linear(job->linears[first].name, fold->norm))
			continue;
		fold->format = job->format;
		fold->group = group->name;
		fold->in = job->linears[first].in;
		f->watched_of[first] = f->watched_count;
		f->watched[f->watched_count++] = (struct watched){ .group = group,
			.in = fold->in, .start = f->channels };
		f->channels += (size_t)fold->in;
		f->folds.count++;
	}
	return true;
}

static bool take_rooms(struct folder *f, error *err)
{
	size_t samples = f->source.rows.count;
	int per_sample = KEPT_ROWS / (int)(samples ? samples : 1);
	f->kept_rows = per_sample < 1 ? 1 : per_sample;
	for (int k = 0; k < f->watched_count; k++) {
		struct watched *w = &f->watched[k];
		struct fold *fold = &f->folds.folds[k];
		size_t in = (size_t)w->in;
		if (!(w->mean = arena_alloc(&f->memory, in, sizeof *w->mean, err)) ||
		    !(w->kept_of = arena_alloc(&f->memory, samples, sizeof *w->kept_of, err)) ||
		    !(w->kept = arena_alloc(&f->memory, samples * (size_t)f->kept_rows * in,
		                            sizeof *w->kept, err)) ||
		    !(fold->before = arena_alloc(&f->folds.memory, in, sizeof(float), err)) ||
		    !(fold->after = arena_alloc(&f->folds.memory, in, sizeof(float), err)))
			return false;
	}
	for (int i = 0; i < AT_ONCE; i++) {
		struct sample_sums *s = &f->sums[i];
		s->sums = arena_alloc(&f->memory, f->channels, sizeof *s->sums, err);
		s->seen = arena_alloc(&f->memory, (size_t)f->watched_count, sizeof *s->seen, err);
		if (!s->sums || !s->seen)
			return false;
	}
	return true;
}

static bool open_model(struct folder *f, error *err)
{
	if (!checkpoint_open(&f->checkpoint, f->data.model, err))
		return false;
	f->model_open = model_open(&f->model, &f->checkpoint, &f->source.config, RESIDENT_BYTES,
	                           err);
	if (!f->model_open)
		checkpoint_close(&f->checkpoint);
	return f->model_open;
}

static bool make_spaces(struct folder *f, error *err)
{
	int count = count_cores(MAX_THREADS);
	for (; f->threads < count; f->threads++)
		if (!(f->spaces[f->threads] = workspace_new(err)))
			return false;
	return true;
}

/* ---- the edge ---- */

static bool make_key(struct folder *f, struct key *key, error *err)
{
	const struct fold_job *job = f->job;
	key_begin(key, "fold", &f->sources);
	key_addf(key, "format", "%s %s", job->format->element, job->format->granularity);
	key_add(key, "numerics", numerics_name(job->numerics));
	for (int k = 0; k < f->watched_count; k++)
		key_add(key, "group", f->watched[k].group->name);
	bool ok = model_key(f->data.model, f->memo, key, err);
	for (int64_t b = 0; ok && b < f->source.blocks; b++)
		ok = source_key(&f->source, b, f->memo, key, err);
	return ok;
}

/* Before anything made from the inputs is published. */
static bool inputs_unchanged(struct folder *f, const struct edge *e, error *err)
{
	struct key again = { 0 };
	struct digest digest;
	bool ok = make_key(f, &again, err) && key_digest(&again, &digest, err);
	key_free(&again);
	return ok && (digest_equal(&digest, &e->digest) ||
	              fail(err, EXIT_BAD_INPUT, "%s: an input changed while it was in use; run "
	                   "again", f->data.model));
}

static bool make_folds(struct folder *f, struct edge *e, text *out, error *err)
{
	struct output output = { .name = "fold.json" };
	bool ok = open_model(f, err) && take_rooms(f, err) && make_spaces(f, err);
	progress_begin(&f->progress, stderr, "fold", "samples", (int64_t)f->source.rows.count);
	ok = ok && run_samples(f, err);
	progress_end(&f->progress);
	for (int k = 0; ok && k < f->watched_count; k++)
		ok = finish_watched(f, &f->watched[k], err);
	const struct fold_facts facts = { f->job->format, e->digest.hex, f->measured };
	return ok && parallel_run(f->threads, f->watched_count, f, search_one, err) &&
	       print_folds(&f->folds, &facts, out, err) &&
	       store_add_bytes(&e->store, out->data, out->length, &output, err) &&
	       inputs_unchanged(f, e, err) && edge_publish(e, &output, 1, err);
}

static bool fetch_folds(struct edge *e, text *out, error *err)
{
	const struct output *stored = result_output(&e->result, "fold.json");
	char *data;
	size_t size;
	if (!stored)
		return fail(err, EXIT_ENVIRONMENT, "%s: result %s has no fold.json",
		            e->store.folder, e->digest.hex);
	if (!store_read(&e->store, &stored->digest, MAX_FOLDS_BYTES, &data, &size, err))
		return false;
	text_add(out, data, size);
	free(data);
	return text_ok(out, err);
}

static void close_folder(struct folder *f)
{
	for (int i = 0; i < f->threads; i++)
		workspace_free(f->spaces[i]);
	if (f->model_open) {
		model_close(&f->model);
		checkpoint_close(&f->checkpoint);
	}
	if (f->memo)
		memo_close(f->memo);
	source_close(&f->source);
	folds_free(&f->folds);
	arena_free(&f->memory);
	pthread_mutex_destroy(&f->lock);
}

bool run_folds(const struct fold_job *job, text *out, error *err)
{
	struct folder f = { .job = job, .data = *job->data, .lock = PTHREAD_MUTEX_INITIALIZER };
	struct key key = { 0 };
	struct edge e;
	char memo_path[PATH_BYTES];
	if (f.data.samples > MOST_SAMPLES)
		f.data.samples = MOST_SAMPLES;
	matmul_threads(1);
	bool ok = source_check(&f.data, err) &&
	          join_path(memo_path, sizeof memo_path, job->tree, "state/memo.db", err) &&
	          tool_sources(&f.sources, err) && (f.memo = memo_open(memo_path, err)) &&
	          source_open(&f.source, &f.data, err) && list_watched(&f, err) &&
	          make_key(&f, &key, err);
	if (ok && (ok = edge_begin(&e, job->tree, "fold", job->target, &key, err))) {
		bool hit = e.hit;
		ok = (hit ? fetch_folds(&e, out, err) : make_folds(&f, &e, out, err)) &&
		     edge_log(&e, hit ? 0 : out->length, err);
		edge_end(&e);
	}
	key_free(&key);
	close_folder(&f);
	return ok;
}
