/* What struct model keeps for itself: the towers' blocks and everything that is
 * no linear layer. Private to lib/model. */
#ifndef QUERN_MODEL_PARTS_H
#define QUERN_MODEL_PARTS_H

#include "lib/model/qwen.h"

/* One transformer block. Both towers' blocks are the same computation:
 *   middle = input + o(attention(rope(q, k), v)),  q, k, v of norm1(input)
 *   output = middle + down(silu(gate) * up),       gate, up of norm2(middle)
 * Members are indices of model->linears. */
struct block {
	char name[NAME_BYTES];
	const float *norm1, *norm2; /* [hidden] */
	int q, k, v;                /* the same linear three times in a fused tower */
	int o, gate, up, down;
	bool full_attention; /* not just within a window */
};

struct tower {
	struct block *blocks;
	int depth, hidden, intermediate, heads, kv_heads, head_dim;
	float eps;
	bool causal;
	bool fused; /* q, k and v come out of one linear, side by side */
	const float *frequencies; /* of the rotary embedding, radians per position */
};

struct model_parts {
	struct tower vision, text;
	int patch_embed, merger_in, merger_out, head; /* linears */
	const float *merger_norm;                     /* [vision hidden] */
	const float *final_norm;                      /* [text hidden] */
	const struct tensor *embedding;               /* [vocab][hidden] */
	const float *embedding_values;                /* float32 copy, or NULL */
	float *resident; /* owns all float32 copies of weights; NULL: none are kept */
};

/* out[count] = elements [first, first + count) of t in float32. */
void tensor_expand(float *out, const struct tensor *t, size_t first, size_t count);

#endif
