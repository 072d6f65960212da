/* The config.json of a Qwen2.5-VL checkpoint: the shapes that everything else
 * is built from. Nothing in quern is fixed to one model size. */
#ifndef QUERN_CHECKPOINT_CONFIG_H
#define QUERN_CHECKPOINT_CONFIG_H

#include <stdint.h>

#include "lib/base/error.h"

enum { MAX_VISION_DEPTH = 256, MAX_TEXT_LAYERS = 512 };

struct vision_config {
	int depth, hidden, intermediate, heads, head_dim;
	int channels, patch, temporal_patch; /* a patch row: channels*temporal*patch*patch */
	int patch_values;                    /* that product, 1176 as released */
	int merge;                           /* merge x merge patches make one token */
	int window;                          /* pixels a side, 112 */
	int out_hidden;                      /* == text hidden */
	bool full_attention[MAX_VISION_DEPTH];
};

struct text_config {
	int layers, hidden, intermediate, heads, kv_heads, head_dim, vocab;
	float rms_eps;
	double rope_theta;
	int mrope_section[3]; /* t, h, w; sums to head_dim / 2 */
	bool tied_head;       /* no lm_head.weight: the embedding serves */
};

struct model_config {
	struct vision_config vision;
	struct text_config text;
	int64_t image_token, vision_start_token, vision_end_token;
	int64_t end_of_turn_token; /* config.json's eos_token_id */
};

/* Reads folder/config.json. Accepts the flat form of the release and the form
 * with a text_config section (text_config and rope_parameters / rope_scaling);
 * where both give a field, text_config's is the one, as in transformers.
 * Every field it needs must be there, of the right type, within sane bounds, and
 * consistent (head_dim even, hidden % heads == 0, mrope sum, ...); the error names
 * file, line, column and field. Only tie_word_embeddings has a default, false. A
 * config that asks for what quern does not compute (another activation, sliding
 * window attention in the text model, scaled rotary positions) is refused. */
bool model_config_load(struct model_config *config, const char *folder, error *err);

#endif
