/* From a ranking and a rule to the groups that keep their format.
 *
 * Slicing replaces one search per scheme: calibration and scoring run with
 * quantisation off, so a search with the dropped layers disabled gives the same
 * amax, codes and scales for the selected ones. */
#ifndef QUERN_QUANT_SLICE_H
#define QUERN_QUANT_SLICE_H

#include "lib/quant/baseline.h"

/* RULE_FULL keeps every group; RULE_TOP_PERCENT the max(1, ceil(percent/100 * N))
 * least sensitive of the N that are candidates. */
enum rule_kind { RULE_FULL, RULE_TOP_PERCENT };

struct rule {
	enum rule_kind kind;
	double percent; /* (0, 100]; for RULE_TOP_PERCENT */
};

/* What a scheme does with every group of its baseline. */
struct coverage {
	const char *scheme;
	struct rule rule;
	int total;    /* groups of the baseline */
	int asked;    /* groups the rule selects */
	int selected; /* of those, the ones that can be exported */
	int *order;   /* group indices: `selected` ones first, then the dropped ones,
	                 each part least sensitive first */
	bool *keeps;  /* [group]: in the selected part */
	double delivered_bits; /* 16 * cost of what is delivered / cost of NONE */
	double asked_bits;     /* the same, were everything the rule selects exported */
	arena memory;
};

/* Groups whose kind no consumer can load (see group.exportable) are dropped even
 * where the rule selects them. */
bool slice_baseline(struct coverage *c, const struct baseline *b, const char *scheme,
                    const struct rule *rule, error *err);
void coverage_free(struct coverage *c);

/* <scheme>_coverage_from_baseline.json. `baseline_folder` is the name of the
 * baseline's checkpoint folder, `manifest_file` that of its manifest inside
 * layer-sensitivity/. */
bool print_coverage(const struct coverage *c, const struct baseline *b,
                    const char *baseline_folder, const char *manifest_file, text *out,
                    error *err);

/* Reads a coverage manifest (quern's or the original drivers', who also selected
 * what no consumer can load: it is dropped here) against the baseline it was cut
 * from: the names must be the baseline's, each once. */
bool coverage_read(struct coverage *c, const struct baseline *b, const char *path,
                   error *err);

#endif
