/* amax.json: the calibration of a model, merged over all blocks. */
#ifndef QUERN_QUANT_AMAX_FILE_H
#define QUERN_QUANT_AMAX_FILE_H

#include "lib/base/error.h"
#include "lib/base/json.h"
#include "lib/base/text.h"
#include "lib/model/linears.h"
#include "lib/quant/block_file.h"

bool print_amax(const struct block *merged, text *out, error *err);

/* A calibration as read back. Linears that were not measured have amax -1. */
struct amax_table {
	json_doc doc; /* also holds key, samples, cut and skipped, for manifests */
	float *amax;  /* [linear_count] */
	arena memory;
};

/* Names must be those of `linears`, values finite and >= 0. */
bool amax_read(struct amax_table *table, const char *path,
               const struct linear_shape *linears, int count, error *err);
void amax_free(struct amax_table *table);

#endif
