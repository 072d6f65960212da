/* Rotary position embedding: the same rotation forward and, with the sign of the
 * sine turned, backward; see rope.h. */
#include "kernels/rope.h"

#include "kernels/portable.h"

static inline void rotate(float *restrict low, float *restrict high,
                          const float *restrict cosine, const float *restrict sine,
                          size_t half, float direction)
{
	for (size_t i = 0; i < half; i++) {
		float a = low[i], b = high[i];
		float turn = sine[i] * direction;
		low[i] = a * cosine[i] - b * turn;
		high[i] = b * cosine[i] + a * turn;
	}
}

static inline void rotate_rows(float *x, int stride, const float *cosine,
                               const float *sine, int rows, int heads, int head_dim,
                               float direction)
{
	size_t half = (size_t)head_dim / 2;
	for (int row = 0; row < rows; row++, x += stride, cosine += half, sine += half)
		for (int head = 0; head < heads; head++) {
			float *low = x + (size_t)head * head_dim;
			rotate(low, low + half, cosine, sine, half, direction);
		}
}

VECTOR_CLONES
void rope_forward(float *x, int stride, const float *cosine, const float *sine,
                  int rows, int heads, int head_dim)
{
	rotate_rows(x, stride, cosine, sine, rows, heads, head_dim, 1.0f);
}

VECTOR_CLONES
void rope_backward(float *dx, int stride, const float *cosine, const float *sine,
                   int rows, int heads, int head_dim)
{
	rotate_rows(dx, stride, cosine, sine, rows, heads, head_dim, -1.0f);
}
