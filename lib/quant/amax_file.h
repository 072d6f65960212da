/* amax.json: the calibration of a model, merged over all blocks: "amax" of the linears'
 * inputs, "kv_cache_amax" of the parts of the key/value cache. */
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
	float *cache; /* [cache_count] of the parts of the key/value cache */
	int cache_count; /* 0: they were not measured */
	arena memory;
};

/* What the parts of the key/value cache are listed under. */
#define AMAX_CACHE "kv_cache_amax"

/* The parts that a calibration or the state of a search lists, in their order; the
 * array lives in `memory`. */
bool read_cache_amax(const json_doc *doc, arena *memory, float **amax, int *count,
                     error *err);

/* Names must be those of `linears`, values finite and >= 0. */
bool amax_read(struct amax_table *table, const char *path,
               const struct linear_shape *linears, int count, error *err);
void amax_free(struct amax_table *table);

#endif
