/* Asking for large pages; see pages.h. */
#include "lib/base/pages.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { ALIGNMENT = 64, LARGE_PAGE = 2 << 20 };

void *pages_alloc(size_t bytes)
{
	size_t unit = bytes < LARGE_PAGE ? ALIGNMENT : LARGE_PAGE;
	if (bytes > SIZE_MAX - unit)
		return NULL;
	size_t rounded = (bytes + unit - 1) / unit * unit;
	void *memory = aligned_alloc(unit, rounded ? rounded : unit);
#ifdef MADV_HUGEPAGE
	/* A wish: where the system does not grant it, all works as before. */
	if (memory && unit == LARGE_PAGE)
		(void)madvise(memory, rounded, MADV_HUGEPAGE);
#endif
	return memory;
}
