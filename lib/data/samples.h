/* Where samples come from: a captions file (one caption a line) or a
 * calibration DB (SQLite, table vlm_calib_samples: image + caption). */
#ifndef QUERN_DATA_SAMPLES_H
#define QUERN_DATA_SAMPLES_H

#include <stddef.h>

#include "lib/base/arena.h"
#include "lib/base/error.h"

struct sample_row {
	const char *caption;
	const char *image; /* path relative to the image root, or NULL for text */
};

struct sample_list {
	struct sample_row *rows;
	size_t count;
	arena memory;
};

/* Rows [first, first+count) of the source, in its order (line order; id order).
 * Fewer rows than asked for is no error: list->count says what there was. An
 * empty source is. On failure the list is empty, with nothing to free.
 *
 * Captions: one a line, CRLF and a byte order mark tolerated, blank lines skipped.
 * In every source a caption is what stands there, trailing spaces included. */
bool captions_load(struct sample_list *list, const char *path, size_t first,
                   size_t count, error *err);

/* The DB is read as one immutable file; one with an open journal beside it is
 * refused. Ids must be distinct integers; image paths must stay below the image
 * root (not absolute, no ".."), here and in evaluation lists. */
bool calib_db_load(struct sample_list *list, const char *path, size_t first,
                   size_t count, error *err);

/* Lines of JSON with image_relpath and caption (the evaluation lists). */
bool eval_list_load(struct sample_list *list, const char *path, size_t first,
                    size_t count, error *err);
void sample_list_free(struct sample_list *list);

#endif
