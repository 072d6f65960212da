/* What the two halves of the emitter share: programs (emit_programs.c) and data
 * (emit_data.c). */
#ifndef QUERN_GRAPH_EMIT_INTERNAL_H
#define QUERN_GRAPH_EMIT_INTERNAL_H

#include "lib/graph/emit.h"

/* Appends the edges that compile and link everything. */
bool emit_programs(text *out, const struct tree_settings *settings, error *err);

/* Appends the edges of all baselines and schemes, and the scan list with them. */
bool emit_data(struct emitted *e, text *edges, const struct plan *plan,
               const struct tree_settings *settings, error *err);

#endif
