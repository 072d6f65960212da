/* INT4 weights as in int4_group.c, with AWQ's scales of input channels: a channel that
 * carries large activations gets a finer step, at the cost of the others of its group of
 * 128 columns (Lin et al., AWQ: Activation-aware Weight Quantization, 2023, section 3.2).
 *
 *   s = mean|x|^alpha / sqrt(max * min), alpha = 0, 0.1 ... 1
 *
 * as in llm-awq's awq/quantize/auto_scale.py and, with steps of 0.1, ModelOpt's awq_lite
 * (modelopt/torch/quantization/model_calib.py), whose alpha also weighs the weights'
 * magnitudes; here alpha 0 is INT4 without scales, so that the search cannot do worse. */
#include <math.h>

#include "lib/quant/formats/int4.h"
#include "lib/quant/formats/known.h"

enum { STEPS = 10 };

static const float LEAST_MEAN = 1e-4f; /* of channels that are never active */

static bool channel_scales(int candidate, const float *mean, int in, float *scales)
{
	float least = INFINITY, most = 0;
	if (candidate > STEPS)
		return false;
	for (int i = 0; i < in; i++) {
		scales[i] = powf(fmaxf(mean[i], LEAST_MEAN), (float)candidate / STEPS);
		least = fminf(least, scales[i]);
		most = fmaxf(most, scales[i]);
	}
	float middle = sqrtf(most) * sqrtf(least);
	for (int i = 0; i < in; i++)
		scales[i] /= middle;
	return true;
}

const struct format FORMAT_INT4_AWQ = {
	.element = "int4", .granularity = "group128_awq", .channel_scales = channel_scales,
	INT4_SHARED
};
