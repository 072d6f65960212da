/* What a quant manifest says its numbers are, under `provenance`: one place for all who
 * compute from a manifest what was scored and shipped. */
#ifndef QUERN_QUANT_PROVENANCE_H
#define QUERN_QUANT_PROVENANCE_H

#include "lib/base/json.h"
#include "lib/quant/formats/format.h"

struct provenance {
	enum numerics numerics;
	bool shared_scales; /* a group's members have one weight scale */
};

/* A manifest that has no such section is in quern's numerics, with shared scales. */
bool provenance_read(struct provenance *p, const json_doc *manifest, error *err);

/* The format that the manifest calls so: "FP8_DEFAULT_CFG(effective-bits: 8.0)". NULL, with
 * the error filled, when it does not say what that is. */
const struct format *provenance_format(const json_doc *manifest, const char *name,
                                       error *err);

#endif
