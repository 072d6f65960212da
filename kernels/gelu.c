/* Exact GELU, with an error function of its own for the reason exp.h gives. */
#include "kernels/gelu.h"

#include "kernels/portable.h"

#include "kernels/exp.h"

/* The error function within 2e-7, without branches. Below 1 an odd polynomial,
 * above it 1 - exp(-polynomial), both minimax fits (1.2e-9 and 1.0e-9 before
 * rounding); from 4 on erf is 1 in float32. */
static inline float erf_portable(float x)
{
	float magnitude = float_of_bits(bits_of_float(x) & 0x7FFFFFFFu);
	uint32_t sign = bits_of_float(x) & 0x80000000u;
	float s = x * x;
	float near = 7.8538488e-5f;
	near = near * s - 8.01018992e-4f;
	near = near * s + 5.18832727e-3f;
	near = near * s - 2.68538117e-2f;
	near = near * s + 1.12835851e-1f;
	near = near * s - 3.76126258e-1f;
	near = near * s + 1.12837917f;
	float a = magnitude > 4.0f ? 4.0f : magnitude;
	float far = -1.85574079e-4f;
	far = far * a + 2.93960802e-3f;
	far = far * a - 2.18053214e-2f;
	far = far * a + 1.03037375e-1f;
	far = far * a + 6.38225669e-1f;
	far = far * a + 1.12704004f;
	far = far * a + 3.5371815e-4f;
	far = 1.0f - exp_portable(-far);
	float outer = float_of_bits(bits_of_float(far) | sign);
	return magnitude < 1.0f ? near * x : outer;
}

/* Phi(x), the normal distribution function. */
static inline float normal_share(float x)
{
	return 0.5f * (1.0f + erf_portable(x * 0.70710678f));
}

VECTOR_CLONES
void gelu_forward(float *y, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = x[i] * normal_share(x[i]);
}

VECTOR_CLONES
void gelu_backward(float *dx, const float *dy, const float *x, size_t n)
{
	const float density_at_0 = 0.39894228f; /* 1 / sqrt(2 pi) */
	for (size_t i = 0; i < n; i++) {
		float density = density_at_0 * exp_portable(-0.5f * x[i] * x[i]);
		dx[i] = dy[i] * (normal_share(x[i]) + x[i] * density);
	}
}
