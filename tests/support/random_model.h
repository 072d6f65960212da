/* Checkpoints of any shape with random weights, for tests.
 *
 * The demo model is one shape; code that must work for every Qwen2.5-VL needs
 * others: a head of its own, other head counts, windows, shards, odd sizes. A
 * model of these is as small as the test wants and the same bytes from the same
 * seed on every machine. */
#ifndef QUERN_TESTS_SUPPORT_RANDOM_MODEL_H
#define QUERN_TESTS_SUPPORT_RANDOM_MODEL_H

#include <stdint.h>

#include "lib/base/error.h"
#include "lib/checkpoint/config.h"

struct random_model {
	/* What model_config_load will give for the folder. Derived by
	 * random_model_write, whatever they hold: both head_dims, patch_values,
	 * out_hidden, and mrope_section if all three are 0 (1/4, 3/8, 3/8 of
	 * head_dim / 2, as in the released models). vocab must be at least 4224, for
	 * the demo's tokenizer; the token ids are that tokenizer's. */
	struct model_config config;
	uint64_t seed;
	int shards; /* 1: model.safetensors; more: an index and that many shards */
};

/* A valid, tiny start (2 vision blocks, the second with full attention, 2 text
 * layers, tied head, 1 shard, 32 wide) to change fields of. */
struct random_model random_model_tiny(void);

/* Writes config.json, the weights under their released names (BF16; linears
 * about N(0, 0.64 / in), biases N(0, 0.05^2), norms 1 + N(0, 0.05^2)), copies of the
 * demo's tokenizer, chat template and generation files, and its
 * preprocessor_config.json with this model's patch sizes. The folder must exist;
 * the working directory must be the repository's root. *m gets the derived
 * fields. */
bool random_model_write(struct random_model *m, const char *folder, error *err);

#endif
