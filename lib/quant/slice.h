/* From a ranking and a rule to the groups that keep their format.
 *
 * Slicing replaces one search per scheme: calibration and scoring run with
 * quantisation off, so a search with the dropped layers disabled gives the same
 * amax, codes and scales for the selected ones. */
#ifndef QUERN_QUANT_SLICE_H
#define QUERN_QUANT_SLICE_H

#include "lib/quant/baseline.h"
#include "lib/quant/kv_format.h"

/* Which groups keep what the search gave them: all of them, the
 * max(1, ceil(percent/100 * N)) least sensitive ones, those in as many of the
 * transformer blocks as have the least summed score (what is in no block is left
 * alone), those that a glob names, or those that a coverage manifest selects. */
enum rule_kind { RULE_FULL, RULE_TOP_PERCENT, RULE_TOP_BLOCKS, RULE_LIST, RULE_MANIFEST };

/* fnmatch patterns on a group's name without ".quant_recipe". */
struct globs {
	const char **values;
	int count;
};

bool glob_matches(const char *glob, const char *group);

struct rule {
	enum rule_kind kind;
	double percent; /* (0, 100]; of RULE_TOP_PERCENT and RULE_TOP_BLOCKS */
	/* Budget of the search, in (0, 16]; 0: no search, every group gets its format of
	 * fewest bits. */
	double bits;
	/* A budget in the unit of a cost table (its path) in place of bits; 0: none. */
	double budget;
	const char *costs;
	struct globs groups;   /* of RULE_LIST */
	const char *manifest;  /* of RULE_MANIFEST: a coverage manifest's path */
	struct globs pin_bf16; /* stay as they are, whatever the rest says */
	struct globs pin_quantised; /* get their format of fewest bits, the same */
	struct globs cost_exclude;  /* count nothing in bits */
};

/* How manifests call a kind of rule: "full", "top_percent", "top_k_blocks", "list",
 * "manifest". */
const char *rule_kind_name(enum rule_kind kind);

/* One transformer block, for schemes that select whole blocks. */
struct scored_block {
	char name[NAME_BYTES]; /* "language_model.layers.3" */
	double score;          /* of its groups together */
	int rank;              /* 1: the least */
	bool selected;
};

/* What a scheme does with every group of its baseline. */
struct coverage {
	const char *scheme;
	struct rule rule;
	struct kv_format kv_cache; /* what the scheme keeps the key/value cache in */
	int total;    /* groups of the baseline */
	int asked;    /* groups the rule selects */
	int selected; /* of those, the ones that can be exported */
	int *order;   /* group indices: `selected` ones first, then the dropped ones,
	                 each part least sensitive first */
	bool *wanted; /* [group]: the rule selects it */
	bool *keeps;  /* [group]: in the selected part */
	int *choice;  /* [group]: index of its format if it keeps one */
	bool *free_of_cost; /* [group]: cost_exclude names it */
	double delivered_bits; /* 16 * cost of what is delivered / cost of NONE */
	double asked_bits;     /* the same, were everything the rule selects exported */
	double cost;           /* of a search over a cost table: what was chosen takes */
	const char *unit;      /* and in what; NULL otherwise */
	double gap;            /* of a search: score less proven bound; 0: optimal */
	struct scored_block *blocks; /* of RULE_TOP_BLOCKS, in module order */
	int block_count;
	arena memory;
};

/* Groups whose kind no consumer can load (see group.exportable) are dropped even
 * where the rule selects them. A budget that no choice meets is an error that names
 * the least reachable bits. */
bool slice_baseline(struct coverage *c, const struct baseline *b, const char *scheme,
                    const struct rule *rule, error *err);
void coverage_free(struct coverage *c);

/* For whoever fills a coverage otherwise: memory for all groups, none wanted; then,
 * from wanted, keeps and choice, the order, counts and bits. */
bool coverage_start(struct coverage *c, const struct baseline *b, const char *scheme,
                    const struct rule *rule, error *err);
void coverage_finish(struct coverage *c, const struct baseline *b);

/* What the rule says, or what it comes to: of a list or a manifest, the share of the
 * groups that it selects. */
double coverage_percent(const struct coverage *c);

/* Whether a group can keep a format at all: it has one, and is of a kind that can be
 * exported. */
bool can_keep(const struct scored_group *group);

/* <scheme>_coverage_from_baseline.json. `baseline_folder` is the name of the
 * baseline's checkpoint folder, `manifest_file` that of its manifest inside
 * layer-sensitivity/. */
bool print_coverage(const struct coverage *c, const struct baseline *b,
                    const char *baseline_folder, const char *manifest_file, text *out,
                    error *err);

/* The section `blocks` of a manifest, where the rule selects whole blocks. */
void add_coverage_blocks(struct json_tree *tree, const struct coverage *c);

/* Reads a coverage manifest (quern's or the original drivers', who also selected
 * what no consumer can load: it is dropped here) against the baseline it was cut
 * from: the names must be the baseline's, each once. */
bool coverage_read(struct coverage *c, const struct baseline *b, const char *path,
                   error *err);

#endif
