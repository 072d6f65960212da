/* The linears of a Qwen2.5-VL of any depth, and what a checkpoint decides about
 * them. Everything here fails the test when it cannot do its work. */
#ifndef QUERN_TESTS_SUPPORT_DECISIONS_H
#define QUERN_TESTS_SUPPORT_DECISIONS_H

#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/json.h"
#include "lib/checkpoint/profile.h"

struct decisions {
	struct module_decision *modules; /* in module order */
	int count;
	arena memory;
};

/* All BF16; what decide() quantises is in per-tensor FP8. */
void decisions_make(struct decisions *d, int vision_blocks, int text_layers);
void decisions_free(struct decisions *d);

/* Decides about all linears that a glob matches; visual.patch_embed.proj and lm_head
 * stay BF16 always. */
void decide(struct decisions *d, const char *glob, bool quantised);

/* The same, in a format by the words of the catalog; decide() does not change which. */
void decide_form(struct decisions *d, const char *glob, const char *element,
                 const char *granularity);

/* Each fused layer and each other linear is FP8 with this probability. */
void decide_by_chance(struct decisions *d, int percent, uint32_t seed);

/* The two files of a checkpoint; the second may be none (root NULL). */
struct config_files {
	json_doc config, hf_quant_config;
};

/* As a profile writes them for these decisions. */
void write_configs(struct config_files *files, enum profile profile,
                   const struct decisions *d);
void free_configs(struct config_files *files);

/* Parses printf output. */
void parse_json(json_doc *doc, const char *name, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
