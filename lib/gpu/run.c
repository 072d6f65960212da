/* A batch through the model and back; see gpu.h. The order of steps is lib/model's. */
#include <stdlib.h>

#include "lib/gpu/run.h"

/* ---- vision ---- */

static bool prepare_merger(struct run_state *r, error *err)
{
	struct device_model *g = r->g;
	size_t cells = (size_t)r->batch->cells, width = (size_t)g->merger_in.in;
	struct merger_tape *m = &r->merger;
	*m = (struct merger_tape){
		.merged = arena_take(g, cells * width, sizeof(bits16)),
		.expanded = arena_take(g, cells * width, sizeof(bits16)),
		.active = arena_take(g, cells * width, sizeof(bits16)),
		.features = arena_take(g, cells * (size_t)g->merger_out.out, sizeof(float)),
	};
	if (r->work == GPU_SCORE) {
		m->dfeatures = arena_take(g, cells * (size_t)g->merger_out.out, sizeof(bits16));
		m->dactive = arena_take(g, cells * width, sizeof(bits16));
	}
	return arena_ok(g, err);
}

void run_patches(struct run_state *r, float *embedded)
{
	const struct batch *b = r->batch;
	const struct matrix *x = &r->g->patch_embed;
	observe(r, x, b->patches, b->vision.rows, b->vision.starts);
	run_linear_float(r, x, embedded, b->patches, b->vision.rows);
}

void run_merger(struct run_state *r, const float *vision_output)
{
	struct device_model *g = r->g;
	struct device *d = &g->device;
	const struct batch *b = r->batch;
	const struct tower *t = g->vision.tower;
	struct merger_tape *m = &r->merger;
	gpu_rmsnorm_forward(m->merged, NULL, vision_output, g->merger_norm, b->vision.rows,
	                    t->hidden, t->eps, d->number, d->stream);
	observe(r, &g->merger_in, m->merged, b->cells, b->cell_starts);
	run_linear(r, &g->merger_in, m->expanded, m->merged, b->cells);
	gpu_gelu_forward(m->active, m->expanded, (int64_t)b->cells * g->merger_in.out,
	                 d->number, d->stream);
	observe(r, &g->merger_out, m->active, b->cells, b->cell_starts);
	run_linear_float(r, &g->merger_out, m->features, m->active, b->cells);
}

void run_vision(struct run_state *r)
{
	run_patches(r, r->vision.tapes[0].input);
	tower_forward_pass(r, &r->vision);
	run_merger(r, r->vision.output);
}

static void vision_backward_pass(struct run_state *r, float *dtext, float *dvision,
                                 bits16 *dmerged)
{
	struct device_model *g = r->g;
	struct device *d = &g->device;
	const struct batch *b = r->batch;
	const struct tower *t = g->vision.tower;
	struct merger_tape *m = &r->merger;
	const struct plain_output features = { .sum = m->features };
	const struct plain_output expanded = { .narrow = m->expanded };
	const struct plain_output embedded = { .sum = r->vision.tapes[0].input };
	gpu_gather_features(m->dfeatures, dtext, b->source, b->text.rows, g->merger_out.out,
	                    d->number, d->stream);
	encode_input(r, &g->merger_out, m->active, b->cells);
	weigh(r, &g->merger_out, &features, m->dfeatures, b->cells, b->cell_starts);
	product_backward(d, m->dactive, m->dfeatures, g->merger_out.weight, b->cells,
	                 g->merger_out.out, g->merger_out.row);
	gpu_gelu_backward(m->dactive, m->dactive, m->expanded,
	                  (int64_t)b->cells * g->merger_in.out, d->number, d->stream);
	encode_input(r, &g->merger_in, m->merged, b->cells);
	weigh(r, &g->merger_in, &expanded, m->dactive, b->cells, b->cell_starts);
	product_backward(d, dmerged, m->dactive, g->merger_in.weight, b->cells,
	                 g->merger_in.out, g->merger_in.row);
	cudaMemsetAsync(dvision, 0, (size_t)b->vision.rows * (size_t)t->hidden * sizeof(float),
	                d->stream);
	gpu_rmsnorm_backward(dvision, NULL, dmerged, r->vision.output, g->merger_norm,
	                     b->vision.rows, t->hidden, t->eps, d->number, d->stream);
	tower_backward_pass(r, &r->vision, dvision, true);
	encode_input(r, &g->patch_embed, b->patches, b->vision.rows);
	weigh(r, &g->patch_embed, &embedded, r->vision.narrow, b->vision.rows,
	      b->vision.starts);
}

/* ---- the whole ---- */

bool prepare_forward(struct run_state *r, error *err)
{
	struct device_model *g = r->g;
	const struct batch *b = r->batch;
	size_t results = (size_t)r->samples * (size_t)r->places;
	size_t rows = (size_t)(b->vision.rows > b->text.rows ? b->vision.rows : b->text.rows);
	g->device.most_rows = 8192;
	r->amax = arena_take(g, results, sizeof *r->amax);
	r->score = arena_take(g, results, sizeof *r->score);
	r->per_row = arena_take(g, rows, sizeof *r->per_row);
	if (r->work == GPU_SCORE)
		r->per_row_scores = arena_take(g, MOST_SCORE_PARTS * rows,
		                               sizeof *r->per_row_scores);
	if (r->work != GPU_CALIBRATE)
		take_codes(r);
	if (!arena_ok(g, err) ||
	    (b->cells > 0 && (!prepare_tower(r, &r->vision, &g->vision, &b->vision, err) ||
	                      !prepare_merger(r, err))) ||
	    !prepare_tower(r, &r->text, &g->text, &b->text, err))
		return false;
	cudaMemsetAsync(r->amax, 0, results * sizeof *r->amax, g->device.stream);
	cudaMemsetAsync(r->score, 0, results * sizeof *r->score, g->device.stream);
	return true;
}

void embed_text(struct run_state *r, float *text_input)
{
	struct device_model *g = r->g;
	const struct batch *b = r->batch;
	gpu_embed(text_input, g->embedding, b->ids, r->merger.features,
	          b->cells > 0 ? b->source : NULL, b->text.rows, g->text.tower->hidden,
	          g->device.number, g->device.stream);
}

void free_run(struct run_state *r)
{
	free(r->text.tapes);
	free(r->vision.tapes);
}

/* What the head works with: all graded rows, and logits of a stretch of them. */
struct head_pass {
	float *picked;   /* [graded][hidden] */
	bits16 *normed, *dnormed;
	float *dpicked;
	float *logits;   /* [stretch][vocab] */
	bits16 *dlogits;
	int stretch;
};

static bool prepare_head(struct run_state *r, struct head_pass *h, error *err)
{
	struct device_model *g = r->g;
	size_t n = (size_t)r->batch->graded, hidden = (size_t)g->text.tower->hidden;
	/* A head that is scored itself needs the rows of a sample together. */
	h->stretch = g->head.scored || r->batch->graded < LOGIT_ROWS ? r->batch->graded
	                                                              : LOGIT_ROWS;
	size_t logits = (size_t)h->stretch * (size_t)g->head.out;
	h->picked = arena_take(g, n * hidden, sizeof *h->picked);
	h->normed = arena_take(g, n * hidden, sizeof *h->normed);
	h->dnormed = arena_take(g, n * hidden, sizeof *h->dnormed);
	h->dpicked = arena_take(g, n * hidden, sizeof *h->dpicked);
	h->logits = arena_take(g, logits, sizeof *h->logits);
	h->dlogits = arena_take(g, logits, sizeof *h->dlogits);
	return arena_ok(g, err);
}

static void run_stretch(struct run_state *r, struct head_pass *h, float *losses, int at,
                        int count)
{
	struct device_model *g = r->g;
	struct device *d = &g->device;
	const struct batch *b = r->batch;
	int hidden = g->text.tower->hidden, vocab = g->head.out;
	const bits16 *normed = h->normed + (size_t)at * (size_t)hidden;
	const struct plain_output plain = { .sum = h->logits };
	product_float(d, h->logits, normed, g->head.weight, NULL, count, vocab, hidden);
	gpu_cross_entropy(losses + at, h->dlogits, h->logits, b->targets + at,
	                  b->graded_scale + at, count, vocab, d->number, d->stream);
	encode_input(r, &g->head, normed, count);
	weigh(r, &g->head, &plain, h->dlogits, count, b->graded_starts);
	product_backward(d, h->dnormed + (size_t)at * (size_t)hidden, h->dlogits,
	                 g->head.weight, count, vocab, hidden);
}

/* Loss and gradient of the head; dx becomes the gradient of the text tower's output. */
static bool run_head(struct run_state *r, float *dx, float **losses, error *err)
{
	struct device_model *g = r->g;
	struct device *d = &g->device;
	const struct batch *b = r->batch;
	struct head_pass h;
	int hidden = g->text.tower->hidden, n = b->graded;
	*losses = arena_take(g, (size_t)n, sizeof **losses);
	if (!prepare_head(r, &h, err))
		return false;
	gpu_pick_rows(h.picked, r->text.output, b->graded_rows, n, hidden, d->stream);
	gpu_rmsnorm_forward(h.normed, NULL, h.picked, g->final_norm, n, hidden,
	                    g->text.tower->eps, d->number, d->stream);
	for (int at = 0; at < n; at += h.stretch)
		run_stretch(r, &h, *losses, at, n - at < h.stretch ? n - at : h.stretch);
	cudaMemsetAsync(h.dpicked, 0, (size_t)n * (size_t)hidden * sizeof *h.dpicked,
	                d->stream);
	gpu_rmsnorm_backward(h.dpicked, NULL, h.dnormed, h.picked, g->final_norm, n, hidden,
	                     g->text.tower->eps, d->number, d->stream);
	gpu_put_rows(dx, h.dpicked, b->graded_rows, n, b->text.rows, hidden, d->stream);
	return true;
}

static bool run_backward(struct run_state *r, float **losses, error *err)
{
	struct device_model *g = r->g;
	const struct batch *b = r->batch;
	size_t text = (size_t)b->text.rows * (size_t)g->text.tower->hidden;
	size_t vision = (size_t)b->vision.rows * (size_t)g->vision.tower->hidden;
	float *dx = arena_take(g, text, sizeof *dx);
	float *dvision = arena_take(g, vision, sizeof *dvision);
	bits16 *dmerged = arena_take(g, vision, sizeof *dmerged);
	if (!arena_ok(g, err) || !run_head(r, dx, losses, err))
		return false;
	tower_backward_pass(r, &r->text, dx, b->cells > 0);
	if (b->cells > 0)
		vision_backward_pass(r, dx, dvision, dmerged);
	return true;
}

bool run_batch(struct run_state *r, float **losses, error *err)
{
	bool ok = prepare_forward(r, err);
	if (ok) {
		if (r->batch->cells > 0)
			run_vision(r);
		embed_text(r, r->text.tapes[0].input);
		tower_forward_pass(r, &r->text);
		ok = r->work != GPU_SCORE || run_backward(r, losses, err);
	}
	free_run(r);
	return ok;
}
