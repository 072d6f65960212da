/* Positions as transformers computes them (get_window_index, rot_pos_emb,
 * get_rope_index of Qwen2_5_VL), for one image. */
#include "lib/model/positions.h"

#include <math.h>

#include "lib/model/qwen.h"

static int smaller(int a, int b)
{
	return a < b ? a : b;
}

static int larger(int a, int b)
{
	return a > b ? a : b;
}

int window_order(const struct vision_config *v, int grid_h, int grid_w, int32_t *order,
                 int32_t *starts)
{
	int side = v->window / v->merge / v->patch;
	int rows = grid_h / v->merge, columns = grid_w / v->merge;
	int windows = 0, placed = 0;
	starts[0] = 0;
	for (int top = 0; top < rows; top += side)
		for (int left = 0; left < columns; left += side) {
			for (int y = top; y < smaller(top + side, rows); y++)
				for (int x = left; x < smaller(left + side, columns); x++)
					order[placed++] = y * columns + x;
			starts[++windows] = placed * v->merge * v->merge;
		}
	return windows;
}

static void turn(float *cosine, float *sine, const float *frequencies, int count,
                 int position)
{
	for (int i = 0; i < count; i++) {
		float angle = (float)position * frequencies[i];
		cosine[i] = cosf(angle);
		sine[i] = sinf(angle);
	}
}

void vision_angles(const struct vision_config *v, const float *frequencies, int grid_h,
                   int grid_w, const int32_t *order, float *cosine, float *sine)
{
	int per_cell = v->merge * v->merge, columns = grid_w / v->merge;
	int quarter = v->head_dim / 4;
	for (int row = 0; row < grid_h * grid_w; row++) {
		int cell = order[row / per_cell], inside = row % per_cell;
		int y = cell / columns * v->merge + inside / v->merge;
		int x = cell % columns * v->merge + inside % v->merge;
		turn(cosine, sine, frequencies, quarter, y);
		turn(cosine + quarter, sine + quarter, frequencies, quarter, x);
		cosine += 2 * quarter;
		sine += 2 * quarter;
	}
}

void text_angles(const struct text_config *t, const float *frequencies,
                 const int32_t *positions, int tokens, float *cosine, float *sine)
{
	for (int row = 0; row < tokens; row++) {
		int from = 0;
		for (int axis = 0; axis < 3; axis++) {
			int count = t->mrope_section[axis];
			turn(cosine + from, sine + from, frequencies + from, count,
			     positions[axis * tokens + row]);
			from += count;
		}
		cosine += from;
		sine += from;
	}
}

void mrope_positions(const struct model_config *config, const struct sample *s, int32_t *out)
{
	int merge = config->vision.merge;
	int rows = s->patches.grid_h / merge, columns = s->patches.grid_w / merge;
	int32_t *time = out, *height = out + s->tokens, *width = out + 2 * (size_t)s->tokens;
	int cells = s->patches.values ? rows * columns : 0, next = 0;
	for (int i = 0; i < s->tokens;) {
		if (!cells || s->ids[i] != config->image_token) {
			time[i] = height[i] = width[i] = next++;
			i++;
			continue;
		}
		for (int cell = 0; cell < cells && i < s->tokens; cell++, i++) {
			time[i] = next;
			height[i] = next + cell / columns;
			width[i] = next + cell % columns;
		}
		next += larger(rows, columns);
	}
}
