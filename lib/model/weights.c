/* Opening a model: every tensor that the configuration implies is looked up under
 * its released name and checked (type, shape, no NaN, no infinity) before anything
 * is computed, so that a bad checkpoint fails here and by name. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/convert.h"
#include "lib/base/pages.h"
#include "lib/base/parallel.h"
#include "lib/base/text.h"
#include "lib/model/expand.h"
#include "lib/model/linears.h"
#include "lib/model/parts.h"

/* Not in config.json; transformers' vision blocks have it in their code. */
static const float VISION_EPS = 1e-6f;
static const double VISION_ROPE_THETA = 10000.0;

/* Reading numbers to check them: a thread for so many bytes, since a small model is
 * checked sooner than a thread begins. */
enum { CHECKED_AT_ONCE = 64 << 20, MOST_THREADS = 16 };

struct loader {
	struct model *m;
	const struct checkpoint *ckpt;
	const struct tensor **found; /* [ckpt->count]: whose numbers are still to be checked */
	int found_count;
	error *err;
};

/* ---- one tensor ---- */

void tensor_expand(float *out, const struct tensor *t, size_t first, size_t count)
{
	const char *data = t->data;
	expand_values(out, t->dtype, data + first * dtype_bytes(t->dtype), count);
}

static bool check_dtype(const struct tensor *t, error *err)
{
	return can_expand(t->dtype) ||
	       fail(err, EXIT_BAD_INPUT, "%s: tensor %s: expected BF16, F16 or F32, found %s",
	            t->file, t->name, dtype_name(t->dtype));
}

static void add_shape(text *out, const int64_t *shape, int rank)
{
	text_puts(out, "[");
	for (int i = 0; i < rank; i++)
		text_printf(out, "%s%lld", i ? ", " : "", (long long)shape[i]);
	text_puts(out, "]");
}

static bool check_shape(const struct tensor *t, const int64_t *shape, int rank, error *err)
{
	if (t->rank == rank && memcmp(t->shape, shape, (size_t)rank * sizeof *shape) == 0)
		return true;
	text message = { 0 };
	text_puts(&message, "expected shape ");
	add_shape(&message, shape, rank);
	text_puts(&message, ", found ");
	add_shape(&message, t->shape, t->rank);
	if (text_ok(&message, err))
		fail(err, EXIT_BAD_INPUT, "%s: tensor %s: %s", t->file, t->name, message.data);
	text_free(&message);
	return false;
}

static bool check_finite(const struct tensor *t, error *err)
{
	size_t n = (size_t)t->elements, at;
	if (t->dtype == DTYPE_BF16)
		at = find_nonfinite_bf16(t->data, n);
	else if (t->dtype == DTYPE_F16)
		at = find_nonfinite_f16(t->data, n);
	else
		at = find_nonfinite_f32(t->data, n);
	if (at == n)
		return true;
	float found;
	tensor_expand(&found, t, at, 1);
	return fail(err, EXIT_BAD_INPUT,
	            "%s: tensor %s: expected finite numbers, found %s at element %zu", t->file,
	            t->name, isnan(found) ? "NaN" : "infinity", at);
}

/* The tensor of that name, its numbers to be checked later; NULL with the error filled. */
static const struct tensor *find_tensor(struct loader *l, const char *name,
                                        const int64_t *shape, int rank)
{
	const struct tensor *t = checkpoint_find(l->ckpt, name);
	if (!t)
		fail(l->err, EXIT_BAD_INPUT, "%s: tensor %s is missing", l->ckpt->folder, name);
	else if (check_dtype(t, l->err) && check_shape(t, shape, rank, l->err))
		return l->found[l->found_count++] = t;
	return NULL;
}

/* A norm's weight or a bias: small, so always kept in float32. `module` is quern's
 * name, `suffix` is ".weight" or ".bias". */
static const float *load_vector(struct loader *l, const char *module,
                                const char *suffix, int length)
{
	char hub[NAME_BYTES], name[NAME_BYTES + 16];
	name_to_hub(module, hub);
	snprintf(name, sizeof name, "%s%s", hub, suffix);
	const struct tensor *t = find_tensor(l, name, (int64_t[]){ length }, 1);
	float *values = t ? arena_alloc(&l->m->memory, (size_t)length, sizeof *values, l->err)
	                  : NULL;
	if (values)
		tensor_expand(values, t, 0, (size_t)length);
	return values;
}

/* ---- linears ---- */

static const struct tensor *find_weight(struct loader *l,
                                        const struct linear_shape *shape)
{
	const struct vision_config *v = &l->m->config.vision;
	char hub[NAME_BYTES], name[NAME_BYTES + 16];
	if (strcmp(shape->name, "lm_head") == 0 && l->m->config.text.tied_head)
		return l->m->parts->embedding;
	name_to_hub(shape->name, hub);
	snprintf(name, sizeof name, "%s.weight", hub);
	if (strcmp(shape->name, "visual.patch_embed.proj") == 0)
		return find_tensor(l, name,
		                   (int64_t[]){ v->hidden, v->channels, v->temporal_patch,
		                                v->patch, v->patch }, 5);
	return find_tensor(l, name, (int64_t[]){ shape->out, shape->in }, 2);
}

static bool load_linears(struct loader *l)
{
	struct model *m = l->m;
	struct linear_shape *shapes;
	if (!list_linears(&m->config, &m->memory, &shapes, &m->linear_count, l->err))
		return false;
	m->linears = arena_alloc(&m->memory, (size_t)m->linear_count, sizeof *m->linears,
	                         l->err);
	if (!m->linears)
		return false;
	for (int i = 0; i < m->linear_count; i++) {
		struct linear *linear = &m->linears[i];
		memcpy(linear->name, shapes[i].name, sizeof linear->name);
		linear->out = shapes[i].out;
		linear->in = shapes[i].in;
		linear->tensor = find_weight(l, &shapes[i]);
		if (!linear->tensor)
			return false;
		if (shapes[i].bias &&
		    !(linear->bias = load_vector(l, linear->name, ".bias", linear->out)))
			return false;
	}
	return true;
}

/* ---- blocks ---- */

static bool load_norms(struct loader *l, struct block *b, const char *first,
                       const char *second, int width)
{
	char module[NAME_BYTES + 32];
	snprintf(module, sizeof module, "%s.%s", b->name, first);
	b->norm1 = load_vector(l, module, ".weight", width);
	if (!b->norm1)
		return false;
	snprintf(module, sizeof module, "%s.%s", b->name, second);
	b->norm2 = load_vector(l, module, ".weight", width);
	return b->norm2 != NULL;
}

/* theta^(-2i / width) for i < width / 2, in float32 as transformers has it. */
static const float *make_frequencies(struct loader *l, double theta, int width)
{
	float *f = arena_alloc(&l->m->memory, (size_t)width / 2, sizeof *f, l->err);
	for (int i = 0; f && i < width / 2; i++) {
		float exponent = (float)(2 * i) / (float)width;
		f[i] = 1.0f / (float)pow(theta, (double)exponent);
	}
	return f;
}

/* Linears stand in the order of list_linears; *next is the first one not taken. */
static bool load_vision(struct loader *l, int *next)
{
	const struct vision_config *v = &l->m->config.vision;
	struct tower *tower = &l->m->parts->vision;
	*tower = (struct tower){ .depth = v->depth, .hidden = v->hidden,
		.intermediate = v->intermediate, .heads = v->heads, .kv_heads = v->heads,
		.head_dim = v->head_dim, .eps = VISION_EPS, .fused = true };
	tower->blocks = arena_alloc(&l->m->memory, (size_t)v->depth, sizeof *tower->blocks,
	                            l->err);
	/* Half of a head's angles follow the row, half the column. */
	tower->frequencies = make_frequencies(l, VISION_ROPE_THETA, v->head_dim / 2);
	if (!tower->blocks || !tower->frequencies)
		return false;
	for (int i = 0; i < v->depth; i++) {
		struct block *b = &tower->blocks[i];
		snprintf(b->name, sizeof b->name, "visual.blocks.%d", i);
		b->q = b->k = b->v = (*next)++;
		b->o = (*next)++;
		b->gate = (*next)++;
		b->up = (*next)++;
		b->down = (*next)++;
		b->full_attention = v->full_attention[i];
		if (!load_norms(l, b, "norm1", "norm2", v->hidden))
			return false;
	}
	return true;
}

static bool load_text(struct loader *l, int *next)
{
	const struct text_config *t = &l->m->config.text;
	struct tower *tower = &l->m->parts->text;
	*tower = (struct tower){ .depth = t->layers, .hidden = t->hidden,
		.intermediate = t->intermediate, .heads = t->heads, .kv_heads = t->kv_heads,
		.head_dim = t->head_dim, .eps = t->rms_eps, .causal = true };
	tower->blocks = arena_alloc(&l->m->memory, (size_t)t->layers, sizeof *tower->blocks,
	                            l->err);
	tower->frequencies = make_frequencies(l, t->rope_theta, t->head_dim);
	if (!tower->blocks || !tower->frequencies)
		return false;
	for (int i = 0; i < t->layers; i++) {
		struct block *b = &tower->blocks[i];
		snprintf(b->name, sizeof b->name, "language_model.layers.%d", i);
		b->q = (*next)++;
		b->k = (*next)++;
		b->v = (*next)++;
		b->o = (*next)++;
		b->gate = (*next)++;
		b->up = (*next)++;
		b->down = (*next)++;
		b->full_attention = true;
		if (!load_norms(l, b, "input_layernorm", "post_attention_layernorm", t->hidden))
			return false;
	}
	return true;
}

static bool load_parts(struct loader *l)
{
	struct model_parts *parts = l->m->parts;
	const struct model_config *c = &l->m->config;
	int next = 0;
	parts->embedding = find_tensor(l, "model.embed_tokens.weight",
	                               (int64_t[]){ c->text.vocab, c->text.hidden }, 2);
	if (!parts->embedding || !load_linears(l))
		return false;
	parts->patch_embed = next++;
	if (!load_vision(l, &next))
		return false;
	parts->merger_in = next++;
	parts->merger_out = next++;
	if (!load_text(l, &next))
		return false;
	parts->head = next;
	parts->merger_norm = load_vector(l, "visual.merger.ln_q", ".weight", c->vision.hidden);
	if (!parts->merger_norm)
		return false;
	parts->final_norm = load_vector(l, "language_model.norm", ".weight", c->text.hidden);
	return parts->final_norm != NULL;
}

static bool check_one(void *self, int thread, int index, error *err)
{
	struct loader *l = self;
	(void)thread;
	return check_finite(l->found[index], err);
}

static bool check_numbers(struct loader *l)
{
	size_t bytes = 0;
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	for (int i = 0; i < l->found_count; i++)
		bytes += l->found[i]->bytes;
	size_t threads = bytes / CHECKED_AT_ONCE + 1;
	size_t most = cores < 1 ? 1 : cores > MOST_THREADS ? MOST_THREADS : (size_t)cores;
	return parallel_run((int)(threads < most ? threads : most), l->found_count, l, check_one,
	                    l->err);
}

/* ---- float32 copies ---- */

/* Starts of copies on cache lines. */
static size_t padded(const struct tensor *t)
{
	return ((size_t)t->elements + 15) / 16 * 16;
}

static float *copy_tensor(float **cursor, const struct tensor *t)
{
	float *copy = *cursor;
	tensor_expand(copy, t, 0, (size_t)t->elements);
	*cursor += padded(t);
	return copy;
}

static bool make_resident(struct model *m, size_t resident_bytes, error *err)
{
	struct model_parts *parts = m->parts;
	size_t floats = padded(parts->embedding);
	for (int i = 0; i < m->linear_count; i++)
		if (m->linears[i].tensor != parts->embedding)
			floats += padded(m->linears[i].tensor);
	if (floats > resident_bytes / sizeof(float))
		return true;
	parts->resident = pages_alloc(floats * sizeof(float));
	if (!parts->resident)
		return fail_memory(err, "the weights", floats * sizeof(float));
	float *cursor = parts->resident;
	parts->embedding_values = copy_tensor(&cursor, parts->embedding);
	for (int i = 0; i < m->linear_count; i++) {
		struct linear *l = &m->linears[i];
		l->weight = l->tensor == parts->embedding ? parts->embedding_values
		                                          : copy_tensor(&cursor, l->tensor);
	}
	return true;
}

/* ---- the model ---- */

bool model_open(struct model *m, const struct checkpoint *ckpt,
                const struct model_config *config, size_t resident_bytes, error *err)
{
	*m = (struct model){ .config = *config };
	struct loader loader = { .m = m, .ckpt = ckpt, .err = err,
		.found = calloc(ckpt->count + 1, sizeof *loader.found) };
	m->parts = arena_alloc(&m->memory, 1, sizeof *m->parts, err);
	bool ok = m->parts && (loader.found || fail_memory(err, "tensors", ckpt->count)) &&
	          load_parts(&loader) && check_numbers(&loader) &&
	          make_resident(m, resident_bytes, err);
	free(loader.found);
	if (!ok)
		model_close(m);
	return ok;
}

void model_close(struct model *m)
{
	if (m->parts)
		free(m->parts->resident);
	arena_free(&m->memory);
	*m = (struct model){ 0 };
}

int model_find_linear(const struct model *m, const char *name)
{
	for (int i = 0; i < m->linear_count; i++)
		if (strcmp(m->linears[i].name, name) == 0)
			return i;
	return -1;
}
