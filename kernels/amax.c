/* Magnitudes compare as integers do, with infinity above every number and NaN
 * above infinity: one integer maximum finds all three. */
#include "kernels/amax.h"

#include "kernels/portable.h"

#include "kernels/bits.h"
#include "kernels/lanes.h"

VECTOR_CLONES
float amax(const float *x, size_t n)
{
	uint32_t lanes[LANES] = { 0 };
	size_t whole = n / LANES * LANES;
	for (size_t i = 0; i < whole; i += LANES)
		for (size_t lane = 0; lane < LANES; lane++) {
			uint32_t magnitude = bits_of_float(x[i + lane]) & 0x7FFFFFFFu;
			lanes[lane] = magnitude > lanes[lane] ? magnitude : lanes[lane];
		}
	uint32_t largest = 0;
	for (size_t lane = 0; lane < LANES; lane++)
		largest = lanes[lane] > largest ? lanes[lane] : largest;
	for (size_t i = whole; i < n; i++) {
		uint32_t magnitude = bits_of_float(x[i]) & 0x7FFFFFFFu;
		largest = magnitude > largest ? magnitude : largest;
	}
	return float_of_bits(largest);
}
