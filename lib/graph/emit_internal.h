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

/* artifacts.list, but for the number of workers the same on every machine. */
bool emit_artifacts(text *out, const struct plan *plan, int64_t workers, error *err);

/* What a scheme's files are called. */
const char *scheme_file_name(const struct scheme *s);

/* One edge a worker, each with its run of blocks; never more edges than blocks. */
int count_parts(int64_t samples, const struct calibration *k, int64_t workers);

#endif
