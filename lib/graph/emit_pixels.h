/* The edges that decode images, for the rest of the emitter. */
#ifndef QUERN_GRAPH_EMIT_PIXELS_H
#define QUERN_GRAPH_EMIT_PIXELS_H

#include "lib/graph/emit_internal.h"

/* Appends them, for calibrations and evaluations. */
void emit_pixels(struct emitted *e, text *out, const struct plan *plan, const char *tree);

/* Whether a baseline of the model is calibrated on a set of images. */
bool calibration_has_pixels(const struct catalog *c, const struct catalog_model *model,
                            const struct calibration *k);

/* The lists that the edges write; only of sets that have images. */
void name_pixels(char path[PATH_BYTES], const struct catalog_model *model,
                 const struct calibration *k, const char *tree);
void name_evaluation_pixels(char path[PATH_BYTES], const struct catalog_model *model,
                            const struct evaluation_set *k, const char *tree);

/* How many rows of a calibration are looked at at all. */
int64_t most_samples(const struct calibration *k);

#endif
