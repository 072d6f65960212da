/* The files of a model folder, sorted into what they decide. */
#ifndef QUERN_CHECKPOINT_MODEL_FILES_H
#define QUERN_CHECKPOINT_MODEL_FILES_H

#include "lib/base/arena.h"
#include "lib/base/error.h"

/* FILES_WEIGHTS: config.json, the safetensors and their index: the numbers.
 * FILES_TOKENS: what turns captions and images into model inputs.
 * FILES_TEXTS: everything but the weights, the tokens' files included: what a
 *   checkpoint copies byte for byte (config.json is written anew). */
enum file_class { FILES_WEIGHTS, FILES_TOKENS, FILES_TEXTS };

struct file_names {
	const char **names; /* relative to the folder, sorted; in `memory` */
	int count;
};

/* Regular files directly in the folder; hidden ones and other weights formats
 * (*.bin, *.pt, *.pth, *.gguf) are left out. */
bool list_model_files(const char *folder, enum file_class class, arena *memory,
                      struct file_names *out, error *err);

#endif
