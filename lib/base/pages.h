/* Large buffers in large pages.
 *
 * The first touch of a page costs microseconds, under a hypervisor several; for
 * the tens of megabytes of a model's weights or activations, in pages of 4 KiB,
 * that is as much time as computing with them for a few samples. */
#ifndef QUERN_BASE_PAGES_H
#define QUERN_BASE_PAGES_H

#include <stddef.h>

/* At least `bytes`, not cleared, aligned to 64 or more; NULL when memory is out.
 * Freed with free(). */
void *pages_alloc(size_t bytes);

#endif
