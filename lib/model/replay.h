/* One sample, run once and then many times more with a single part of it disturbed.
 *
 * What lies before the disturbed linear is the same every time, so it is computed
 * once: a run starts at the block that has the linear, on the input which that block
 * had. The results are the bits that a whole run would give. */
#ifndef QUERN_MODEL_REPLAY_H
#define QUERN_MODEL_REPLAY_H

#include "lib/model/qwen.h"

struct replay;

/* Runs the sample undisturbed. `tap` is only called by what follows; it, the sample
 * and the workspace must outlive the replay. NULL on failure. */
struct replay *replay_new(const struct model *m, struct workspace *w,
                          const struct sample *s, const struct tap *tap, error *err);
void replay_free(struct replay *r);

/* logits[tokens][vocab] of the undisturbed run, the caller's to overwrite. */
float *replay_plain_logits(struct replay *r);

/* logits[tokens][vocab] when tap->forward is shown (and may overwrite the output of)
 * this linear and those that run with and after it; valid until the next call. A
 * vision linear of a sample without image gives the undisturbed logits. NULL on
 * failure. */
const float *replay_from(struct replay *r, int linear, error *err);

#endif
