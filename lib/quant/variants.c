/* Quantising a checkpoint's weights into the store, a group a thread, a chunk at a time;
 * see variants.h. */
#include "lib/quant/variants.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/amax.h"
#include "lib/artifact/edge.h"
#include "lib/artifact/tool.h"
#include "lib/base/file.h"
#include "lib/base/parallel.h"
#include "lib/checkpoint/model_files.h"
#include "lib/model/expand.h"
#include "lib/model/linears.h"
#include "lib/quant/packed.h"
#include "lib/quant/tensor_object.h"
#include "lib/quant/variants_parts.h"

/* A thread's elements in float32 at once, and bytes of what they become: five MiB. */
enum { CHUNK = 1 << 20, MAX_THREADS = 16 };

/* ---- tensors ---- */

static const struct tensor *find_weight(const struct maker *m, int linear, error *err)
{
	char hub[NAME_BYTES], name[NAME_BYTES + 8];
	name_to_hub(m->linears[linear].name, hub);
	snprintf(name, sizeof name, "%s.weight", hub);
	const struct tensor *t = checkpoint_find(&m->checkpoint, name);
	if (!t)
		fail(err, EXIT_BAD_INPUT, "%s: expected tensor %s, found none",
		     m->checkpoint.folder, name);
	else if (t->rank < 2 || t->shape[0] != m->linears[linear].out ||
	         t->elements != (int64_t)m->linears[linear].out * m->linears[linear].in)
		fail(err, EXIT_BAD_INPUT, "%s: %s: expected shape [%d, %d], found %lld elements "
		     "with first side %lld", t->file, name, m->linears[linear].out,
		     m->linears[linear].in, (long long)t->elements,
		     t->rank ? (long long)t->shape[0] : 0LL);
	else if (!can_expand(t->dtype))
		fail(err, EXIT_BAD_INPUT, "%s: %s: expected BF16, F16 or F32, found %s", t->file,
		     name, dtype_name(t->dtype));
	else
		return t;
	return NULL;
}

static size_t chunk_of(const struct tensor *t, int64_t first)
{
	int64_t left = t->elements - first;
	return (size_t)(left < CHUNK ? left : CHUNK);
}

static const char *chunk_bytes(const struct tensor *t, int64_t first)
{
	return (const char *)t->data + (size_t)first * dtype_bytes(t->dtype);
}

static void forget_chunk(const struct tensor *t, int64_t first)
{
	forget_pages(chunk_bytes(t, first), chunk_of(t, first) * dtype_bytes(t->dtype));
}

static bool tensor_amax(struct maker *m, const struct tensor *t, float *out, error *err)
{
	*out = 0;
	for (int64_t at = 0; at < t->elements; at += CHUNK) {
		size_t count = chunk_of(t, at);
		expand_values(m->chunk, t->dtype, chunk_bytes(t, at), count);
		float seen = amax(m->chunk, count);
		char what[PATH_BYTES];
		snprintf(what, sizeof what, "%s: %s", t->file, t->name);
		if (!check_amax(seen, what, err))
			return false;
		*out = seen > *out ? seen : *out;
		forget_chunk(t, at);
	}
	return true;
}

/* A tensor of the packed weight, whole rows at a time; an even number of them. */
static bool write_packed(struct maker *m, struct object_writer *w, const struct tensor *t,
                         const struct fold *fold, const struct packed_tensor *packed,
                         size_t bytes, float whole, error *err)
{
	int64_t out = t->shape[0], in = t->elements / out;
	const int64_t sides[2] = { out, in };
	if (!packed->fill)
		return object_write(w, sides, sizeof sides, err);
	int64_t at_once = CHUNK / in / 2 * 2;
	if (at_once < 2)
		return fail(err, EXIT_BAD_INPUT, "%s: %s: expected at most %d columns, found %lld",
		            t->file, t->name, CHUNK / 2, (long long)in);
	for (int64_t row = 0; row < out; row += at_once) {
		int64_t rows = out - row < at_once ? out - row : at_once;
		size_t count = (size_t)(rows * in);
		expand_values(m->chunk, t->dtype, chunk_bytes(t, row * in), count);
		if (fold)
			scale_columns(m->chunk, (int)rows, (int)in, fold->scales);
		packed->fill(packed, m->job->numerics, m->chunk, (int)rows, (int)in, whole,
		             m->codes);
		if (!object_write(w, m->codes, bytes * (size_t)rows / (size_t)out, err))
			return false;
		forget_pages(chunk_bytes(t, row * in), count * dtype_bytes(t->dtype));
	}
	return true;
}

/* ---- one group ---- */

/* The scale of each whole member; 1 for formats that have none. */
static bool find_scales(struct maker *m, const struct tensor **members,
                        struct variant_pair *pair, error *err)
{
	const struct format *f = m->job->format;
	float each[MAX_MEMBERS], largest = 0;
	for (int i = 0; i < pair->member_count; i++) {
		if (!tensor_amax(m, members[i], &each[i], err))
			return false;
		largest = each[i] > largest ? each[i] : largest;
	}
	for (int i = 0; i < pair->member_count; i++)
		pair->weight_scales[i] = !f->weight_scale ? 1 : f->weight_scale(
			m->job->numerics, m->job->shared_scales ? largest : each[i]);
	return true;
}

/* Everything that a group's file holds, in its order. */
struct packed_group {
	struct packed_tensor lists[MAX_MEMBERS][MAX_PACKED];
	struct tensor tensors[MAX_MEMBERS * MAX_PACKED];
	char names[MAX_MEMBERS * MAX_PACKED][NAME_BYTES + 32];
	int counts[MAX_MEMBERS], count;
};

static bool describe_group(const struct maker *m, const struct tensor **members,
                           const struct variant_pair *pair, struct packed_group *g,
                           error *err)
{
	g->count = 0;
	for (int i = 0; i < pair->member_count; i++) {
		const struct tensor *t = members[i];
		if (m->job->profile == PROFILE_MODELOPT && m->job->format->paired_rows &&
		    t->shape[0] % 2)
			return fail(err, EXIT_BAD_INPUT, "%s: %s: ModelOpt's tensors of format %s need "
			            "an even number of rows, found %lld", t->file, t->name,
			            m->job->format_name, (long long)t->shape[0]);
		g->counts[i] = m->job->format->tensors(m->job->profile, (int)t->shape[0],
		                                       (int)(t->elements / t->shape[0]),
		                                       g->lists[i]);
		for (int k = 0; k < g->counts[i]; k++, g->count++)
			describe_packed(&g->tensors[g->count], &g->lists[i][k], pair->members[i],
			                g->names[g->count]);
	}
	return true;
}

static bool make_quantised(struct maker *m, struct edge *e, const struct tensor **members,
                           struct variant_pair *pair, error *err)
{
	const struct fold *fold = find_fold(m->job->folds, m->job->format, pair->group);
	struct packed_group g;
	struct object_writer w;
	int n = 0;
	if (!describe_group(m, members, pair, &g, err) ||
	    !find_scales(m, members, pair, err) || !object_begin(&w, &e->store, err) ||
	    !object_write_header(&w, g.tensors, (size_t)g.count, err))
		return false;
	for (int i = 0; i < pair->member_count; i++)
		for (int k = 0; k < g.counts[i]; k++, n++)
			if (!write_packed(m, &w, members[i], fold, &g.lists[i][k],
			                  g.tensors[n].bytes, pair->weight_scales[i], err))
				return false;
	return object_commit(&w, &pair->quantised, err);
}

bool write_plain(struct edge *e, const struct tensor *const *tensors, size_t count,
                 struct output *out, error *err)
{
	struct tensor *copies = calloc(count + 1, sizeof *copies);
	if (!copies)
		return fail_memory(err, "a header", count * sizeof *copies);
	for (size_t i = 0; i < count; i++)
		copies[i] = *tensors[i];
	bool ok = store_tensors(&e->store, copies, count, out, err);
	free(copies);
	return ok;
}

/* The scales are a small output of the group's result, so that a hit needs no
 * look at the weights. */
static bool store_scales(struct edge *e, const struct variant_pair *pair,
                         struct output *out, error *err)
{
	text lines = { 0 };
	for (int i = 0; i < pair->member_count; i++)
		text_printf(&lines, "%a %s\n", (double)pair->weight_scales[i], pair->members[i]);
	bool ok = text_ok(&lines, err) &&
	          store_add_bytes(&e->store, lines.data ? lines.data : "", lines.length, out,
	                          err);
	text_free(&lines);
	return ok;
}

static bool read_scales(struct edge *e, struct variant_pair *pair, error *err)
{
	const struct output *stored = result_output(&e->result, "scales.txt");
	char *data;
	size_t size;
	if (!stored || !store_read(&e->store, &stored->digest, 1 << 16, &data, &size, err))
		return stored ? false : fail(err, EXIT_ENVIRONMENT, "%s: result %s has no scales",
		                             e->store.folder, e->digest.hex);
	bool ok = true;
	char *line = data;
	for (int i = 0; ok && i < pair->member_count; i++) {
		char *end;
		pair->weight_scales[i] = strtof(line, &end);
		ok = end != line && *end == ' ' && (line = strchr(end, '\n')) && line++;
	}
	free(data);
	return ok || fail(err, EXIT_ENVIRONMENT, "%s: result %s: damaged scales",
	                  e->store.folder, e->digest.hex);
}

static bool digest_shards(struct maker *m, error *err)
{
	struct file_names files;
	const char *folder = m->job->model;
	if (!list_model_files(folder, FILES_WEIGHTS, &m->memory, &files, err))
		return false;
	m->shards = arena_alloc(&m->memory, (size_t)files.count, sizeof *m->shards, err);
	for (; m->shards && m->shard_count < files.count; m->shard_count++) {
		struct shard *shard = &m->shards[m->shard_count];
		if (!join_path(shard->path, PATH_BYTES, folder, files.names[m->shard_count],
		               err) ||
		    !memo_digest(m->memo->memo, shard->path, &shard->digest, err))
			return false;
	}
	return m->shards != NULL;
}

/* Before anything made from them is published: had one changed meanwhile, it would
 * be stored under a key that it does not belong to. */
bool shards_unchanged(struct maker *m, error *err)
{
	bool ok = true;
	pthread_mutex_lock(&m->memo->lock);
	for (int i = 0; ok && i < m->shard_count; i++)
		ok = memo_check(m->memo->memo, m->shards[i].path, &m->shards[i].digest, err);
	pthread_mutex_unlock(&m->memo->lock);
	return ok;
}

bool add_shard(const struct maker *m, struct key *key, const struct tensor *t, error *err)
{
	for (int i = 0; i < m->shard_count; i++) {
		if (strcmp(m->shards[i].path, t->file) == 0) {
			key_input(key, t->name, &m->shards[i].digest);
			return true;
		}
	}
	return fail(err, EXIT_BAD_INPUT, "%s: appeared while the model was read; run again",
	            t->file);
}

static bool publish_group(struct maker *m, struct edge *e, const struct tensor **members,
                          bool codes, struct variant_pair *pair, error *err)
{
	struct output outputs[3] = { { .name = "plain.safetensors" }, { .name = "scales.txt" },
		{ .name = "quantised.safetensors" } };
	if (codes && !make_quantised(m, e, members, pair, err))
		return false;
	outputs[2].digest = pair->quantised.digest;
	outputs[2].bytes = pair->quantised.bytes;
	return write_plain(e, members, (size_t)pair->member_count, &outputs[0], err) &&
	       store_scales(e, pair, &outputs[1], err) && shards_unchanged(m, err) &&
	       edge_publish(e, outputs, codes ? 3 : 2, err);
}

/* Takes the outputs of a result, kept beyond the edge. */
static bool take_outputs(struct edge *e, bool codes, struct variant_pair *pair, error *err)
{
	const struct output *plain = result_output(&e->result, "plain.safetensors");
	const struct output *quantised = result_output(&e->result, "quantised.safetensors");
	if (!plain || (codes && !quantised))
		return fail(err, EXIT_ENVIRONMENT, "%s: result %s lacks an output",
		            e->store.folder, e->digest.hex);
	pair->plain = *plain;
	pair->plain.name = "plain.safetensors";
	if (codes) {
		pair->quantised = *quantised;
		pair->quantised.name = "quantised.safetensors";
		return read_scales(e, pair, err);
	}
	return true;
}

/* All that decides a group's codes but weights and norms. The profile only where the
 * tensors of the two languages differ. */
static void add_format(struct key *key, const struct variant_job *job)
{
	key_add(key, "element", job->format->element);
	key_add(key, "granularity", job->format->granularity);
	key_add(key, "numerics", numerics_name(job->numerics));
	key_add(key, "scales", job->shared_scales ? "group" : "member");
	if (!job->format->form.bilingual)
		key_add(key, "profile", profile_name(job->profile));
}

/* The weights of a group in the order of its members; MAX_MEMBERS at most. */
static bool find_members(const struct maker *m, const struct group *group,
                         const struct tensor **members, error *err)
{
	for (int i = 0; i < group->member_count; i++)
		if (!(members[i] = find_weight(m, group->members[i], err)))
			return false;
	return true;
}

static bool make_group(struct maker *m, const struct group *group, bool codes,
                       struct variant_pair *pair, error *err)
{
	const struct tensor *members[MAX_MEMBERS];
	struct key key = { 0 };
	struct edge e;
	*pair = (struct variant_pair){ .group = group->name,
		.member_count = group->member_count };
	key_begin(&key, "quantize", &m->sources);
	if (codes) {
		add_format(&key, m->job);
		fold_key(&key, m->job->folds, m->job->format, group->name);
	}
	bool ok = find_members(m, group, members, err);
	for (int i = 0; ok && i < group->member_count; i++) {
		pair->members[i] = m->linears[group->members[i]].name;
		ok = add_shard(m, &key, members[i], err);
	}
	if (ok && (ok = edge_begin(&e, m->job->tree, "quantize", m->job->target, &key, err))) {
		uint64_t bytes = 0;
		if (!e.hit) {
			ok = publish_group(m, &e, members, codes, pair, err);
			for (size_t i = 0; ok && i < e.result.count; i++)
				bytes += e.result.outputs[i].bytes;
		}
		ok = ok && take_outputs(&e, codes, pair, err) && edge_log(&e, bytes, err);
		edge_end(&e);
	}
	key_free(&key);
	return ok;
}

/* ---- all of it ---- */

/* Groups shared out among threads. */
struct crew {
	struct maker *makers;        /* [threads] */
	const struct group **groups; /* [count] */
	const struct group_list *quantised;
	struct variant_pair *pairs;  /* [count] */
};

static bool make_one(void *self, int thread, int index, error *err)
{
	struct crew *c = self;
	const struct group *group = c->groups[index];
	bool codes = group->exportable && find_group(c->quantised, group->name);
	return make_group(&c->makers[thread], group, codes, &c->pairs[index], err);
}

static void free_chunks(struct maker *m)
{
	free(m->chunk);
	free(m->codes);
	m->chunk = NULL;
	m->codes = NULL;
}

static bool take_chunks(struct maker *m, error *err)
{
	m->chunk = aligned_alloc(64, CHUNK * sizeof(float));
	m->codes = malloc(CHUNK);
	return (m->chunk && m->codes) ||
	       fail_memory(err, "a chunk of weights", CHUNK * sizeof(float));
}

static int count_threads(int groups)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	int threads = cores < 1 ? 1 : cores > MAX_THREADS ? MAX_THREADS : (int)cores;
	return threads < groups ? threads : groups;
}

static bool make_groups_at_once(struct maker *m, struct crew *crew, int count, error *err)
{
	int threads = count_threads(count);
	crew->makers = arena_alloc(&m->memory, (size_t)threads, sizeof *crew->makers, err);
	bool ok = crew->makers != NULL;
	for (int i = 0; crew->makers && i < threads; i++) {
		crew->makers[i] = *m;
		crew->makers[i].chunk = NULL;
		crew->makers[i].codes = NULL;
		ok = ok && take_chunks(&crew->makers[i], err);
	}
	ok = ok && parallel_run(threads, count, crew, make_one, err);
	for (int i = 0; crew->makers && i < threads; i++)
		free_chunks(&crew->makers[i]);
	return ok;
}

/* Every group with a tensor of its own gets a pair; a tied head has none. */
static bool make_pairs(struct maker *m, const struct model_config *config, error *err)
{
	struct variant_set *set = m->set;
	struct crew crew = { .quantised = &m->quantised };
	size_t all = (size_t)m->all.count;
	set->pairs = arena_alloc(&set->memory, all, sizeof *set->pairs, err);
	crew.pairs = set->pairs;
	crew.groups = arena_alloc(&m->memory, all, sizeof *crew.groups, err);
	m->grouped = arena_alloc(&m->memory, 2 * (size_t)m->linear_count, sizeof *m->grouped,
	                         err);
	if (!set->pairs || !crew.groups || !m->grouped)
		return false;
	keep_included(&m->quantised, m->linears, m->job->include, m->job->include_count);
	if (!keep_takeable(&m->quantised, m->linears, m->job->format, m->job->format_name,
	                   m->job->skip_bad_shapes, err))
		return false;
	for (int g = 0; g < m->all.count; g++) {
		const struct group *group = &m->all.groups[g];
		if (group->kind == KIND_HEAD && config->text.tied_head)
			continue;
		if (!find_members(m, group, m->grouped + m->grouped_count, err))
			return false;
		m->grouped_count += group->member_count;
		crew.groups[set->count++] = group;
	}
	return make_groups_at_once(m, &crew, set->count, err);
}

static bool open_maker(struct maker *m, struct model_config *config, error *err)
{
	const struct variant_job *job = m->job;
	char memo_path[PATH_BYTES];
	if (job->numerics == NUMERICS_MODELOPT && job->profile == PROFILE_UNIVERSAL &&
	    !job->format->form.bilingual)
		return fail(err, EXIT_BAD_INPUT, "format %s %s: the universal profile needs scales "
		            "exact in BF16 (use numerics quern or profile modelopt)",
		            job->format->element, job->format->granularity);
	return tool_sources(&m->sources, err) &&
	       join_path(memo_path, sizeof memo_path, job->tree, "state/memo.db", err) &&
	       (m->memo->memo = memo_open(memo_path, err)) && digest_shards(m, err) &&
	       model_config_load(config, job->model, err) &&
	       checkpoint_open(&m->checkpoint, job->model, err) &&
	       list_linears(config, &m->set->memory, &m->linears, &m->linear_count, err) &&
	       make_groups(m->linears, m->linear_count, NULL, 0, &m->set->memory, &m->all,
	                   err) &&
	       make_groups(m->linears, m->linear_count, job->exclude, job->exclude_count,
	                   &m->memory, &m->quantised, err);
}

bool make_variants(struct variant_set *set, const struct variant_job *job, error *err)
{
	struct shared_memo memo = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct maker m = { .job = job, .set = set, .memo = &memo };
	struct model_config config;
	*set = (struct variant_set){ .format_name = job->format_name, .format = job->format,
		.profile = job->profile };
	bool ok = open_maker(&m, &config, err) && make_pairs(&m, &config, err) &&
	          make_norms(&m, err) && make_rest(&m, err);
	if (memo.memo)
		memo_close(memo.memo);
	pthread_mutex_destroy(&memo.lock);
	checkpoint_close(&m.checkpoint);
	arena_free(&m.memory);
	if (!ok)
		variants_free(set);
	return ok;
}
