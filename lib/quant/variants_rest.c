/* The pieces that belong to no group; see variants_parts.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/quant/tensor_object.h"
#include "lib/quant/variants_parts.h"

static const char NORMS[] = "norms.safetensors", FOLDED[] = "folded.safetensors";

/* ---- norms before groups ---- */

struct norm_list {
	const struct tensor **tensors; /* of the checkpoint */
	const struct fold **folds;     /* NULL: as it is */
	size_t count;
};

static bool list_norms(struct maker *m, struct norm_list *list, error *err)
{
	size_t most = (size_t)m->all.count;
	list->tensors = arena_alloc(&m->memory, most, sizeof *list->tensors, err);
	list->folds = arena_alloc(&m->memory, most, sizeof *list->folds, err);
	if (!list->tensors || !list->folds)
		return false;
	for (int g = 0; g < m->all.count; g++) {
		char norm[NAME_BYTES], hub[NAME_BYTES], name[NAME_BYTES + 8];
		if (!norm_of_linear(m->linears[m->all.groups[g].members[0]].name, norm))
			continue;
		name_to_hub(norm, hub);
		snprintf(name, sizeof name, "%s.weight", hub);
		const struct tensor *t = checkpoint_find(&m->checkpoint, name);
		const struct fold *fold = find_fold(m->job->folds, m->job->format,
		                                    m->all.groups[g].name);
		if (!t || t->dtype != DTYPE_BF16 || (fold && t->elements != fold->in))
			return fail(err, EXIT_BAD_INPUT, "%s: %s: expected BF16 to fold channel scales "
			            "into, found %s", m->checkpoint.folder, name,
			            t ? dtype_name(t->dtype) : "none");
		list->tensors[list->count] = t;
		list->folds[list->count++] = fold;
		m->grouped[m->grouped_count++] = t;
	}
	return true;
}

/* The same tensors, those that are folded with other bytes. */
static bool write_folded(struct maker *m, struct edge *e, const struct norm_list *list,
                         struct output *out, error *err)
{
	struct tensor *tensors = arena_alloc(&m->memory, list->count, sizeof *tensors, err);
	for (size_t i = 0; tensors && i < list->count; i++) {
		const struct fold *fold = list->folds[i];
		tensors[i] = *list->tensors[i];
		if (!fold)
			continue;
		uint16_t *bits = arena_alloc(&m->memory, (size_t)fold->in, sizeof *bits, err);
		for (int c = 0; bits && c < fold->in; c++)
			memcpy(&bits[c], (const char *)&fold->after[c] + 2, sizeof bits[c]);
		tensors[i].data = bits;
		tensors[i].file = NULL;
		if (!bits)
			return false;
	}
	return tensors && store_tensors(&e->store, tensors, list->count, out, err);
}

static bool take_norms(struct maker *m, const struct edge *e, error *err)
{
	const struct output *norms = result_output(&e->result, NORMS);
	const struct output *folded = result_output(&e->result, FOLDED);
	if (!norms || !folded)
		return fail(err, EXIT_ENVIRONMENT, "%s: result %s lacks an output", e->store.folder,
		            e->digest.hex);
	m->set->norms = *norms;
	m->set->norms.name = NORMS;
	m->set->folded = *folded;
	m->set->folded.name = FOLDED;
	return true;
}

static bool publish_norms(struct maker *m, struct edge *e, const struct norm_list *list,
                          error *err)
{
	struct output outputs[2] = { { .name = FOLDED }, { .name = NORMS } };
	return write_folded(m, e, list, &outputs[0], err) &&
	       write_plain(e, list->tensors, list->count, &outputs[1], err) &&
	       shards_unchanged(m, err) && edge_publish(e, outputs, 2, err);
}

bool make_norms(struct maker *m, error *err)
{
	struct norm_list list = { 0 };
	struct key key = { 0 };
	struct edge e;
	if (!m->job->format->channel_scales)
		return true;
	key_begin(&key, "quantize", &m->sources);
	key_add(&key, "norms", "before groups, and folded");
	bool ok = list_norms(m, &list, err);
	for (size_t i = 0; ok && i < list.count; i++) {
		ok = add_shard(m, &key, list.tensors[i], err);
		if (list.folds[i])
			fold_key(&key, m->job->folds, m->job->format, list.folds[i]->group);
	}
	if (ok && (ok = edge_begin(&e, m->job->tree, "quantize", m->job->target, &key, err))) {
		bool hit = e.hit;
		ok = (hit || publish_norms(m, &e, &list, err)) && take_norms(m, &e, err) &&
		     edge_log(&e, hit ? 0 : m->set->norms.bytes + m->set->folded.bytes, err);
		edge_end(&e);
	}
	key_free(&key);
	return ok;
}

/* ---- all others ---- */

static int compare_pointers(const void *a, const void *b)
{
	const struct tensor *left = *(const struct tensor *const *)a;
	const struct tensor *right = *(const struct tensor *const *)b;
	return left < right ? -1 : left > right;
}

static bool in_some_group(const struct maker *m, const struct tensor *t)
{
	return bsearch(&t, m->grouped, (size_t)m->grouped_count, sizeof *m->grouped,
	               compare_pointers) != NULL;
}

bool make_rest(struct maker *m, error *err)
{
	const struct tensor **rest = arena_alloc(&m->memory, m->checkpoint.count,
	                                         sizeof *rest, err);
	struct key key = { 0 };
	struct edge e;
	size_t count = 0;
	if (!rest)
		return false;
	qsort(m->grouped, (size_t)m->grouped_count, sizeof *m->grouped, compare_pointers);
	key_begin(&key, "quantize", &m->sources);
	key_add(&key, "rest", m->job->format->channel_scales
	                              ? "tensors of no group, norms before groups left out"
	                              : "tensors of no group");
	bool ok = true;
	for (size_t i = 0; ok && i < m->checkpoint.count; i++) {
		const struct tensor *t = m->checkpoint.by_name[i];
		if (in_some_group(m, t))
			continue;
		rest[count++] = t;
		ok = add_shard(m, &key, t, err);
	}
	if (ok && (ok = edge_begin(&e, m->job->tree, "quantize", m->job->target, &key, err))) {
		struct output output = { .name = "rest.safetensors" };
		uint64_t bytes = 0;
		if (!e.hit) {
			ok = write_plain(&e, rest, count, &output, err) &&
			     shards_unchanged(m, err) && edge_publish(&e, &output, 1, err);
			bytes = output.bytes;
		}
		const struct output *stored = ok ? result_output(&e.result, "rest.safetensors")
		                                 : NULL;
		if (stored)
			m->set->rest = *stored;
		m->set->rest.name = "rest.safetensors";
		ok = ok && (stored || fail(err, EXIT_ENVIRONMENT, "%s: result %s lacks its output",
		                           e.store.folder, e.digest.hex)) &&
		     edge_log(&e, bytes, err);
		edge_end(&e);
	}
	key_free(&key);
	return ok;
}
