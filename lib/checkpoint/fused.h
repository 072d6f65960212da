/* Which linears a server keeps as one matrix. The members of a fused layer must
 * have the same precision; the exporter, the configs and every consumer's rules
 * start from this. */
#ifndef QUERN_CHECKPOINT_FUSED_H
#define QUERN_CHECKPOINT_FUSED_H

#include <stdbool.h>

enum { MAX_SHARDS = 3 };

struct fused_layer {
	const char *name; /* last component of the fused module: "qkv_proj" */
	const char *shards[MAX_SHARDS]; /* those of the linears in it, in order */
	int count;
};

/* The fused layer that a module goes into by its last component, or NULL when it
 * stays alone. The vision tower's attn.qkv is one matrix already: NULL. */
const struct fused_layer *fused_layer_of(const char *module);

/* Whether both are members of the same fused layer. */
bool modules_fuse(const char *a, const char *b);

/* The last component of a dotted name; points into it. */
const char *name_leaf(const char *name);

#endif
