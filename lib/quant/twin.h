/* What comes back of a group's codes, as BF16 weights: the pieces of the bf16 profile. */
#ifndef QUERN_QUANT_TWIN_H
#define QUERN_QUANT_TWIN_H

#include "lib/quant/variants.h"

/* A file of the group's weights, code * scale rounded to BF16, made once and kept in the
 * tree's store. Adds to *written what was not there yet. */
bool make_twin(const char *tree, const char *target, const struct variant_pair *pair,
               struct output *out, uint64_t *written, error *err);

/* out[count] = bf16(value(codes[count]) * scale); `values` is room for `count`. */
void decode_twin(const uint8_t *codes, size_t count, float scale, float *values,
                 uint16_t *out);

#endif
