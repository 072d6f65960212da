/* The damage of quantised linears: a batch runs plainly once, keeping every layer's input
 * and all logits, and then once for every choice of linears, from the first layer that is
 * touched; see gpu.h. What lies before it is that of the plain run to the bit. */
#include <stdlib.h>

#include "lib/gpu/run.h"

/* Where a run starts that serves some of the matrices quantised. */
enum stage { AT_PATCHES, AT_VISION, AT_MERGER, AT_TEXT, AT_HEAD, NOWHERE };
struct start {
	enum stage stage;
	int layer; /* of AT_VISION and AT_TEXT */
};

/* Rows of logits on their way home; page-locked. */
struct arrivals {
	struct row_divergence *rows; /* [choices][rows] */
	struct row_summary *base;    /* [rows] */
	void *memory;
};

struct comparison {
	struct run_state r;
	float *plain_logits; /* [rows][vocab] */
	float *logits;       /* [LOGIT_ROWS][vocab] */
	bits16 *normed;      /* [rows][hidden] */
	struct row_summary *base;    /* [rows], of the plain logits */
	struct row_divergence *rows; /* [rows] */
	struct arrivals home;
};

/* ---- what is served ---- */

static bool serve_matrix(struct matrix *x, const bool *served)
{
	x->served = x->scored && served[x->members[0]];
	return x->served;
}

static int serve_tower(const struct gpu_tower *tower, const bool *served)
{
	int depth = tower->tower->depth, first = depth;
	for (int i = depth - 1; i >= 0; i--) {
		struct gpu_block *b = &tower->blocks[i];
		bool any = serve_matrix(&b->qkv, served);
		any = serve_matrix(&b->o, served) || any;
		any = serve_matrix(&b->gate_up, served) || any;
		any = serve_matrix(&b->down, served) || any;
		first = any ? i : first;
	}
	return first;
}

/* Marks the matrices of the choice; a batch without images never meets some of them. */
static struct start serve_choice(struct run_state *r, const struct gpu_choice *choice)
{
	struct device_model *g = r->g;
	const bool *served = choice->served;
	bool images = r->batch->cells > 0;
	bool patches = serve_matrix(&g->patch_embed, served);
	bool in = serve_matrix(&g->merger_in, served), out = serve_matrix(&g->merger_out, served);
	bool head = serve_matrix(&g->head, served);
	int vision = serve_tower(&g->vision, served), text = serve_tower(&g->text, served);
	r->cache_scales = choice->cache_scales;
	text = r->cache_scales ? 0 : text;
	if (images && patches)
		return (struct start){ AT_PATCHES, 0 };
	if (images && vision < g->vision.tower->depth)
		return (struct start){ AT_VISION, vision };
	if (images && (in || out))
		return (struct start){ AT_MERGER, 0 };
	if (text < g->text.tower->depth)
		return (struct start){ AT_TEXT, text };
	return (struct start){ head ? AT_HEAD : NOWHERE, 0 };
}

static void serve_nothing(struct run_state *r)
{
	struct device_model *g = r->g;
	r->cache_scales = NULL;
	for (int i = 0; i < g->matrix_count; i++)
		g->matrices[i]->served = false;
	g->head.served = false; /* a tied head is not among the matrices */
}

/* ---- one run ---- */

static const float *run_again(struct run_state *r, struct start start)
{
	const float *vision = r->vision.output;
	float *input = NULL;
	if (start.stage == AT_HEAD)
		return r->text.output;
	if (start.stage == AT_TEXT)
		return tower_forward_again(r, &r->text, start.layer,
		                           r->text.tapes[start.layer].input);
	if (start.stage == AT_PATCHES) {
		input = r->vision.again[0];
		run_patches(r, input);
	} else if (start.stage == AT_VISION) {
		input = r->vision.tapes[start.layer].input;
	}
	if (input)
		vision = tower_forward_again(r, &r->vision, start.layer, input);
	run_merger(r, vision);
	embed_text(r, r->text.again[0]);
	return tower_forward_again(r, &r->text, 0, r->text.again[0]);
}

static void run_logits(struct comparison *c, float *logits, int first, int count)
{
	struct device_model *g = c->r.g;
	run_linear_float(&c->r, &g->head, logits,
	                 c->normed + (size_t)first * (size_t)g->text.tower->hidden, count);
}

static void normalise(struct comparison *c, const float *output)
{
	struct device_model *g = c->r.g;
	gpu_rmsnorm_forward(c->normed, NULL, output, g->final_norm, c->r.batch->text.rows,
	                    g->text.tower->hidden, g->text.tower->eps, g->device.number,
	                    g->device.stream);
}

static void run_plainly(struct comparison *c)
{
	struct run_state *r = &c->r;
	struct device *d = &r->g->device;
	const struct batch *b = r->batch;
	serve_nothing(r);
	if (b->cells > 0)
		run_vision(r);
	embed_text(r, r->text.tapes[0].input);
	tower_forward_pass(r, &r->text);
	normalise(c, r->text.output);
	run_logits(c, c->plain_logits, 0, b->text.rows);
	gpu_summarise_rows(c->base, c->plain_logits, b->row_targets, b->text.rows,
	                   r->g->head.out, d->stream);
	cudaMemcpyAsync(c->home.base, c->base, (size_t)b->text.rows * sizeof *c->base,
	                cudaMemcpyDeviceToHost, d->stream);
}

/* The logits of the choice, a stretch of rows at a time, against the plain ones. */
static void compare_logits(struct comparison *c, const float *output)
{
	struct device *d = &c->r.g->device;
	const struct batch *b = c->r.batch;
	int vocab = c->r.g->head.out, rows = b->text.rows;
	normalise(c, output);
	for (int at = 0; at < rows; at += LOGIT_ROWS) {
		int count = rows - at < LOGIT_ROWS ? rows - at : LOGIT_ROWS;
		run_logits(c, c->logits, at, count);
		gpu_divergence_of_rows(c->rows + at, c->base + at,
		                       c->plain_logits + (size_t)at * (size_t)vocab, c->logits,
		                       b->row_targets + at, count, vocab, d->stream);
	}
}

static void run_choice(struct comparison *c, struct start start, int choice)
{
	cudaStream_t stream = c->r.g->device.stream;
	size_t rows = (size_t)c->r.batch->text.rows;
	compare_logits(c, run_again(&c->r, start));
	cudaMemcpyAsync(c->home.rows + (size_t)choice * rows, c->rows, rows * sizeof *c->rows,
	                cudaMemcpyDeviceToHost, stream);
}

/* ---- a batch ---- */

static bool make_home(struct arrivals *home, size_t rows, size_t choices, error *err)
{
	size_t divergences = choices * rows * sizeof *home->rows;
	size_t bytes = divergences + rows * sizeof *home->base;
	if (!(home->memory = host_alloc(bytes, "a comparison's results", err)))
		return false;
	home->rows = home->memory;
	home->base = (struct row_summary *)((char *)home->memory + divergences);
	return true;
}

static bool prepare_comparison(struct comparison *c, int choices, error *err)
{
	struct device_model *g = c->r.g;
	size_t rows = (size_t)c->r.batch->text.rows, vocab = (size_t)g->head.out;
	size_t together = rows < LOGIT_ROWS ? rows : LOGIT_ROWS;
	if (!prepare_forward(&c->r, err))
		return false;
	c->plain_logits = arena_take(g, rows * vocab, sizeof *c->plain_logits);
	c->logits = arena_take(g, together * vocab, sizeof *c->logits);
	c->normed = arena_take(g, rows * (size_t)g->text.tower->hidden, sizeof *c->normed);
	c->rows = arena_take(g, rows, sizeof *c->rows);
	c->base = arena_take(g, rows, sizeof *c->base);
	return arena_ok(g, err) && make_home(&c->home, rows, (size_t)choices, err);
}

/* A choice that touches nothing of the batch changes nothing. */
static void fill_rows(struct row_change *rows, const struct arrivals *home, size_t count,
                      size_t choice, bool touched)
{
	for (size_t i = 0; i < count; i++) {
		const struct row_divergence *from = &home->rows[choice * count + i];
		double base_loss = home->base[i].loss;
		rows[i] = (struct row_change){ .agrees = true, .base_loss = base_loss,
			.loss = base_loss };
		if (touched)
			rows[i] = (struct row_change){ .kl = from->kl, .squared = from->squared,
				.agrees = from->agrees != 0, .base_loss = base_loss, .loss = from->loss };
	}
}

static bool run_choices(struct comparison *c, const struct gpu_choice *choices,
                        int choice_count, struct row_change *rows, error *err)
{
	size_t count = (size_t)c->r.batch->text.rows;
	bool *touched = calloc((size_t)choice_count, sizeof *touched);
	if (!touched)
		return fail_memory(err, "choices", (size_t)choice_count * sizeof *touched);
	run_plainly(c);
	for (int i = 0; i < choice_count; i++) {
		struct start start = serve_choice(&c->r, &choices[i]);
		touched[i] = start.stage != NOWHERE;
		if (touched[i])
			run_choice(c, start, i);
	}
	serve_nothing(&c->r);
	bool ok = device_wait(&c->r.g->device, err);
	for (int i = 0; ok && i < choice_count; i++)
		fill_rows(rows + (size_t)i * count, &c->home, count, (size_t)i, touched[i]);
	free(touched);
	return ok;
}

bool device_compare(struct gpu_model *handle, const struct sample *const *samples, int count,
                    const struct gpu_choice *choices, int choice_count,
                    struct row_change *rows, error *err)
{
	struct device_model *g = (struct device_model *)handle;
	struct gpu_slot *slot = &g->slots[0];
	struct batch host, device;
	struct comparison c = { .r = { .g = g, .batch = &device, .samples = count,
		.work = GPU_COMPARE, .places = g->model->linear_count } };
	arena_reset(g);
	bool ok = batch_pack(&host, g->model, samples, count, g->device.number, &slot->packed,
	                     &slot->packed_bytes, err) &&
	          batch_upload(&device, &host, g, err) && prepare_comparison(&c, choice_count, err) &&
	          run_choices(&c, choices, choice_count, rows, err);
	free_run(&c.r);
	cudaFreeHost(c.home.memory);
	return ok;
}
