/* The two quantization configs of an exported checkpoint: `quantization_config`
 * inside config.json, and hf_quant_config.json.
 *
 * Both say the same thing, which linears are in which numbers and which are left
 * alone, in one of two languages; which file a reader looks at, and which language
 * it knows, is in consumers.h. Readers disagree about names (module trees, fused
 * layers, wildcards), so each list is worded to mean the same to all of them. */
#ifndef QUERN_CHECKPOINT_PROFILE_H
#define QUERN_CHECKPOINT_PROFILE_H

#include <stdbool.h>

#include "lib/base/error.h"
#include "lib/base/json.h"
#include "lib/base/text.h"
#include "lib/checkpoint/form.h"
#include "lib/checkpoint/names.h"
#include "lib/checkpoint/safetensors.h"

/* PROFILE_UNIVERSAL: config.json speaks compressed-tensors, hf_quant_config.json
 *   ModelOpt: transformers, vLLM, SGLang and TensorRT-LLM each find their own.
 * PROFILE_MODELOPT: both files speak ModelOpt, with identical lists, for readers
 *   that insist.
 * PROFILE_BF16: no quantization config and no scales: the weights that the others
 *   hold as codes are there as the BF16 numbers that come back of them, for whatever
 *   loads the base model. */
enum profile { PROFILE_UNIVERSAL, PROFILE_MODELOPT, PROFILE_BF16, PROFILE_COUNT };

const char *profile_name(enum profile p); /* "universal", "modelopt", "bf16" */
bool profile_from_name(const char *name, enum profile *out);

/* The names as people are told them: "universal, modelopt or bf16". */
#define PROFILE_NAMES "universal, modelopt or bf16"

/* False of PROFILE_BF16: weights are codes with scales, and configs say so. */
bool profile_is_quantised(enum profile p);

/* Of a quantised profile, how weight_scale and input_scale of FP8 are stored: BF16 [1]
 * (transformers computes in the dtype of the scales it loads) or F32 [] (what ModelOpt
 * writes). */
enum dtype profile_scale_dtype(enum profile p);
int profile_scale_rank(enum profile p); /* every side is 1 */

/* What a text layer's key/value cache is multiplied by on its way out: hub name of the
 * scale of its keys or its values, dtype and shape as above. compressed-tensors has it at
 * the attention ("....self_attn.k_scale"), ModelOpt at the projection
 * ("....self_attn.k_proj.k_scale"). */
void profile_cache_scale_name(enum profile p, int layer, bool values, char out[NAME_BYTES]);

/* One linear of the model and what its weights are in this checkpoint. */
struct module_decision {
	const char *name; /* quern's: "language_model.layers.3.self_attn.q_proj" */
	bool quantised;
	const struct linear_form *form; /* in what, if it is quantised; never NULL */
};

/* Both take every linear of the model in module order (the order of list_linears)
 * and append to *out; equal decisions give equal bytes. A split fused layer, and a
 * quantised visual.patch_embed.proj or lm_head, is EXIT_INTERNAL: no reader could
 * load that. fp8_cache: the checkpoint has scales of an FP8 key/value cache, which a
 * server then uses unless told otherwise.
 *
 * print_config: the text of base_config as it is, byte for byte, with
 * quantization_config replaced where it stands or added at the end. Numbers keep
 * their spelling: "0.0" must not become "0", which Python takes for an integer. Of a
 * profile that is not quantised, base_config itself, which must have no
 * quantization_config. */
bool print_config(enum profile p, const json_doc *base_config,
                  const struct module_decision *modules, int count, bool fp8_cache,
                  text *out, error *err);

/* ModelOpt's nested shape. A folder whose tensors are not those that this language means
 * has no such file: a universal one in most formats, and the BF16 twin. */
bool profile_has_hf_quant_config(enum profile p, const struct module_decision *modules,
                                 int count);
bool print_hf_quant_config(const struct module_decision *modules, int count,
                           bool fp8_cache, text *out, error *err);

#endif
