/* `configure --set path.to.field=value`: a changed copy of the catalog. */
#ifndef QUERN_QUANT_CATALOG_SET_H
#define QUERN_QUANT_CATALOG_SET_H

#include "lib/quant/catalog.h"

/* Applies every "path=value" to a copy of c's document and parses the result into
 * *changed. The value is JSON, or else text. A scheme that a family made can be
 * named like any other: it then leaves the family and stands by itself. A path
 * must lead to a field whose parent exists. On failure *changed is empty. */
bool catalog_apply_sets(const struct catalog *c, const struct option_list *sets,
                        json_doc *changed, error *err);

#endif
