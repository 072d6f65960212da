/* Costs other than bits: what each group takes in each format, measured by whoever
 * wants a budget in seconds or bytes.
 *
 *   { "unit": "seconds",
 *     "groups": { "language_model.layers.0.self_attn.q_proj": {
 *                   "FP8_DEFAULT_CFG": 0.0011, "NONE": 0.0019 }, ... } }
 *
 * Group names with or without ".quant_recipe", formats without their bits. */
#ifndef QUERN_QUANT_COST_TABLE_H
#define QUERN_QUANT_COST_TABLE_H

#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/quant/baseline.h"

struct cost_table {
	const char *unit;
	double (*costs)[MAX_FORMATS]; /* [group][format] of the baseline */
	arena memory;
};

/* Every candidate of every group must have its cost, finite and >= 0. */
bool cost_table_read(struct cost_table *t, const struct baseline *b, const char *path,
                     error *err);
void cost_table_free(struct cost_table *t);

#endif
