/* What the two files of a source share: source.c and source_rows.c. */
#ifndef QUERN_QUANT_SOURCE_PARTS_H
#define QUERN_QUANT_SOURCE_PARTS_H

#include <stdint.h>

#include "lib/base/error.h"

/* Fails, naming the option, unless low <= value <= high. */
bool check_range(const char *option, int64_t value, int64_t low, int64_t high, error *err);

#endif
