/* Memory of one run, taken piece by piece and given back all at once: after the
 * largest sample so far has been seen, a run allocates nothing. Private to
 * lib/model, but for what qwen.h says. */
#ifndef QUERN_MODEL_WORKSPACE_H
#define QUERN_MODEL_WORKSPACE_H

#include <stddef.h>

#include "lib/model/qwen.h"

/* Forgets everything taken; the memory stays, for the next run to take again. */
void workspace_begin(struct workspace *w);

/* count * size bytes at a multiple of 64, not cleared. Returns NULL when memory is
 * out, which workspace_ok reports: take all, ask once, then use. */
void *workspace_take(struct workspace *w, size_t count, size_t size);

/* rows * width floats. */
float *workspace_floats(struct workspace *w, size_t rows, size_t width);
bool workspace_ok(const struct workspace *w, error *err);

/* How many bytes of activations model_gradient may keep for its backward pass
 * before it recomputes blocks instead; TAPE_BYTES unless set. */
void workspace_set_tape(struct workspace *w, size_t bytes);
size_t workspace_tape(const struct workspace *w);

enum { TAPE_BYTES = 512 << 20 };

#endif
