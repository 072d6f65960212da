/* README.md of a checkpoint: what it is, what it was made from, how to load it. */
#ifndef QUERN_QUANT_MODEL_CARD_H
#define QUERN_QUANT_MODEL_CARD_H

#include "lib/base/error.h"
#include "lib/artifact/digest.h"
#include "lib/base/text.h"
#include "lib/checkpoint/profile.h"
#include "lib/quant/slice.h"

struct card_facts {
	const char *scheme;
	const char *file_name; /* what its manifests are called */
	enum profile profile;
	const char *elements; /* of the numbers: "FP8", "FP8 and NVFP4" */
	bool bilingual;       /* the tensors are the same in both languages */
	bool folded;          /* norms have channel scales of weights folded in */
	const char *model; /* the base checkpoint's folder, for its licence */
	const struct baseline *baseline;
	const struct coverage *coverage;
	const struct digest *list; /* of its list of files */
};

bool print_model_card(const struct card_facts *f, text *out, error *err);

/* The card at `path` with its section on damage made anew from damage[count], what evaluate
 * wrote of the scheme's baseline. */
bool complete_card(const char *path, const char *scheme, const json_doc *damage, int count,
                   text *out, error *err);

#endif
