/* Where tokens and patches stand: the order of vision windows and the angles of
 * the rotary embeddings. Private to lib/model (mrope_positions is in qwen.h). */
#ifndef QUERN_MODEL_POSITIONS_H
#define QUERN_MODEL_POSITIONS_H

#include <stdint.h>

#include "lib/checkpoint/config.h"

/* A cell is merge x merge patches, one token of the language model. Windows of
 * window/merge/patch cells a side are laid over the image from its upper left;
 * window order takes the windows row by row and in each its cells row by row.
 * order[i] is the cell (in image order) that comes i-th; window k holds the patch
 * rows starts[k] to starts[k + 1] of that order. Returns the number of windows;
 * starts has room for one more than there are cells. */
int window_order(const struct vision_config *v, int grid_h, int grid_w, int32_t *order,
                 int32_t *starts);

/* cosine and sine [patches][head_dim / 2] in window order: the first half of a row
 * turns with the patch's height, the second with its width. */
void vision_angles(const struct vision_config *v, const float *frequencies, int grid_h,
                   int grid_w, const int32_t *order, float *cosine, float *sine);

/* cosine and sine [tokens][head_dim / 2] from M-RoPE positions[3][tokens]: the
 * first mrope_section[0] turn with time, the next with height, the last with
 * width. */
void text_angles(const struct text_config *t, const float *frequencies,
                 const int32_t *positions, int tokens, float *cosine, float *sine);

#endif
