/* The vision tower: patches in, one vector of the language model's width per cell
 * out. Private to lib/model. */
#ifndef QUERN_MODEL_VISION_H
#define QUERN_MODEL_VISION_H

#include "lib/model/tower.h"

struct vision_run {
	struct tower_run tower; /* rows are patches, in window order */
	const struct patches *patches;
	int cells;
	int32_t *order, *starts; /* see window_order */
	float *embedded;         /* [patches][hidden], image order; also its gradient */
	float *merged;           /* [cells][merge^2 * hidden]: tower output, normalised */
	float *expanded;         /* [cells][merge^2 * hidden], before the GELU */
	float *active;           /* [cells][merge^2 * hidden], after it */
	float *projected;        /* [cells][out_hidden], window order */
	float *features;         /* [cells][out_hidden], image order */
};

bool vision_prepare(struct vision_run *v, struct run *run, const struct patches *patches,
                    enum keeping keeping, error *err);

/* Fills v->features. */
bool vision_forward(struct vision_run *v, error *err);

/* After vision_forward: v->features once more, as they become when the tower runs again
 * from block `first` on; -1: from the patch convolution, the tower's depth: only the
 * merger. output[patches][hidden] is scratch. */
bool vision_forward_again(struct vision_run *v, int first, float *output, error *err);

/* From dfeatures[cells][out_hidden], in image order. */
bool vision_backward(struct vision_run *v, const float *dfeatures, error *err);

#endif
