/* From the blocks that score wrote to a ranked baseline: members added up to groups,
 * formats side by side, groups in order of what they mind. */
#ifndef QUERN_QUANT_RANKING_H
#define QUERN_QUANT_RANKING_H

#include "lib/quant/amax_file.h"
#include "lib/quant/baseline.h"
#include "lib/quant/block_file.h"
#include "lib/quant/formats/format.h"

/* What a baseline's manifests say besides the scores. */
struct baseline_facts {
	const char *file_name, *model_name, *data_name, *prompt;
	const char *numerics;
	bool shared_scales, model_stand_in, data_stand_in;
};

/* The scores of one candidate format. */
struct scored_format {
	struct part_format part;
	const struct format *format;
	const char *name; /* as manifests have it: "FP8_DEFAULT_CFG(effective-bits: 8.0)" */
	struct block_list blocks; /* in order */
	struct block merged;      /* of those */
};

/* Everything rank knows. */
struct ranking {
	const struct baseline_facts *facts;
	const struct linear_shape *linears;
	const struct amax_table *amax;
	enum block_kind kind;
	struct scored_format *formats; /* fewest bits first, then by name */
	int format_count;
	struct group_list groups; /* those with a score in any format */
	struct baseline baseline; /* the same groups */
	arena memory;
};

/* Reads the parts, of any number of formats but one kind, and ranks the groups of
 * `all` that they have scores of. Under numerics modelopt a format's score is lowered
 * to that of a format with fewer bits, as ModelOpt does. */
bool ranking_read(struct ranking *r, const struct baseline_facts *facts,
                  const struct linear_shape *linears, const struct group_list *all,
                  const struct amax_table *amax, const char *const *paths, int path_count,
                  error *err);

/* The same from a quant manifest that another run made, quern's or ModelOpt's: its
 * groups must be the model's, with candidates of the format's bits. There are no blocks. */
bool ranking_import(struct ranking *r, const struct baseline_facts *facts,
                    const struct linear_shape *linears, const struct group_list *all,
                    const struct amax_table *amax, const char *path,
                    const struct format *format, error *err);
void ranking_free(struct ranking *r);

/* The group's score in a block, members added in module order; -1 if one of them was
 * not measured. */
double group_score(const struct ranking *r, const struct group *group,
                   const struct block *b);

#endif
