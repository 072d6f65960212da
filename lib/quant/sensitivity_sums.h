/* Sensitivity added up the ways a person looks for: by block, by kind of layer, vision
 * against language. Part of the per-layer tables. */
#ifndef QUERN_QUANT_SENSITIVITY_SUMS_H
#define QUERN_QUANT_SENSITIVITY_SUMS_H

#include "lib/base/json_tree.h"
#include "lib/quant/manifest.h"

/* Appends tables "By tower", "By kind" and "By block", each in model order. */
bool print_sums_table(const struct ranking *r, text *out, error *err);

/* Adds "by_tower", "by_kind" and "by_block" to the root. */
bool add_sums(struct json_tree *tree, const struct ranking *r, error *err);

#endif
