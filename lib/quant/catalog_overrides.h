/* `configure --model --captions ...`: other models and data than the catalog's. */
#ifndef QUERN_QUANT_CATALOG_OVERRIDES_H
#define QUERN_QUANT_CATALOG_OVERRIDES_H

#include "lib/quant/catalog.h"

/* Replaces models, calibration data and evaluation data by those that are named; they
 * are no stand-ins any more. */
bool catalog_override(struct catalog *c, const struct catalog_overrides *o, error *err);

#endif
