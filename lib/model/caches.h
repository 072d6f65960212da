/* The key/value cache of the language model, as calibration and manifests name its
 * parts: keys (after the rotary embedding) and values of each text layer, each a part
 * of its own. Vision attention keeps no cache.
 *
 * Part 2 n is the keys of layer n, part 2 n + 1 its values. */
#ifndef QUERN_MODEL_CACHES_H
#define QUERN_MODEL_CACHES_H

#include "lib/checkpoint/config.h"
#include "lib/checkpoint/names.h"

int count_caches(const struct model_config *config);

/* "language_model.layers.3.self_attn.k_cache", "....v_cache" */
void name_cache(int cache, char out[NAME_BYTES]);

/* The part of that name, or -1 if there is none. */
int find_cache(const char *name);

#endif
