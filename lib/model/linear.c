/* Products run over stretches of a weight's rows, resident or not: only so are
 * both the same bits, a weight of any size expandable in little memory. */
#include "lib/model/linear.h"

#include "kernels/matmul.h"

enum { STRETCH_FLOATS = 1 << 22 };

static int stretch_rows(const struct linear *l)
{
	int rows = STRETCH_FLOATS / l->in;
	return rows < 1 ? 1 : rows > l->out ? l->out : rows;
}

bool run_begin(struct run *r, const struct model *m, struct workspace *w,
               const struct tap *tap, error *err)
{
	static const struct tap nobody;
	*r = (struct run){ m, w, tap ? tap : &nobody, true, NULL };
	workspace_begin(w);
	if (m->parts->resident)
		return true;
	size_t most = 0;
	for (int i = 0; i < m->linear_count; i++) {
		const struct linear *l = &m->linears[i];
		size_t floats = (size_t)stretch_rows(l) * (size_t)l->in;
		if (floats > most)
			most = floats;
	}
	r->expanded = workspace_floats(w, most, 1);
	return workspace_ok(w, err);
}

/* Rows [first, first + count) of the weight. */
static const float *weight_rows(const struct run *r, const struct linear *l, int first,
                                int count)
{
	size_t start = (size_t)first * (size_t)l->in;
	if (l->weight)
		return l->weight + start;
	tensor_expand(r->expanded, l->tensor, start, (size_t)count * (size_t)l->in);
	return r->expanded;
}

bool linear_forward(struct run *r, int linear, bool same_input, const float *x, float *y,
                    int rows, error *err)
{
	const struct linear *l = &r->model->linears[linear];
	int step = stretch_rows(l);
	if (rows == 0)
		return true;
	for (int first = 0; first < l->out; first += step) {
		int count = l->out - first < step ? l->out - first : step;
		matmul_forward(y + first, l->out, x, weight_rows(r, l, first, count),
		               l->bias ? l->bias + first : NULL, rows, count, l->in);
	}
	if (!r->shown || !r->tap->forward)
		return true;
	return r->tap->forward(r->tap->self, linear, same_input, x, y, rows, err);
}

bool linear_backward(struct run *r, int linear, const float *dy, float *dx, int rows,
                     bool add, error *err)
{
	const struct linear *l = &r->model->linears[linear];
	int step = stretch_rows(l);
	if (rows == 0)
		return true;
	if (r->tap->backward && !r->tap->backward(r->tap->self, linear, dy, rows, err))
		return false;
	for (int first = 0; dx && first < l->out; first += step) {
		int count = l->out - first < step ? l->out - first : step;
		matmul_backward(dx, dy + first, l->out, weight_rows(r, l, first, count), rows,
		                count, l->in, add || first > 0);
	}
	return true;
}
