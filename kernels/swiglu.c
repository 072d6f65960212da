/* Gated activation, element by element; formulas in swiglu.h. */
#include "kernels/swiglu.h"

#include "kernels/portable.h"

#include "kernels/exp.h"

VECTOR_CLONES
void swiglu_forward(float *restrict out, const float *restrict gate,
                    const float *restrict up, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = gate[i] / (1.0f + exp_portable(-gate[i])) * up[i];
}

VECTOR_CLONES
void swiglu_backward(float *restrict dgate, float *restrict dup,
                     const float *restrict dout, const float *restrict gate,
                     const float *restrict up, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		float sigmoid = 1.0f / (1.0f + exp_portable(-gate[i]));
		dup[i] = dout[i] * (gate[i] * sigmoid);
		dgate[i] = dout[i] * up[i] * (sigmoid * (1.0f + gate[i] * (1.0f - sigmoid)));
	}
}
