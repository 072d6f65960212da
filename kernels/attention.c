/* Attention by matrix products, a tile of query rows of one head at a time:
 * scores = scale * Q K^T, probabilities = softmax(scores), out = P V. A tile
 * never holds more than TILE rows of scores, whatever the length of the image,
 * and with `causal` it leaves out the keys after its last row. */
#include "kernels/attention.h"

#include <cblas.h>
#include <string.h>

#include "kernels/portable.h"

#include "kernels/exp.h"
#include "kernels/lanes.h"

enum { TILE = 128 };

/* One head of one segment; q, k and v point at its first row. */
struct head {
	const float *q, *k, *v;
	int q_stride, kv_stride, out_stride;
	int dim, rows, past; /* query rows; key rows are past + rows */
	float scale;
	bool causal;
	size_t q_start, kv_start, out_start; /* floats from the whole arrays' starts */
};

/* Query head i, on key/value head kv, of the rows [row, end) of the arrays in
 * `all`. */
static struct head pick_head(const struct head *all, int row, int end, int i, int kv)
{
	struct head h = *all;
	h.rows = end - row;
	h.q_start = (size_t)row * h.q_stride + (size_t)i * h.dim;
	h.kv_start = (size_t)row * h.kv_stride + (size_t)kv * h.dim;
	h.out_start = (size_t)row * h.out_stride + (size_t)i * h.dim;
	h.q += h.q_start;
	h.k += h.kv_start;
	h.v += h.kv_start;
	return h;
}

/* Query rows [first, first + rows) of a head against its first `keys` keys; the
 * first row sees `visible` of them and, if causal, each next row one more. */
struct tile {
	int first, rows, keys, visible;
};

static struct tile make_tile(const struct head *h, int first)
{
	int left = h->rows - first;
	int rows = left < TILE ? left : TILE;
	int all = h->past + h->rows;
	return (struct tile){ .first = first,
		              .rows = rows,
		              .keys = h->causal ? h->past + first + rows : all,
		              .visible = h->causal ? h->past + first + 1 : all };
}

size_t attention_scratch(int keys)
{
	return 2 * (size_t)TILE * (size_t)keys;
}

/* scores[rows][keys] in place; what a row must not see becomes probability 0. */
VECTOR_CLONES
static void softmax_rows(float *scores, int rows, int keys, int visible, bool causal)
{
	for (int row = 0; row < rows; row++, scores += keys) {
		size_t n = (size_t)(causal ? visible + row : visible);
		float largest = max_of(scores, n);
		for (size_t i = 0; i < n; i++)
			scores[i] = exp_portable(scores[i] - largest);
		float share = 1.0f / sum_of(scores, n);
		for (size_t i = 0; i < n; i++)
			scores[i] *= share;
		for (size_t i = n; i < (size_t)keys; i++)
			scores[i] = 0.0f;
	}
}

/* d[rows][keys]: dLoss/dP becomes dLoss/dscore = p * (d - sum(p * d)). Where p is
 * 0 because the row must not see the key, so is the result. */
VECTOR_CLONES
static void softmax_backward_rows(float *d, const float *p, int rows, int keys)
{
	size_t n = (size_t)keys;
	for (int row = 0; row < rows; row++, d += n, p += n) {
		float lanes[LANES] = { 0 };
		size_t whole = n / LANES * LANES;
		for (size_t i = 0; i < whole; i += LANES)
			for (size_t lane = 0; lane < LANES; lane++)
				lanes[lane] += p[i + lane] * d[i + lane];
		for (size_t i = whole; i < n; i++)
			lanes[i - whole] += p[i] * d[i];
		float mean = sum_lanes(lanes);
		for (size_t i = 0; i < n; i++)
			d[i] = p[i] * (d[i] - mean);
	}
}

static void compute_probabilities(float *p, const struct head *h, const struct tile *t)
{
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, t->rows, t->keys, h->dim,
	            h->scale, h->q + (size_t)t->first * h->q_stride, h->q_stride, h->k,
	            h->kv_stride, 0.0f, p, t->keys);
	softmax_rows(p, t->rows, t->keys, t->visible, h->causal);
}

static void forward_head(const struct head *h, float *out, float *scratch)
{
	for (int first = 0; first < h->rows; first += TILE) {
		struct tile t = make_tile(h, first);
		compute_probabilities(scratch, h, &t);
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, t.rows, h->dim, t.keys,
		            1.0f, scratch, t.keys, h->v, h->kv_stride, 0.0f,
		            out + (size_t)first * h->out_stride, h->out_stride);
	}
}

/* dk and dv are added to: tiles and heads share them. */
static void backward_head(const struct head *h, float *dq, float *dk, float *dv,
                          const float *dout, float *scratch)
{
	for (int first = 0; first < h->rows; first += TILE) {
		struct tile t = make_tile(h, first);
		const float *tile_q = h->q + (size_t)first * h->q_stride;
		const float *tile_dout = dout + (size_t)first * h->out_stride;
		float *p = scratch, *d = scratch + (size_t)t.rows * t.keys;
		compute_probabilities(p, h, &t);
		cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, t.keys, h->dim, t.rows,
		            1.0f, p, t.keys, tile_dout, h->out_stride, 1.0f, dv, h->kv_stride);
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, t.rows, t.keys, h->dim,
		            1.0f, tile_dout, h->out_stride, h->v, h->kv_stride, 0.0f, d, t.keys);
		softmax_backward_rows(d, p, t.rows, t.keys);
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, t.rows, h->dim, t.keys,
		            h->scale, d, t.keys, h->k, h->kv_stride, 0.0f,
		            dq + (size_t)first * h->q_stride, h->q_stride);
		cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, t.keys, h->dim, t.rows,
		            h->scale, d, t.keys, tile_q, h->q_stride, 1.0f, dk, h->kv_stride);
	}
}

void attention_forward(float *out, float *scratch, const float *q, int q_stride,
                       const float *k, const float *v, int kv_stride,
                       const int32_t *starts, int segments, int past, int heads,
                       int kv_heads, int head_dim, float scale, bool causal)
{
	const struct head all = { .q = q, .k = k, .v = v, .q_stride = q_stride,
		.kv_stride = kv_stride, .out_stride = heads * head_dim, .dim = head_dim,
		.past = past, .scale = scale, .causal = causal };
	for (int s = 0; s < segments; s++)
		for (int i = 0; i < heads; i++) {
			int kv = i / (heads / kv_heads);
			struct head h = pick_head(&all, starts[s], starts[s + 1], i, kv);
			forward_head(&h, out + h.out_start, scratch);
		}
}

static void clear_rows(float *x, int stride, int rows, int width)
{
	for (int row = 0; row < rows; row++)
		memset(x + (size_t)row * stride, 0, (size_t)width * sizeof(float));
}

void attention_backward(float *dq, float *dk, float *dv, float *scratch,
                        const float *dout, const float *q, int q_stride,
                        const float *k, const float *v, int kv_stride,
                        const int32_t *starts, int segments, int heads, int kv_heads,
                        int head_dim, float scale, bool causal)
{
	const struct head all = { .q = q, .k = k, .v = v, .q_stride = q_stride,
		.kv_stride = kv_stride, .out_stride = heads * head_dim, .dim = head_dim,
		.scale = scale, .causal = causal };
	clear_rows(dk, kv_stride, starts[segments], kv_heads * head_dim);
	clear_rows(dv, kv_stride, starts[segments], kv_heads * head_dim);
	for (int s = 0; s < segments; s++)
		for (int i = 0; i < heads; i++) {
			int kv = i / (heads / kv_heads);
			struct head h = pick_head(&all, starts[s], starts[s + 1], i, kv);
			backward_head(&h, dq + h.q_start, dk + h.kv_start, dv + h.kv_start,
			              dout + h.out_start, scratch);
		}
}
