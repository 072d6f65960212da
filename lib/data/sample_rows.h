/* What the readers of sample sources share: samples.c (text files) and calib_db.c
 * (SQLite). */
#ifndef QUERN_DATA_SAMPLE_ROWS_H
#define QUERN_DATA_SAMPLE_ROWS_H

#include "lib/data/samples.h"

/* A row as its source holds it; image NULL for text. */
struct row_text {
	const char *caption;
	size_t caption_length;
	const char *image;
	size_t image_length;
};

/* Appends a copy; *capacity is of list->rows, 0 at the start. */
bool push_row(struct sample_list *list, size_t *capacity, struct row_text row,
              error *err);

/* What keeps path[length] (a NUL after it) from naming a file below the image
 * root, or NULL if nothing does. */
const char *image_path_fault(const char *path, size_t length);

#endif
