/* Text files line by line, for the readers of captions, merges and lists. */
#ifndef QUERN_DATA_LINES_H
#define QUERN_DATA_LINES_H

#include <stddef.h>

#include "lib/base/error.h"

/* Fill in `rest` and `left`; the text need not end in a NUL. */
struct line_reader {
	const char *rest;
	size_t left;
	long number; /* of the line last read, 1-based */
};

/* The next line, without its "\n" or "\r\n"; false at the end. The last line may
 * lack its end. */
bool next_line(struct line_reader *reader, const char **line, size_t *length);

#endif
