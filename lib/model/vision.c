/* patch_embed, blocks in window order, merger. A cell's patches are consecutive
 * rows, so going to window order and back moves whole cells. */
#include "lib/model/vision.h"

#include <string.h>

#include "kernels/gelu.h"
#include "kernels/rmsnorm.h"
#include "kernels/rows.h"
#include "lib/model/positions.h"

static const struct model_parts *parts_of(const struct vision_run *v)
{
	return v->tower.run->model->parts;
}

static const struct vision_config *config_of(const struct vision_run *v)
{
	return &v->tower.run->model->config.vision;
}

/* Floats of a cell: its patches one after the other. */
static int cell_width(const struct vision_run *v)
{
	const struct vision_config *c = config_of(v);
	return c->merge * c->merge * c->hidden;
}

static void show_block(const struct vision_run *v, const char *module, const float *x,
                       int rows, int width)
{
	const struct tap *tap = v->tower.run->tap;
	if (tap->block)
		tap->block(tap->self, module, x, rows, width);
}

static bool take_buffers(struct vision_run *v, error *err)
{
	struct workspace *w = v->tower.run->space;
	size_t cells = (size_t)v->cells, width = (size_t)cell_width(v);
	size_t out = (size_t)config_of(v)->out_hidden;
	v->order = workspace_take(w, cells, sizeof *v->order);
	v->starts = workspace_take(w, cells + 1, sizeof *v->starts);
	v->embedded = workspace_floats(w, cells, width);
	v->merged = workspace_floats(w, cells, width);
	v->expanded = workspace_floats(w, cells, width);
	v->active = workspace_floats(w, cells, width);
	v->projected = workspace_floats(w, cells, out);
	v->features = workspace_floats(w, cells, out);
	return workspace_ok(w, err);
}

static bool place_patches(struct vision_run *v, error *err)
{
	const struct vision_config *c = config_of(v);
	int grid_h = v->patches->grid_h, grid_w = v->patches->grid_w;
	int32_t *ends = workspace_take(v->tower.run->space, 2, sizeof *ends);
	if (!workspace_ok(v->tower.run->space, err))
		return false;
	ends[0] = 0;
	ends[1] = grid_h * grid_w;
	v->tower.all = (struct segments){ ends, 1 };
	v->tower.windows = (struct segments){
		v->starts, window_order(c, grid_h, grid_w, v->order, v->starts)
	};
	vision_angles(c, parts_of(v)->vision.frequencies, grid_h, grid_w, v->order,
	              v->tower.cosine, v->tower.sine);
	return true;
}

bool vision_prepare(struct vision_run *v, struct run *run, const struct patches *patches,
                    enum keeping keeping, error *err)
{
	const struct vision_config *c = &run->model->config.vision;
	int rows = patches->grid_h * patches->grid_w;
	*v = (struct vision_run){ .patches = patches, .cells = rows / (c->merge * c->merge) };
	return tower_prepare(&v->tower, run, &run->model->parts->vision, rows, 0, keeping,
	                     err) &&
	       take_buffers(v, err) && place_patches(v, err);
}

static bool merge_cells(struct vision_run *v, error *err)
{
	const struct model_parts *p = parts_of(v);
	const struct vision_config *c = config_of(v);
	struct run *r = v->tower.run;
	size_t width = (size_t)cell_width(v);
	rmsnorm_forward(v->merged, v->tower.output, p->merger_norm, v->tower.rows, c->hidden,
	                p->vision.eps);
	if (!linear_forward(r, p->merger_in, false, v->merged, v->expanded, v->cells, err))
		return false;
	gelu_forward(v->active, v->expanded, (size_t)v->cells * width);
	if (!linear_forward(r, p->merger_out, false, v->active, v->projected, v->cells, err))
		return false;
	scatter_rows(v->features, v->projected, v->order, v->cells, c->out_hidden);
	show_block(v, "visual.merger", v->features, v->cells, c->out_hidden);
	return true;
}

bool vision_forward(struct vision_run *v, error *err)
{
	const struct vision_config *c = config_of(v);
	if (!linear_forward(v->tower.run, parts_of(v)->patch_embed, false, v->patches->values,
	                    v->embedded, v->tower.rows, err))
		return false;
	show_block(v, "visual.patch_embed", v->embedded, v->tower.rows, c->hidden);
	gather_rows(v->tower.tapes[0].input, v->embedded, v->order, v->cells, cell_width(v));
	return tower_forward(&v->tower, err) && merge_cells(v, err);
}

bool vision_forward_again(struct vision_run *v, int first, float *output, error *err)
{
	struct tower_run *t = &v->tower;
	const float *input = NULL;
	float *kept = t->output;
	if (first < 0) {
		if (!linear_forward(t->run, parts_of(v)->patch_embed, false, v->patches->values,
		                    v->embedded, t->rows, err))
			return false;
		gather_rows(output, v->embedded, v->order, v->cells, cell_width(v));
		input = output;
		first = 0;
	}
	if (first < t->tower->depth) {
		if (!tower_forward_again(t, first, input, output, err))
			return false;
		t->output = output;
	}
	bool ok = merge_cells(v, err);
	t->output = kept;
	return ok;
}

/* dx becomes the gradient of the tower's output. */
static bool merger_backward(struct vision_run *v, const float *dfeatures, float *dx,
                            error *err)
{
	const struct model_parts *p = parts_of(v);
	struct run *r = v->tower.run;
	size_t count = (size_t)v->cells * (size_t)cell_width(v);
	float *dprojected = v->projected, *dactive = v->active, *dmerged = v->merged;
	gather_rows(dprojected, dfeatures, v->order, v->cells, config_of(v)->out_hidden);
	if (!linear_backward(r, p->merger_out, dprojected, dactive, v->cells, false, err))
		return false;
	gelu_backward(dactive, dactive, v->expanded, count);
	if (!linear_backward(r, p->merger_in, dactive, dmerged, v->cells, false, err))
		return false;
	memset(dx, 0, count * sizeof *dx);
	rmsnorm_backward(dx, dmerged, v->tower.output, p->merger_norm, v->tower.rows,
	                 config_of(v)->hidden, p->vision.eps);
	return true;
}

bool vision_backward(struct vision_run *v, const float *dfeatures, error *err)
{
	struct workspace *w = v->tower.run->space;
	float *dx = workspace_floats(w, (size_t)v->cells, (size_t)cell_width(v));
	if (!workspace_ok(w, err) || !merger_backward(v, dfeatures, dx, err) ||
	    !tower_backward(&v->tower, dx, true, err))
		return false;
	scatter_rows(v->embedded, dx, v->order, v->cells, cell_width(v));
	return linear_backward(v->tower.run, parts_of(v)->patch_embed, v->embedded, NULL,
	                       v->tower.rows, false, err);
}
