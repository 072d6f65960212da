/* See gpu_scales.h. */
#include "lib/quant/gpu_scales.h"

#include <math.h>

static bool choose_group(const struct gpu_scales *s, const struct group *group,
                         const float *weight_amax, struct gpu_quantisation *out, error *err)
{
	float shared = 0;
	for (int m = 0; m < group->member_count; m++)
		shared = fmaxf(shared, weight_amax[group->members[m]]);
	for (int m = 0; m < group->member_count; m++) {
		int linear = group->members[m];
		float amax = s->shared ? shared : weight_amax[linear];
		if (!check_amax(amax, s->linears[linear].name, err))
			return false;
		struct fp8_step weight = fp8_step_for(s->numerics, amax);
		struct fp8_step input = fp8_step_for(s->numerics, s->input_amax[linear]);
		out[linear] = (struct gpu_quantisation){ .scored = true,
			.divide = s->numerics == NUMERICS_QUERN,
			.weight_encode = weight.encode, .weight_decode = weight.decode,
			.input_encode = input.encode, .input_decode = input.decode };
	}
	return true;
}

bool choose_gpu_scales(const struct gpu_scales *s, const float *weight_amax,
                       struct gpu_quantisation *out, error *err)
{
	for (int g = 0; g < s->groups->count; g++)
		if ((!s->keeps || s->keeps[g]) &&
		    !choose_group(s, &s->groups->groups[g], weight_amax, out, err))
			return false;
	return true;
}
