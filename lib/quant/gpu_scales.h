/* The scales that a device quantises with: the same that quantise_model takes. */
#ifndef QUERN_QUANT_GPU_SCALES_H
#define QUERN_QUANT_GPU_SCALES_H

#include "lib/gpu/gpu.h"
#include "lib/model/linears.h"
#include "lib/quant/groups.h"
#include "lib/quant/numerics.h"

struct gpu_scales {
	const struct linear_shape *linears;
	const struct group_list *groups;
	const bool *keeps;       /* [group] to quantise; NULL: all */
	const float *input_amax; /* [linear] */
	enum numerics numerics;
	bool shared; /* a group's members have one scale */
};

/* out[linear], zeroed before, of the groups' members; given the weights' amax[linear]. */
bool choose_gpu_scales(const struct gpu_scales *s, const float *weight_amax,
                       struct gpu_quantisation *out, error *err);

#endif
