/* Re-reads a published checkpoint and checks every promise it makes, from its bytes
 * alone and the base model's: nothing of the build is believed. */
#ifndef QUERN_QUANT_VERIFY_H
#define QUERN_QUANT_VERIFY_H

#include <stdint.h>

#include "lib/base/error.h"
#include "lib/checkpoint/consumers.h"

/* What was checked, for the report. */
struct verified {
	const char *profile, *layout;
	int files, tensors, groups_selected, groups_total;
	int cache_scales; /* of a key/value cache in FP8 */
	int quantised_linears; /* in the bf16 profile those that come back of codes */
	int64_t bytes;
	double bits;
	/* Quantised linears that a consumer keeps in BF16 whatever it is told; -1: it does not
	 * read this profile. */
	int lost[CONSUMER_COUNT];
};

/* Fails on the first broken promise, naming file and place. Changes nothing, but for the
 * date of a file whose bytes are not those listed. The promises:
 * - the files are exactly those of the list, each with its digest, and the model card,
 *   which names the digest of the list and carries its own;
 * - the tensors are the base's, byte for byte, but for the norms that a format with channel
 *   scales folds these into, whose scales its weights have, and the quantised weights, which
 *   have the tensors of their format in dtype and shape, no NaN code, finite scales
 *   above 0, and come back within half a step of the base (one under numerics modelopt);
 * - of the bf16 profile, those weights are to the bit what quantising the base's gives,
 *   and there are neither scales nor quantization configs;
 * - the files are shards within their limit, or scales have a file to themselves;
 * - no scale belongs to a layer that is not quantised, no fused group is split, and
 *   under the default numerics its members share their scales;
 * - manifest, coverage and tensors name the same layers in the same formats, selected and dropped
 *   groups are all groups, and the bits are as claimed;
 * - manifest, coverage and configurations say the same of the key/value cache, and where
 *   it is in FP8 every layer has the two scales that the calibration gives;
 * - both configurations decide for every linear, under every consumer's own rules,
 *   what the tensors are. */
bool verify_checkpoint(const char *folder, const char *model, struct verified *out,
                       error *err);

#endif
