/* One sample in the whole model. Private to lib/model. */
#ifndef QUERN_MODEL_SAMPLE_RUN_H
#define QUERN_MODEL_SAMPLE_RUN_H

#include "lib/model/text.h"
#include "lib/model/vision.h"

struct sample_run {
	struct run run;
	bool image;
	struct vision_run vision; /* with an image only */
	struct text_run text;
};

/* Checks that the model can run the sample (ids within the vocabulary, a grid of
 * whole cells, as many consecutive placeholders) and takes all memory for it. */
bool sample_run_begin(struct sample_run *r, const struct model *m, struct workspace *w,
                      const struct sample *s, const struct tap *tap, bool gradient,
                      error *err);

/* Up to the hidden states of all tokens. */
bool sample_run_forward(struct sample_run *r, error *err);

#endif
