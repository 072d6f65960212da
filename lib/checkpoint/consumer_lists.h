/* Ignore lists as the consumers hold them: what the consumer*.c files share among
 * themselves and with nobody else. */
#ifndef QUERN_CHECKPOINT_CONSUMER_LISTS_H
#define QUERN_CHECKPOINT_CONSUMER_LISTS_H

#include <regex.h>

#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/base/json.h"
#include "lib/checkpoint/form.h"
#include "lib/checkpoint/fused.h"
#include "lib/checkpoint/names.h"

/* ---- what the files say ---- */

enum { MAX_STATED = 8 }; /* forms in one checkpoint */

/* Linears in one form. */
struct stated_group {
	struct linear_form form; /* of ModelOpt's language: algorithm and group size alone */
	const cJSON *targets;    /* names and patterns; NULL: all that is not ignored */
	cJSON *owned;            /* targets, where no file has them as an array */
};

/* A config in one file. */
struct statement {
	const json_doc *doc;  /* NULL: there is none */
	const cJSON *ignores; /* NULL: nothing */
	struct stated_group groups[MAX_STATED];
	int group_count;
};

struct statements {
	struct statement inline_modelopt, file_modelopt, compressed;
};

/* hf_quant_config may be NULL. Texts go into memory; the rest points into the docs. To
 * be freed after a failure too. */
bool statements_read(struct statements *all, const json_doc *config,
                     const json_doc *hf_quant_config, arena *memory, error *err);
void statements_free(struct statements *all);

/* ---- what a program makes of it ---- */

enum program {
	PROGRAM_VLLM, PROGRAM_SGLANG, PROGRAM_TENSORRT_LLM, PROGRAM_TRANSFORMERS
};

/* What a program builds for a linear. */
struct built_module {
	const char *consumer;  /* for errors: "vLLM (modelopt)" */
	char name[NAME_BYTES]; /* in the program's tree, fused: "....qkv_proj" */
	char shards[MAX_SHARDS][NAME_BYTES]; /* the linears it looks for in the lists */
	int shard_count;       /* 0: not fused */
};

struct list_entry {
	const char *written; /* in the file */
	const char *text;    /* as the program has rewritten it */
	size_t length;       /* of text */
	bool wild;           /* ModelOpt: it has a '*' */
	regex_t *regex;      /* compressed-tensors: compiled from "re:...", or NULL */
};

struct entry_list {
	struct list_entry *entries;
	int count;
};

/* Which entry matched, in which way, and by which function of the program, "file,
 * function"; entry NULL: none did, and the function is the last that was asked. */
struct entry_match {
	const struct list_entry *entry;
	const char *how; /* "equals", "as a wildcard covers" */
	const char *rule;
	bool failed;     /* an expression could not be asked, for lack of memory */
};

/* `module` is quern's name of a linear; anything else is EXIT_INTERNAL. modelopt:
 * the list is in that language. Leaves built->consumer to the caller. */
bool build_module(enum program program, bool modelopt, const char *module,
                  struct built_module *built, error *err);

/* A copy of name with the prefixes of hub and in-memory names replaced by those of
 * the trees of vLLM and SGLang. */
char *map_hub_prefix(const char *name, arena *memory, error *err);

/* SGLang's mapper: "attn.qkv" becomes "attn.qkv_proj", then as map_hub_prefix. */
char *map_sglang_name(const char *name, arena *memory, error *err);

/* The consumer's own error for a fused layer of which some shards are excluded. */
bool fail_split(const struct built_module *built, error *err);

/* Reads an array of doc as `program` does. The entries live in `memory`. */
bool read_exclude_list(struct entry_list *list, enum program program,
                       const json_doc *doc, const cJSON *array, arena *memory,
                       error *err);
bool read_ignore_list(struct entry_list *list, enum program program,
                      const json_doc *doc, const cJSON *array, arena *memory,
                      error *err);

/* Whether the list keeps the module out of quantisation, and by which entry. */
bool match_excludes(const struct entry_list *list, enum program program,
                    const struct built_module *built, struct entry_match *match,
                    error *err);
bool match_ignores(const struct entry_list *list, enum program program,
                   const struct built_module *built, struct entry_match *match,
                   error *err);

/* Whether the list names the module for a group of linears in one form: itself, or all
 * shards of it. */
bool match_targets(const struct entry_list *list, enum program program,
                   const struct built_module *built, struct entry_match *match,
                   error *err);

/* Frees what the entries hold outside their arena. */
void free_list(struct entry_list *list);

#endif
