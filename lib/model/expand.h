/* Stored values of any float dtype to float32. */
#ifndef QUERN_MODEL_EXPAND_H
#define QUERN_MODEL_EXPAND_H

#include <stddef.h>

#include "lib/checkpoint/safetensors.h"

/* BF16, F16 and F32 are the dtypes that weights may have. */
bool can_expand(enum dtype dtype);

/* out[count] from `in`, which may be unaligned; the dtype must be expandable. */
void expand_values(float *out, enum dtype dtype, const void *in, size_t count);

#endif
