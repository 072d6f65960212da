/* Packing samples; see batch.h. Orders and angles come from lib/model/positions.h, the
 * same as on the CPU. */
#include "lib/gpu/batch.h"

#include <stdlib.h>
#include <string.h>

#include "lib/model/positions.h"

enum { TILE_ROWS = 64 };

static int patch_rows(const struct sample *s)
{
	return s->patches.values ? s->patches.grid_h * s->patches.grid_w : 0;
}

static int count_graded(const struct sample *s)
{
	int graded = 0;
	for (int i = 1; i < s->tokens; i++)
		graded += s->graded[i] != 0;
	return graded;
}

/* Where each sample's part starts, by a count of each. */
static void add_starts(int32_t *starts, const struct sample *const *samples, int count,
                       int (*rows)(const struct sample *))
{
	starts[0] = 0;
	for (int i = 0; i < count; i++)
		starts[i + 1] = starts[i] + rows(samples[i]);
}

static int text_rows(const struct sample *s)
{
	return s->tokens;
}

static bool take_rows(struct tower_rows *t, arena *memory, int rows, int samples, int segments,
                      int head_dim, error *err)
{
	size_t angles = (size_t)rows * (size_t)(head_dim / 2);
	/* A segment's last tile may be a short one, so there are at most this many. */
	size_t tiles = (size_t)rows / TILE_ROWS + (size_t)segments + 1;
	t->rows = rows;
	return (t->cosine = arena_alloc(memory, angles, sizeof *t->cosine, err)) &&
	       (t->sine = arena_alloc(memory, angles, sizeof *t->sine, err)) &&
	       (t->starts = arena_alloc(memory, (size_t)samples + 1, sizeof *t->starts, err)) &&
	       (t->full = arena_alloc(memory, tiles, sizeof *t->full, err)) &&
	       (t->windows = arena_alloc(memory, tiles, sizeof *t->windows, err));
}

static void add_tiles(struct attention_tile *tiles, int *count, int begin, int end)
{
	for (int row = begin; row < end; row += TILE_ROWS)
		tiles[(*count)++] = (struct attention_tile){ row, begin, end, 0 };
}

static uint16_t to_bf16(float x)
{
	uint32_t u;
	memcpy(&u, &x, sizeof u);
	return (uint16_t)((u + 0x7FFF + ((u >> 16) & 1)) >> 16);
}

/* One image: its cells in window order, its windows, its patches moved accordingly. */
static bool pack_image(struct batch *b, const struct model *m, const struct sample *s,
                       int index, int32_t *order, int32_t *windows)
{
	const struct vision_config *v = &m->config.vision;
	struct tower_rows *t = &b->vision;
	int first = t->starts[index], rows = patch_rows(s), group = v->merge * v->merge;
	int half = v->head_dim / 2;
	int count = window_order(v, s->patches.grid_h, s->patches.grid_w, order, windows);
	vision_angles(v, m->parts->vision.frequencies, s->patches.grid_h, s->patches.grid_w,
	              order, t->cosine + (size_t)first * (size_t)half,
	              t->sine + (size_t)first * (size_t)half);
	for (int w = 0; w < count; w++)
		add_tiles(t->windows, &t->window_tiles, first + windows[w], first + windows[w + 1]);
	add_tiles(t->full, &t->tiles, first, first + rows);
	size_t width = (size_t)group * (size_t)v->patch_values;
	for (int c = 0; c < rows / group; c++) {
		const float *from = s->patches.values + (size_t)order[c] * width;
		bf16_bits *to = b->patches + ((size_t)first / (size_t)group + (size_t)c) * width;
		for (size_t i = 0; i < width; i++)
			to[i] = to_bf16(from[i]);
	}
	return true;
}

/* Which cell each placeholder stands for, in the packed window order. */
static void pack_sources(struct batch *b, const struct model *m, const struct sample *s,
                         int index, const int32_t *order)
{
	int32_t *source = b->source + b->text.starts[index];
	int cells = b->cell_starts[index + 1] - b->cell_starts[index], next = 0;
	for (int i = 0; i < s->tokens; i++)
		source[i] = s->ids[i] == m->config.image_token && cells ? next++ : -1;
	/* source holds cells in image order; order says which comes when. */
	for (int c = 0; c < cells; c++)
		for (int i = 0; i < s->tokens; i++)
			if (source[i] == order[c]) {
				source[i] = -2 - (b->cell_starts[index] + c);
				break;
			}
	for (int i = 0; i < s->tokens; i++)
		if (source[i] <= -2)
			source[i] = -2 - source[i];
}

static void pack_targets(struct batch *b, const struct sample *s, int index)
{
	int first = b->graded_starts[index];
	int graded = b->graded_starts[index + 1] - first, n = first;
	for (int i = 1; i < s->tokens; i++) {
		if (!s->graded[i])
			continue;
		b->graded_rows[n] = b->text.starts[index] + i - 1;
		b->targets[n] = s->ids[i];
		b->graded_scale[n++] = 1.0f / (float)graded;
	}
}

static void pack_text(struct batch *b, const struct model *m, const struct sample *s,
                      int index, int32_t *positions)
{
	struct tower_rows *t = &b->text;
	int first = t->starts[index], half = m->config.text.head_dim / 2;
	memcpy(b->ids + first, s->ids, (size_t)s->tokens * sizeof *b->ids);
	mrope_positions(&m->config, s, positions);
	text_angles(&m->config.text, m->parts->text.frequencies, positions, s->tokens,
	            t->cosine + (size_t)first * (size_t)half,
	            t->sine + (size_t)first * (size_t)half);
	add_tiles(t->full, &t->tiles, first, first + s->tokens);
}

static bool take_batch(struct batch *b, const struct model *m,
                       const struct sample *const *samples, int count, error *err)
{
	const struct vision_config *v = &m->config.vision;
	int text = 0, vision = 0, graded = 0;
	for (int i = 0; i < count; i++) {
		text += samples[i]->tokens;
		vision += patch_rows(samples[i]);
		graded += count_graded(samples[i]);
	}
	*b = (struct batch){ .samples = count, .graded = graded,
		.cells = vision / (v->merge * v->merge) };
	size_t patches = (size_t)vision * (size_t)v->patch_values;
	return take_rows(&b->text, &b->memory, text, count, count, m->config.text.head_dim,
	                 err) &&
	       take_rows(&b->vision, &b->memory, vision, count, b->cells + count, v->head_dim,
	                 err) &&
	       (b->ids = arena_alloc(&b->memory, (size_t)text, sizeof *b->ids, err)) &&
	       (b->source = arena_alloc(&b->memory, (size_t)text, sizeof *b->source, err)) &&
	       (b->cell_starts = arena_alloc(&b->memory, (size_t)count + 1,
	                                     sizeof *b->cell_starts, err)) &&
	       (b->graded_starts = arena_alloc(&b->memory, (size_t)count + 1,
	                                       sizeof *b->graded_starts, err)) &&
	       (b->graded_rows = arena_alloc(&b->memory, (size_t)graded,
	                                     sizeof *b->graded_rows, err)) &&
	       (b->targets = arena_alloc(&b->memory, (size_t)graded, sizeof *b->targets, err)) &&
	       (b->graded_scale = arena_alloc(&b->memory, (size_t)graded,
	                                      sizeof *b->graded_scale, err)) &&
	       (b->patches = arena_alloc(&b->memory, patches, sizeof *b->patches, err));
}

bool batch_pack(struct batch *b, const struct model *m, const struct sample *const *samples,
                int count, error *err)
{
	if (!take_batch(b, m, samples, count, err)) {
		batch_free(b);
		return false;
	}
	int group = m->config.vision.merge * m->config.vision.merge;
	size_t scratch = (size_t)b->cells + 2 + 3 * (size_t)b->text.rows;
	int32_t *order = arena_alloc(&b->memory, 2 * scratch, sizeof *order, err);
	if (!order) {
		batch_free(b);
		return false;
	}
	int32_t *windows = order + b->cells + 1, *positions = order + scratch;
	add_starts(b->text.starts, samples, count, text_rows);
	add_starts(b->vision.starts, samples, count, patch_rows);
	add_starts(b->graded_starts, samples, count, count_graded);
	for (int i = 0; i <= count; i++)
		b->cell_starts[i] = b->vision.starts[i] / group;
	for (int i = 0; i < count; i++) {
		if (patch_rows(samples[i]))
			pack_image(b, m, samples[i], i, order, windows);
		pack_sources(b, m, samples[i], i, order);
		pack_text(b, m, samples[i], i, positions);
		pack_targets(b, samples[i], i);
	}
	return true;
}

void batch_free(struct batch *b)
{
	arena_free(&b->memory);
	*b = (struct batch){ 0 };
}

/* ---- upload ---- */

/* Copies one array into the arena; the queue keeps the order, and the host memory stays
 * until the batch's results were waited for. */
static bool send(struct gpu_model *g, void *to_pointer, const void *from, size_t bytes,
                 error *err)
{
	void *to = arena_take(g, bytes, 1);
	if (!to)
		return arena_ok(g, err);
	cudaError_t status = cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice,
	                                     g->device.stream);
	if (status != cudaSuccess)
		return fail(err, EXIT_ENVIRONMENT, "%s: upload: %s", g->device.name,
		            cudaGetErrorString(status));
	memcpy(to_pointer, &to, sizeof to);
	return true;
}

static bool send_rows(struct gpu_model *g, struct tower_rows *to,
                      const struct tower_rows *from, int samples, int head_dim, error *err)
{
	size_t angles = (size_t)from->rows * (size_t)(head_dim / 2) * sizeof(float);
	*to = *from;
	return send(g, &to->cosine, from->cosine, angles, err) &&
	       send(g, &to->sine, from->sine, angles, err) &&
	       send(g, &to->starts, from->starts, ((size_t)samples + 1) * sizeof *to->starts,
	            err) &&
	       send(g, &to->full, from->full, (size_t)from->tiles * sizeof *to->full, err) &&
	       send(g, &to->windows, from->windows,
	            (size_t)from->window_tiles * sizeof *to->windows, err);
}

bool batch_upload(struct batch *device, const struct batch *host, struct gpu_model *g,
                  error *err)
{
	const struct model_config *c = &g->model->config;
	size_t text = (size_t)host->text.rows, graded = (size_t)host->graded;
	size_t patches = (size_t)host->vision.rows * (size_t)c->vision.patch_values;
	size_t starts = ((size_t)host->samples + 1) * sizeof(int32_t);
	*device = *host;
	device->memory = (arena){ 0 };
	return send_rows(g, &device->text, &host->text, host->samples, c->text.head_dim, err) &&
	       send_rows(g, &device->vision, &host->vision, host->samples, c->vision.head_dim,
	                 err) &&
	       send(g, &device->ids, host->ids, text * sizeof *host->ids, err) &&
	       send(g, &device->source, host->source, text * sizeof *host->source, err) &&
	       send(g, &device->cell_starts, host->cell_starts, starts, err) &&
	       send(g, &device->graded_starts, host->graded_starts, starts, err) &&
	       send(g, &device->graded_rows, host->graded_rows, graded * sizeof(int32_t), err) &&
	       send(g, &device->targets, host->targets, graded * sizeof(int32_t), err) &&
	       send(g, &device->graded_scale, host->graded_scale, graded * sizeof(float), err) &&
	       send(g, &device->patches, host->patches, patches * sizeof *host->patches, err);
}
