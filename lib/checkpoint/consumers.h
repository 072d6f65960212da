/* What the programs that load a checkpoint make of its quantization configs.
 *
 * Each program has its own module tree, its own fused layers and its own idea of
 * what an entry of an ignore list matches, and a layer that it takes for the other
 * precision mostly loads without a word and answers nonsense. So their rules stand
 * here as code, and `verify` asks them about every linear of every checkpoint.
 *
 * Rules as of vLLM 0.32.0, SGLang 0.5.23, compressed-tensors 0.17.0 and 0.20.0 under
 * transformers 5.17.0, and TensorRT-LLM's main branch of 2026 (model_config.py at
 * 008e0af). */
#ifndef QUERN_CHECKPOINT_CONSUMERS_H
#define QUERN_CHECKPOINT_CONSUMERS_H

#include <stdbool.h>

#include "lib/base/error.h"
#include "lib/base/json.h"
#include "lib/base/text.h"
#include "lib/checkpoint/fused.h"
#include "lib/checkpoint/names.h"
#include "lib/checkpoint/profile.h"

/* A program, and the language it reads. */
enum consumer {
	CONSUMER_VLLM_MODELOPT, CONSUMER_VLLM_COMPRESSED,
	CONSUMER_SGLANG_MODELOPT, CONSUMER_SGLANG_COMPRESSED,
	CONSUMER_TENSORRT_LLM, /* ModelOpt's */
	CONSUMER_TRANSFORMERS, /* compressed-tensors */
	CONSUMER_COUNT
};

const char *consumer_name(enum consumer c);    /* "vLLM (modelopt)" */
const char *consumer_program(enum consumer c); /* "vllm", the program alone */

/* The programs as people are told them. */
#define PROGRAM_NAMES "vllm, sglang, tensorrt-llm or transformers"

/* The lists of one checkpoint, as each consumer has rewritten them. */
struct consumer_rules;

/* Reads config.json and hf_quant_config.json (NULL: there is none), of which
 * nothing is kept. ModelOpt's form is taken from config.json where that speaks it,
 * else from hf_quant_config.json (where vLLM and SGLang look when config.json has no
 * quantization_config); TensorRT-LLM looks at hf_quant_config.json first. Only what
 * quern writes is read; anything else is an EXIT_BAD_INPUT that names the place. */
bool consumer_open(struct consumer_rules **rules, const json_doc *config,
                   const json_doc *hf_quant_config, error *err);
void consumer_close(struct consumer_rules *rules); /* NULL is let pass */

/* Whether the files say anything in the language of this consumer, and in formats that
 * it knows by that language. */
bool consumer_reads(const struct consumer_rules *rules, enum consumer c);

/* Whether that is the language which the program takes from these files when nobody
 * tells it another: that of config.json where it has one. */
bool consumer_chooses(const struct consumer_rules *rules, enum consumer c);

/* What a consumer makes of a linear, and by what rule. Texts are the rules' own. */
struct explanation {
	const struct linear_form *form; /* NULL: as it is in the base model */
	char built[NAME_BYTES];   /* the module it builds, in its tree, fused */
	char shards[MAX_SHARDS][NAME_BYTES]; /* [shard_count] what it looks for in the lists beside that */
	int shard_count;
	const char *entry; /* that decided, as the file has it; NULL: none does */
	const char *how;   /* it matches: "equals"; NULL with entry */
	const char *rule;  /* "file, function" of the program */
};

bool consumer_explain(const struct consumer_rules *rules, enum consumer c,
                      const char *module, struct explanation *out, error *err);

/* Whether that is what was decided, as far as the consumer's language tells; and what
 * that language calls a form: "FP8", "INT8 by channel", "NVFP4", "BF16". */
bool consumer_agrees(enum consumer c, const struct linear_form *form,
                     const struct module_decision *module);
void consumer_spells(char out[64], enum consumer c, const struct linear_form *form);

/* In which form the consumer builds this linear (quern's name), NULL for as it is in the
 * base model, and, appended to *why (may be NULL), which entry decided. The form lives
 * with the rules and has what the consumer's language says. Fails with EXIT_BAD_INPUT where the
 * consumer itself would refuse to load (a partly quantised fused layer) or finds
 * nothing in its language. A tied lm_head is asked about as if it were a linear. */
bool consumer_decision(const struct consumer_rules *rules, enum consumer c,
                       const char *module, const struct linear_form **form, text *why,
                       error *err);

/* The same by the letter of a profile's configs, whatever anybody can take: as
 * transformers reads the universal ones and TensorRT-LLM ModelOpt's. */
bool consumer_statement(const struct consumer_rules *rules, enum profile profile,
                        const char *module, const struct linear_form **form, error *err);

/* False where a consumer builds a linear in BF16 whatever the files say, so that
 * codes there are lost on it: TensorRT-LLM's whole vision tower, lm_head for
 * those that take "Linear" literally, and everybody's visual.patch_embed.proj. */
bool consumer_takes_codes(enum consumer c, const char *module);

/* Asks about every module. Fails at the first one that the consumer would build
 * otherwise than decided, naming it and the entry; quantised modules that it cannot
 * take at all are no mistake in the files, and only counted, in *lost. */
bool consumer_check(const struct consumer_rules *rules, enum consumer c,
                    const struct module_decision *modules, int count, int *lost,
                    error *err);

#endif
