/* Packing samples; see batch.h. Orders and angles come from lib/model/positions.h, the
 * same as on the CPU. */
#include "kernels/portable.h"

#include "lib/gpu/batch.h"

#include <stdlib.h>
#include <string.h>

#include "lib/gpu/numbers.h"
#include "lib/model/positions.h"

enum { TILE_ROWS = 64, PIECE_ALIGNMENT = 256 };

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

/* ---- where the arrays lie ---- */

/* Takes the next piece of the stretch at base; with base NULL only counts. */
static void *lay(char *base, size_t *used, size_t count, size_t size)
{
	size_t at = *used;
	*used += (count * size + PIECE_ALIGNMENT - 1) / PIECE_ALIGNMENT * PIECE_ALIGNMENT;
	return base ? base + at : NULL;
}

static void lay_rows(struct tower_rows *t, char *base, size_t *used, int samples,
                     int segments, int head_dim)
{
	size_t angles = (size_t)t->rows * (size_t)(head_dim / 2);
	/* A segment's last tile may be a short one, so there are at most this many. */
	size_t tiles = (size_t)t->rows / TILE_ROWS + (size_t)segments + 1;
	t->cosine = lay(base, used, angles, sizeof *t->cosine);
	t->sine = lay(base, used, angles, sizeof *t->sine);
	t->starts = lay(base, used, (size_t)samples + 1, sizeof *t->starts);
	t->full = lay(base, used, tiles, sizeof *t->full);
	t->windows = lay(base, used, tiles, sizeof *t->windows);
}

/* Points every array into the stretch at base, on the host or on the device. */
static void lay_batch(struct batch *b, const struct model_config *c, char *base)
{
	size_t samples = (size_t)b->samples, text = (size_t)b->text.rows;
	size_t graded = (size_t)b->graded, used = 0;
	size_t patches = (size_t)b->vision.rows * (size_t)c->vision.patch_values;
	lay_rows(&b->text, base, &used, b->samples, b->samples, c->text.head_dim);
	lay_rows(&b->vision, base, &used, b->samples, b->cells + b->samples, c->vision.head_dim);
	b->ids = lay(base, &used, text, sizeof *b->ids);
	b->source = lay(base, &used, text, sizeof *b->source);
	b->cell_starts = lay(base, &used, samples + 1, sizeof *b->cell_starts);
	b->graded_starts = lay(base, &used, samples + 1, sizeof *b->graded_starts);
	b->graded_rows = lay(base, &used, graded, sizeof *b->graded_rows);
	b->targets = lay(base, &used, graded, sizeof *b->targets);
	b->row_targets = lay(base, &used, text, sizeof *b->row_targets);
	b->graded_scale = lay(base, &used, graded, sizeof *b->graded_scale);
	b->patches = lay(base, &used, patches, sizeof *b->patches);
	b->bytes = used;
}

static bool make_room(void **memory, size_t *capacity, size_t bytes, error *err)
{
	if (bytes <= *capacity)
		return true;
	cudaFreeHost(*memory);
	*memory = NULL;
	*capacity = 0;
	if (!(*memory = host_alloc(bytes, "a batch", err)))
		return false;
	*capacity = bytes;
	return true;
}

/* ---- filling them ---- */

static void add_tiles(struct attention_tile *tiles, int *count, int begin, int end)
{
	for (int row = begin; row < end; row += TILE_ROWS)
		tiles[(*count)++] = (struct attention_tile){ row, begin, end, 0 };
}

/* One image: its cells in window order, its windows, its patches moved accordingly. */
static void pack_image(struct batch *b, const struct model *m, const struct sample *s,
                       int index, enum gpu_number number, int32_t *order,
                       int32_t *windows)
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
		bits16 *to = b->patches + ((size_t)first / (size_t)group + (size_t)c) * width;
		for (size_t i = 0; i < width; i++)
			to[i] = to_number(from[i], number);
	}
}

/* Which row of features each placeholder takes. The n-th placeholder stands for cell n in
 * image order; features come in window order. */
static void pack_sources(struct batch *b, const struct model *m, const struct sample *s,
                         int index, const int32_t *order)
{
	int32_t *source = b->source + b->text.starts[index];
	int first = b->cell_starts[index], cells = b->cell_starts[index + 1] - first;
	int image = 0;
	for (int i = 0; i < s->tokens; i++)
		source[i] = -1;
	while (cells && image < s->tokens && s->ids[image] != m->config.image_token)
		image++;
	/* sample_build makes the placeholders one run. */
	for (int c = 0; c < cells && image + order[c] < s->tokens; c++)
		source[image + order[c]] = first + c;
}

static void pack_targets(struct batch *b, const struct sample *s, int index,
                         enum gpu_number number)
{
	int first = b->graded_starts[index];
	int graded = b->graded_starts[index + 1] - first, n = first;
	for (int i = 0; i < s->tokens; i++)
		b->row_targets[b->text.starts[index] + i] = -1;
	for (int i = 1; i < s->tokens; i++) {
		if (!s->graded[i])
			continue;
		b->row_targets[b->text.starts[index] + i - 1] = s->ids[i];
		b->graded_rows[n] = b->text.starts[index] + i - 1;
		b->targets[n] = s->ids[i];
		b->graded_scale[n++] = gradient_scale(number) / (float)graded;
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

static void measure_batch(struct batch *b, const struct model *m,
                          const struct sample *const *samples, int count)
{
	const struct vision_config *v = &m->config.vision;
	*b = (struct batch){ .samples = count };
	for (int i = 0; i < count; i++) {
		b->text.rows += samples[i]->tokens;
		b->vision.rows += patch_rows(samples[i]);
		b->graded += count_graded(samples[i]);
	}
	b->cells = b->vision.rows / (v->merge * v->merge);
}

static void fill_batch(struct batch *b, const struct model *m,
                       const struct sample *const *samples, enum gpu_number number,
                       int32_t *scratch)
{
	int group = m->config.vision.merge * m->config.vision.merge;
	int32_t *order = scratch, *windows = order + b->cells + 1;
	int32_t *positions = windows + b->cells + 2;
	add_starts(b->text.starts, samples, b->samples, text_rows);
	add_starts(b->vision.starts, samples, b->samples, patch_rows);
	add_starts(b->graded_starts, samples, b->samples, count_graded);
	for (int i = 0; i <= b->samples; i++)
		b->cell_starts[i] = b->vision.starts[i] / group;
	for (int i = 0; i < b->samples; i++) {
		if (patch_rows(samples[i]))
			pack_image(b, m, samples[i], i, number, order, windows);
		pack_sources(b, m, samples[i], i, order);
		pack_text(b, m, samples[i], i, positions);
		pack_targets(b, samples[i], i, number);
	}
}

bool batch_pack(struct batch *b, const struct model *m, const struct sample *const *samples,
                int count, enum gpu_number number, void **memory, size_t *capacity,
                error *err)
{
	measure_batch(b, m, samples, count);
	lay_batch(b, &m->config, NULL);
	size_t scratch = 2 * (size_t)b->cells + 3 + 3 * (size_t)b->text.rows;
	int32_t *orders = malloc(scratch * sizeof *orders);
	bool ok = (orders || fail_memory(err, "orders", scratch * sizeof *orders)) &&
	          make_room(memory, capacity, b->bytes, err);
	if (ok) {
		lay_batch(b, &m->config, *memory);
		fill_batch(b, m, samples, number, orders);
	}
	free(orders);
	return ok;
}

bool batch_upload(struct batch *device, const struct batch *host, struct device_model *g,
                  error *err)
{
	char *base = arena_take(g, host->bytes, 1);
	if (!base)
		return arena_ok(g, err);
	*device = *host;
	lay_batch(device, &g->model->config, base);
	cudaError_t status = cudaMemcpyAsync(base, host->text.cosine, host->bytes,
	                                     cudaMemcpyHostToDevice, g->device.stream);
	return status == cudaSuccess || fail(err, EXIT_ENVIRONMENT, "%s: upload: %s",
	                                     g->device.name, cudaGetErrorString(status));
}
