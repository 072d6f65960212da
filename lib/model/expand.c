/* Choosing the conversion by dtype; see expand.h. */
#include "lib/model/expand.h"

#include "kernels/convert.h"
#include "lib/model/qwen.h"

bool can_expand(enum dtype dtype)
{
	return dtype == DTYPE_BF16 || dtype == DTYPE_F16 || dtype == DTYPE_F32;
}

void expand_values(float *out, enum dtype dtype, const void *in, size_t count)
{
	if (dtype == DTYPE_BF16)
		convert_bf16(out, in, count);
	else if (dtype == DTYPE_F16)
		convert_f16(out, in, count);
	else
		convert_f32(out, in, count);
}

const float *linear_weight(const struct linear *l, float *scratch)
{
	if (l->weight)
		return l->weight;
	expand_values(scratch, l->tensor->dtype, l->tensor->data,
	              (size_t)l->out * (size_t)l->in);
	return scratch;
}
