/* INT4 weights in groups of 128 columns: what the formats with and without channel scales
 * have in common, defined in int4_group.c. Private to this folder. */
#ifndef QUERN_QUANT_FORMATS_INT4_H
#define QUERN_QUANT_FORMATS_INT4_H

#include "lib/quant/formats/format.h"

enum { INT4_GROUP = 128 };

void int4_round_weight(enum numerics n, const float *w, int out, int in, float whole,
                       float *values);
int int4_tensors(enum profile p, int out, int in, struct packed_tensor *list);
void int4_unpack(const struct packed_weight *p, int first, int rows, float *values);
size_t int4_find_far(const struct packed_weight *p, int first, int rows, const float *w,
                     float steps);

/* All fields of a struct format but its names and its search. */
#define INT4_SHARED \
	.bits = 4, .group = INT4_GROUP, .round_weight = int4_round_weight, \
	.form = { .format = "pack-quantized", .algorithm = "W4A16_AWQ", .awq_fields = true, \
	          .weights = { 4, "int", "group", SCALE_STATIC, INT4_GROUP, NULL } }, \
	.paired_rows = true, .tensors = int4_tensors, .unpack = int4_unpack, \
	.find_far = int4_find_far

#endif
