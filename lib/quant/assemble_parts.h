/* What the files assemble*.c share: an export in the making. */
#ifndef QUERN_QUANT_ASSEMBLE_PARTS_H
#define QUERN_QUANT_ASSEMBLE_PARTS_H

#include "lib/quant/amax_file.h"
#include "lib/quant/assemble.h"
#include "lib/quant/selection.h"
#include "lib/quant/variants.h"

/* An object of the store whose tensors belong to the checkpoint. */
struct piece {
	const char *name; /* of its file, where it is linked */
	struct output object;
	struct safetensors file; /* open */
};

struct builder {
	const struct assembly *a;
	struct described described;
	struct selection selection;
	struct variant_set *sets; /* [set_count], one a format */
	int set_count;
	struct amax_table amax;
	struct model_config config;
	struct linear_shape *linears;
	int linear_count;
	struct module_decision *decisions; /* [linear_count] */
	json_doc base_config;
	struct checkpoint_draft to;
	struct json_tree index; /* model.safetensors.index.json */
	cJSON *weight_map;
	double total_bytes; /* of tensors */
	struct piece *pieces; /* [sets[0].count + 1] */
	int piece_count;
	struct safetensors *norm_files; /* [norm_file_count] open */
	int norm_file_count;
	struct tensor *norms; /* those before groups, where some format has channel scales */
	size_t norm_count;
	struct tensor *scales; /* at most two a linear and two a layer; data in scale_bytes */
	size_t scale_count;
	text scale_bytes;
	arena memory;
};

/* ---- assemble_weights.c ---- */

/* Chooses a piece for every group, opens them all, and lists norms that have no piece, and
 * scales. */
bool choose_weights(struct builder *b, error *err);
void close_pieces(struct builder *b);

/* ---- assemble_layout.c ---- */

/* Puts pieces, norms and scales into the draft, and their tensors into the index. */
bool lay_out_weights(struct builder *b, error *err);

#endif
