/* The two spellings of a module's name, in one place.
 *
 * Manifests and everything inside quern call modules `visual.…`,
 * `language_model.layers.N.…` and `lm_head`; the released files ("hub names")
 * call them `visual.…`, `model.layers.N.…` and `lm_head`; ModelOpt and
 * transformers, in memory, `model.visual.…` and `model.language_model.…`. */
#ifndef QUERN_CHECKPOINT_NAMES_H
#define QUERN_CHECKPOINT_NAMES_H

#include <stddef.h>

enum { NAME_BYTES = 256 };

/* Names of modules and of their tensors alike; of a name too long for out, the
 * front.
 *
 * quern's name -> hub name ("language_model.layers.0.x" -> "model.layers.0.x"). */
void name_to_hub(const char *module, char out[NAME_BYTES]);

/* Any of the three spellings -> quern's. */
void name_from_any(const char *name, char out[NAME_BYTES]);

#endif
