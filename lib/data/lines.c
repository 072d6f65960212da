/* Text files line by line; see lines.h. */
#include "lib/data/lines.h"

#include <string.h>

bool next_line(struct line_reader *reader, const char **line, size_t *length)
{
	if (reader->left == 0)
		return false;
	const char *end = memchr(reader->rest, '\n', reader->left);
	size_t whole = end ? (size_t)(end - reader->rest) : reader->left;
	*line = reader->rest;
	*length = whole && reader->rest[whole - 1] == '\r' ? whole - 1 : whole;
	reader->rest += end ? whole + 1 : whole;
	reader->left -= end ? whole + 1 : whole;
	reader->number++;
	return true;
}
