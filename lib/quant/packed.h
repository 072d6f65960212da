/* Quantised linears as checkpoints hold them: their tensors found and checked, and what
 * comes back of them. The one place that knows how the tensors are named. */
#ifndef QUERN_QUANT_PACKED_H
#define QUERN_QUANT_PACKED_H

#include "lib/base/error.h"
#include "lib/checkpoint/safetensors.h"
#include "lib/model/linears.h"
#include "lib/quant/formats/format.h"

enum { MAX_LINEAR_TENSORS = MAX_PACKED + 2 }; /* and a scale of weight and of input */

/* Where tensors are looked up. */
struct tensor_source {
	const struct tensor *(*find)(const void *self, const char *name); /* NULL: none */
	const void *self;
	const char *name; /* for errors */
};

struct packed_linear {
	const struct format *format;
	struct packed_weight weight;
	struct input_step input; /* as a server takes it; 0 where the format stores none */
	const struct tensor *tensors[MAX_LINEAR_TENSORS];
	int tensor_count;
};

/* Finds the tensors of a linear in this format and profile, and checks dtypes and shapes,
 * and that scales of the whole weight and input are finite and above 0. */
bool packed_find(struct packed_linear *out, const struct format *f, enum profile p,
                 const struct linear_shape *linear, const struct tensor_source *from,
                 error *err);

/* The same of the weight alone, whose scale is known: pieces in the store have none. */
bool packed_find_weight(struct packed_linear *out, const struct format *f, enum profile p,
                        const struct linear_shape *linear, float whole,
                        const struct tensor_source *from, error *err);

/* A header entry for one of the format's tensors of a linear, its name in `name`. */
void describe_packed(struct tensor *out, const struct packed_tensor *t, const char *linear,
                     char name[NAME_BYTES + 32]);

/* Lookups in an open checkpoint, or in one file. */
struct tensor_source tensors_of_checkpoint(const struct checkpoint *c);
struct tensor_source tensors_of_file(const struct safetensors *file);

/* values[rows][in] = what comes back of w[rows][in] after it was shipped: packed for the
 * universal profile and unpacked. Rows are even in number, or the weight's last. */
bool ship_and_return(const struct format *f, enum numerics n, const float *w, int rows,
                     int in, float whole, float *values, error *err);

#endif
