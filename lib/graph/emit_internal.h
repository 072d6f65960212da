/* What the files of the emitter share. */
#ifndef QUERN_GRAPH_EMIT_INTERNAL_H
#define QUERN_GRAPH_EMIT_INTERNAL_H

#include "lib/base/file.h"
#include "lib/checkpoint/profile.h"
#include "lib/graph/emit.h"

/* Appends the edges that compile and link everything. */
bool emit_programs(text *out, const struct tree_settings *settings, error *err);

/* Appends the edges of all baselines and schemes, and the scan list with them. */
bool emit_data(struct emitted *e, text *edges, const struct plan *plan,
               const struct tree_settings *settings, error *err);

/* Appends the edges of schemes: slice, every profile's export, describe and verify,
 * diversity. */
void emit_schemes(struct emitted *e, text *out, const struct plan *plan, const char *tree);

/* artifacts.list, but for the number of workers the same on every machine. */
bool emit_artifacts(text *out, const struct plan *plan, int64_t workers, error *err);

/* One edge a worker, each with its run of blocks; never more edges than blocks. */
int count_parts(int64_t samples, const struct calibration *k, int64_t workers);

/* The edges that say what schemes do to the model: evaluate and report, and
 * e->report for the latter. */
bool emit_report(struct emitted *e, text *edges, const struct plan *plan,
                 const struct tree_settings *settings, error *err);

/* The edges that put what evaluate found into model cards. */
void emit_cards(struct emitted *e, text *out, const struct plan *plan, const char *tree);

/* ---- pieces of edges ---- */

/* A tool as an input: its digest decides, its program only has to be there. */
#define TOOL(name) " $o/bin/" name ".digest"
#define RUNS(name) " || $o/bin/" name

/* A word for the shell inside a ninja value: quoted when it needs to be, with
 * ninja's own `$` doubled. */
void add_word(text *out, const char *word);
void add_option(text *out, const char *name, const char *value); /* " --name word" */
void add_format_arguments(text *out, const struct catalog_baseline *b,
                          const struct catalog_format *f, const char *tree);

/* " BEFORE PATH" of what fold found for a format, and for all of a baseline, where they
 * have channel scales: inputs of an edge, or with "--fold " before them its options. */
void add_fold(text *out, const struct catalog_baseline *b, const struct catalog_format *f,
              const char *before, const char *tree);
void add_folds(text *out, const struct catalog_baseline *b, const char *before,
               const char *tree);

void add_glob_options(text *out, const char *option, const struct globs *globs);

/* A line of the scan list, once: fields separated by tabs. `more` is what follows. */
void add_scan(struct emitted *e, const char *kind, const char *stamp, const char *what,
              const char *more);

/* What the edges of one baseline wait for: the stamps of its weights, of the model's other
 * files and of its rows; and as `data` the latter with, where they have images, the list of
 * these decoded. */
struct stamp_names {
	char weights[PATH_BYTES], texts[PATH_BYTES], rows[PATH_BYTES];
	char data[2 * PATH_BYTES];
};

void name_stamps(struct stamp_names *names, const struct catalog_baseline *b,
                 const char *out);

/* out/work/MODEL/BASELINE */
void baseline_folder(char *folder, const struct catalog_baseline *b, const char *out);

/* What quantize writes of one of a baseline's formats, of the tensors that a profile's
 * checkpoints are made of. */
void name_pieces(char path[PATH_BYTES], const struct catalog_baseline *b, int format,
                 enum profile p, const char *tree);

/* What evaluate writes of a baseline and a set. */
void name_damage(char *path, const struct catalog_baseline *b,
                 const struct evaluation_set *k, const char *out);

/* What the manifests of a scheme are called. */
const char *scheme_file_name(const struct scheme *s);

/* A scheme's checkpoint in one profile. */
struct checkpoint_names {
	char target[NAME_BYTES];  /* and folder: the scheme, "_profile" if not its baseline's */
	char folder[PATH_BYTES];
	char index[PATH_BYTES];    /* of its tensors; what export makes */
	char list[PATH_BYTES];     /* of its files; what describe makes, and the last one */
	char verified[PATH_BYTES]; /* what verify says of it */
	char card[PATH_BYTES];     /* its model card, complete */
};

/* Whether the scheme has a target for the profile: not an FP8 cache in one that has no
 * scales, and a scheme that nobody listed only in its baseline's own. */
bool comes_in(const struct catalog *c, const struct scheme *s, enum profile p);

void name_checkpoint(struct checkpoint_names *n, const struct scheme *s, enum profile p,
                     const char *tree);

/* Whether any scheme of the model becomes a checkpoint. */
bool has_checkpoints(const struct catalog *c, const struct catalog_model *model);

#endif
