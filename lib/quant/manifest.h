/* The manifests of a baseline and of the schemes cut from it. Field names are those
 * of the ModelOpt drivers' manifests, with additions: model and calibration with
 * their stand-in marks, coverage asked and delivered, provenance. */
#ifndef QUERN_QUANT_MANIFEST_H
#define QUERN_QUANT_MANIFEST_H

#include "lib/base/error.h"
#include "lib/base/text.h"
#include "lib/model/linears.h"
#include "lib/quant/amax_file.h"
#include "lib/quant/baseline.h"
#include "lib/quant/block_file.h"
#include "lib/quant/groups.h"
#include "lib/quant/slice.h"

/* What a baseline's manifests say besides the scores. */
struct baseline_facts {
	const char *file_name, *model_name, *data_name, *method, *prompt, *format;
	const char *numerics;
	bool shared_scales, model_stand_in, data_stand_in;
};

/* Everything rank knows. */
struct ranking {
	const struct baseline_facts *facts;
	const struct linear_shape *linears;
	const struct group_list *groups;
	const struct amax_table *amax;
	const struct block_list *blocks; /* of scores, in order */
	const struct block *merged;      /* of those */
	struct baseline baseline;        /* made by ranking_make */
};

/* Adds members' scores up to groups and ranks them. */
bool ranking_make(struct ranking *r, error *err);
void ranking_free(struct ranking *r);

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
