/* Two codes of four bits in a byte, as every layout of four-bit weights has them; which
 * two share a byte is the layout's say. */
#ifndef QUERN_KERNELS_NIBBLES_H
#define QUERN_KERNELS_NIBBLES_H

#include <stddef.h>
#include <stdint.h>

/* bytes[n]: low[i * stride] in the lower half of bytes[i], high[i * stride] in the
 * upper; of a code only its lower four bits. */
void nibbles_join(const uint8_t *low, const uint8_t *high, size_t n, size_t stride,
                  uint8_t *bytes);

/* The way back: codes 0 to 15. */
void nibbles_split(const uint8_t *bytes, size_t n, size_t stride, uint8_t *low,
                   uint8_t *high);

#endif
