/* What the two halves of the emitter share: programs (emit_programs.c) and data
 * (emit_data.c). */
#ifndef QUERN_GRAPH_EMIT_INTERNAL_H
#define QUERN_GRAPH_EMIT_INTERNAL_H

#include "lib/base/file.h"
#include "lib/graph/emit.h"

/* Appends the edges that compile and link everything. */
bool emit_programs(text *out, const struct tree_settings *settings, error *err);

/* Appends the edges of all baselines and schemes, and the scan list with them. */
bool emit_data(struct emitted *e, text *edges, const struct plan *plan,
               const struct tree_settings *settings, error *err);

/* artifacts.list, but for the number of workers the same on every machine. */
bool emit_artifacts(text *out, const struct plan *plan, int64_t workers, error *err);

/* One edge a worker, each with its run of blocks; never more edges than blocks. */
int count_parts(int64_t samples, const struct calibration *k, int64_t workers);

/* The edges that say what schemes do to the model: evaluate and report, and
 * e->report for the latter. */
bool emit_report(struct emitted *e, text *edges, const struct plan *plan,
                 const struct tree_settings *settings, error *err);

/* ---- pieces of edges ---- */

/* A tool as an input: its digest decides, its program only has to be there. */
#define TOOL(name) " $o/bin/" name ".digest"
#define RUNS(name) " || $o/bin/" name

/* A word for the shell inside a ninja value: quoted when it needs to be, with
 * ninja's own `$` doubled. */
void add_word(text *out, const char *word);
void add_option(text *out, const char *name, const char *value); /* " --name word" */
void add_format_arguments(text *out, const struct catalog_baseline *b,
                          const struct catalog_format *f);

/* A line of the scan list, once: fields separated by tabs. `more` is what follows. */
void add_scan(struct emitted *e, const char *kind, const char *stamp, const char *what,
              const char *more);

/* Stamps of one baseline: its weights, the model's other files, its data. */
struct stamp_names {
	char weights[PATH_BYTES], texts[PATH_BYTES], data[PATH_BYTES];
};

void name_stamps(struct stamp_names *names, const struct catalog_baseline *b,
                 const char *out);

/* out/work/MODEL/BASELINE */
void baseline_folder(char *folder, const struct catalog_baseline *b, const char *out);

/* What the manifests of a scheme are called. */
const char *scheme_file_name(const struct scheme *s);

#endif
