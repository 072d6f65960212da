/* Joining and splitting bytes; see nibbles.h. */
#include "kernels/nibbles.h"

void nibbles_join(const uint8_t *low, const uint8_t *high, size_t n, size_t stride,
                  uint8_t *bytes)
{
	for (size_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)((low[i * stride] & 15u) | (high[i * stride] & 15u) << 4);
}

void nibbles_split(const uint8_t *bytes, size_t n, size_t stride, uint8_t *low,
                   uint8_t *high)
{
	for (size_t i = 0; i < n; i++) {
		low[i * stride] = bytes[i] & 15u;
		high[i * stride] = bytes[i] >> 4;
	}
}
