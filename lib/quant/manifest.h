/* The manifests of a baseline and of the schemes cut from it. Field names are those
 * of the ModelOpt drivers' manifests, with additions: model and calibration with
 * their stand-in marks, coverage asked and delivered, provenance. */
#ifndef QUERN_QUANT_MANIFEST_H
#define QUERN_QUANT_MANIFEST_H

#include "lib/base/error.h"
#include "lib/base/text.h"
#include "lib/quant/ranking.h"
#include "lib/quant/slice.h"

/* <file_name>_quant_manifest.json of the baseline: every group in its format. */
bool print_baseline_manifest(const struct ranking *r, text *out, error *err);

/* <file_name>_autoquant_state.json: all candidate statistics, block by block, and
 * the calibration: enough to solve again for other bits. */
bool print_state(const struct ranking *r, text *out, error *err);

/* per-layer-sensitivity.md and .json, most sensitive first. */
bool print_sensitivity_table(const struct ranking *r, text *out, error *err);
bool print_sensitivity_json(const struct ranking *r, text *out, error *err);

/* A scheme's own manifest: the baseline's, with what the coverage changes. `scheme`
 * is the name it carries. */
bool print_scheme_manifest(const struct baseline *b, const struct coverage *c,
                           const char *scheme, text *out, error *err);

#endif
