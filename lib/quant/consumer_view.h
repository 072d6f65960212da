/* One program's view of a checkpoint, for a person: what it builds of every linear, or of
 * one, and by which of its own rules. Needs no base model. */
#ifndef QUERN_QUANT_CONSUMER_VIEW_H
#define QUERN_QUANT_CONSUMER_VIEW_H

#include "lib/base/error.h"
#include "lib/base/text.h"

/* Appends to *out. `program` is one of PROGRAM_NAMES; `layer` is NULL or a linear by any
 * of its names, of a shard or of the fused layer. Fails with EXIT_BAD_INPUT, *out filled
 * all the same, when the program would build a linear otherwise than its tensor is. */
bool print_consumer_view(const char *folder, const char *program, const char *layer,
                         text *out, error *err);

#endif
