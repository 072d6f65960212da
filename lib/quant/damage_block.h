/* A block of samples' damage as an object of the store. Private to evaluation. */
#ifndef QUERN_QUANT_DAMAGE_BLOCK_H
#define QUERN_QUANT_DAMAGE_BLOCK_H

#include "lib/base/text.h"
#include "lib/quant/evaluate.h"

bool print_damage_block(const struct sample_damage *samples, int count, text *out,
                        error *err);

/* Reads exactly `count` samples; `name` is what errors call the text. */
bool read_damage_block(struct sample_damage *samples, int count, const char *name,
                       const char *data, size_t size, arena *memory, error *err);

#endif
