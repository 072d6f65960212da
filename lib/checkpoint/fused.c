/* Fused layers by name; see fused.h. The table is what vLLM, SGLang and
 * TensorRT-LLM share as packed_modules_mapping (or the like) for Qwen2.5-VL. */
#include "lib/checkpoint/fused.h"

#include <stddef.h>
#include <string.h>

static const struct fused_layer FUSED[] = {
	{ "qkv_proj", { "q_proj", "k_proj", "v_proj" }, 3 },
	{ "gate_up_proj", { "gate_proj", "up_proj" }, 2 },
};

const char *name_leaf(const char *name)
{
	const char *dot = strrchr(name, '.');
	return dot ? dot + 1 : name;
}

const struct fused_layer *fused_layer_of(const char *module)
{
	const char *leaf = name_leaf(module);
	for (size_t i = 0; i < sizeof FUSED / sizeof FUSED[0]; i++)
		for (int s = 0; s < FUSED[i].count; s++)
			if (strcmp(leaf, FUSED[i].shards[s]) == 0)
				return &FUSED[i];
	return NULL;
}

bool modules_fuse(const char *a, const char *b)
{
	const struct fused_layer *fused = fused_layer_of(a);
	ptrdiff_t parent = name_leaf(a) - a;
	return fused && fused == fused_layer_of(b) && name_leaf(b) - b == parent &&
	       memcmp(a, b, (size_t)parent) == 0;
}
