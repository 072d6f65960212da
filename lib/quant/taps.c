/* The three taps; see taps.h. */
#include "lib/quant/taps.h"

#include <math.h>
#include <stdlib.h>

#include "kernels/amax.h"
#include "kernels/fp8.h"
#include "kernels/matmul.h"
#include "kernels/score.h"
#include "lib/base/pages.h"
#include "lib/model/caches.h"

static size_t cache_width(const struct model *m)
{
	return (size_t)m->config.text.kv_heads * (size_t)m->config.text.head_dim;
}

/* ---- calibration ---- */

static bool watch_input(void *self, int linear, bool same_input, const float *x, float *y,
                        int rows, error *err)
{
	struct amax_watch *watch = self;
	(void)y;
	/* Linears that share an input follow each other in module order. */
	float seen = same_input ? (float)watch->amax[linear - 1]
	                        : amax(x, (size_t)rows * (size_t)watch->model->linears[linear].in);
	if (!check_amax(seen, watch->model->linears[linear].name, err))
		return false;
	if (seen > watch->amax[linear])
		watch->amax[linear] = seen;
	return true;
}

static bool watch_part(struct amax_watch *watch, int part, const float *x, size_t count,
                       error *err)
{
	float seen = amax(x, count);
	if (!isfinite(seen)) {
		char name[NAME_BYTES];
		name_cache(part, name);
		return check_amax(seen, name, err);
	}
	if (seen > watch->cache[part])
		watch->cache[part] = seen;
	return true;
}

static bool watch_cache(void *self, int layer, float *keys, float *values, int rows,
                        error *err)
{
	struct amax_watch *watch = self;
	size_t count = (size_t)rows * cache_width(watch->model);
	return watch_part(watch, 2 * layer, keys, count, err) &&
	       watch_part(watch, 2 * layer + 1, values, count, err);
}

struct tap amax_tap(struct amax_watch *watch)
{
	return (struct tap){ .self = watch, .forward = watch_input,
		.cache = watch->cache ? watch_cache : NULL };
}

/* ---- the quantised product ---- */

/* A buffer that only grows. */
struct buffer {
	float *values;
	size_t capacity;
};

static bool reserve(struct buffer *b, size_t count, const char *what, error *err)
{
	if (count <= b->capacity)
		return true;
	/* Samples come in no order of size: grow well ahead, so that few pages are touched anew. */
	size_t capacity = count + count / 2;
	free(b->values);
	b->values = pages_alloc(capacity * sizeof(float));
	b->capacity = b->values ? capacity : 0;
	return b->values || fail_memory(err, what, capacity * sizeof(float));
}

/* Scratch of one thread: the rounded input, kept for the members of a group that
 * share it, and a weight rounded at use. */
struct product {
	const struct quantised_model *q;
	struct buffer input, weight;
	const struct format *input_format; /* what `input` was rounded with */
	struct input_step input_step;
};

static bool round_input(struct product *p, int linear, bool same_input, const float *x,
                        int rows, error *err)
{
	const struct quantised_linear *ql = &p->q->linears[linear];
	int in = p->q->model->linears[linear].in;
	if (same_input && p->input_format == ql->format &&
	    p->input_step.encode == ql->input.encode &&
	    p->input_step.decode == ql->input.decode)
		return true;
	if (!reserve(&p->input, (size_t)rows * (size_t)in, "a rounded input", err))
		return false;
	ql->format->round_input(p->q->numerics, ql->input, x, rows, in, p->input.values);
	p->input_format = ql->format;
	p->input_step = ql->input;
	return true;
}

/* NULL on failure. */
static const float *rounded_weight(struct product *p, int linear, error *err)
{
	const struct quantised_linear *ql = &p->q->linears[linear];
	if (ql->values)
		return ql->values;
	if (!reserve(&p->weight, p->q->largest, "a rounded weight", err))
		return NULL;
	round_linear(p->q, linear, p->weight.values);
	return p->weight.values;
}

/* y[rows][out] = Q(x) Q(W)^T + b */
static bool quantised_product(struct product *p, int linear, bool same_input,
                              const float *x, float *y, int rows, error *err)
{
	const struct linear *l = &p->q->model->linears[linear];
	const float *weight = rounded_weight(p, linear, err);
	if (!weight)
		return false;
	if (p->q->linears[linear].format->round_input) {
		if (!round_input(p, linear, same_input, x, rows, err))
			return false;
		x = p->input.values;
	}
	matmul_forward(y, l->out, x, weight, l->bias, rows, l->out, l->in);
	return true;
}

static void product_free(struct product *p)
{
	free(p->input.values);
	free(p->weight.values);
}

/* ---- scoring ---- */

struct perturbation {
	struct product product;
	struct buffer *differences; /* [linear], each d[rows][out] from forward to backward */
	double *score;
};

static bool perturb(void *self, int linear, bool same_input, const float *x, float *y,
                    int rows, error *err)
{
	struct perturbation *p = self;
	const struct quantised_model *q = p->product.q;
	if (!q->linears[linear].format)
		return true;
	size_t count = (size_t)rows * (size_t)q->model->linears[linear].out;
	struct buffer *difference = &p->differences[linear];
	if (!reserve(difference, count, "a layer's difference", err) ||
	    !quantised_product(&p->product, linear, same_input, x, difference->values, rows,
	                       err))
		return false;
	subtract(difference->values, difference->values, y, count);
	return true;
}

static bool weigh(void *self, int linear, const float *gradient, int rows, error *err)
{
	struct perturbation *p = self;
	const struct quantised_model *q = p->product.q;
	(void)err;
	if (!q->linears[linear].format)
		return true;
	size_t count = (size_t)rows * (size_t)q->model->linears[linear].out;
	p->score[linear] += sum_squared_products(gradient, p->differences[linear].values,
	                                         count);
	return true;
}

struct perturbation *perturbation_new(const struct quantised_model *q, error *err)
{
	struct perturbation *p = calloc(1, sizeof *p);
	if (p)
		p->differences = calloc((size_t)q->model->linear_count, sizeof *p->differences);
	if (!p || !p->differences) {
		free(p);
		fail_memory(err, "a perturbation", sizeof *p);
		return NULL;
	}
	p->product.q = q;
	return p;
}

void perturbation_free(struct perturbation *p)
{
	if (!p)
		return;
	for (int i = 0; i < p->product.q->model->linear_count; i++)
		free(p->differences[i].values);
	free(p->differences);
	product_free(&p->product);
	free(p);
}

struct tap perturbation_tap(struct perturbation *p, double *score)
{
	p->score = score;
	return (struct tap){ .self = p, .forward = perturb, .backward = weigh };
}

/* ---- running as served ---- */

struct served {
	struct product product;
	int first, end; /* linears that are */
};

static bool serve(void *self, int linear, bool same_input, const float *x, float *y,
                  int rows, error *err)
{
	struct served *s = self;
	if (!s->product.q->linears[linear].format || linear < s->first || linear >= s->end)
		return true;
	return quantised_product(&s->product, linear, same_input, x, y, rows, err);
}

/* x[count] as it comes back of a cache in FP8. Servers divide by the scale. */
static void round_through(float *x, size_t count, float scale)
{
	uint8_t codes[1024];
	while (count) {
		size_t some = count < sizeof codes ? count : sizeof codes;
		fp8_encode_divided(x, some, scale, codes);
		fp8_decode(codes, some, scale, x);
		x += some;
		count -= some;
	}
}

static bool serve_cache(void *self, int layer, float *keys, float *values, int rows,
                        error *err)
{
	const struct quantised_model *q = ((struct served *)self)->product.q;
	size_t count = (size_t)rows * cache_width(q->model);
	(void)err;
	round_through(keys, count, q->cache_scales[2 * layer]);
	round_through(values, count, q->cache_scales[2 * layer + 1]);
	return true;
}

struct served *served_new(const struct quantised_model *q, error *err)
{
	struct served *s = calloc(1, sizeof *s);
	if (!s) {
		fail_memory(err, "a served model", sizeof *s);
		return NULL;
	}
	s->product.q = q;
	s->end = q->model->linear_count;
	return s;
}

void served_limit(struct served *s, int first, int count)
{
	s->first = first;
	s->end = first + count;
}

void served_free(struct served *s)
{
	if (!s)
		return;
	product_free(&s->product);
	free(s);
}

struct tap served_tap(struct served *s)
{
	return (struct tap){ .self = s, .forward = serve,
		.cache = s->product.q->cache_scales ? serve_cache : NULL };
}
