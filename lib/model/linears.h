/* The linear layers that a configuration implies, before any weight is read:
 * what groups, costs and the plan of a build are made from. */
#ifndef QUERN_MODEL_LINEARS_H
#define QUERN_MODEL_LINEARS_H

#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/checkpoint/config.h"
#include "lib/checkpoint/names.h"

/* y[rows][out] = x[rows][in] * W[out][in]^T (+ bias). */
struct linear_shape {
	char name[NAME_BYTES]; /* quern's name, without ".weight" */
	int out, in;
	bool bias;
};

/* All linears in module order: visual.patch_embed.proj (its kernel flattened to
 * [hidden][patch_values]), per vision block attn.qkv, attn.proj, mlp.gate_proj,
 * mlp.up_proj, mlp.down_proj, visual.merger.mlp.0 and .2, per text layer
 * self_attn.q_proj, k_proj, v_proj, o_proj, mlp.gate_proj, up_proj, down_proj,
 * and lm_head last. The array lives in `memory`. */
bool list_linears(const struct model_config *config, arena *memory,
                  struct linear_shape **out, int *count, error *err);

/* The norm (quern's name, without ".weight") whose output is the input of this linear and
 * of those that share its input, and of nothing else; false when there is none. The
 * merger's has fewer channels than the linear behind it, and the head stays as it is. */
bool norm_of_linear(const char *linear, char norm[NAME_BYTES]);

#endif
