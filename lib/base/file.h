/* Reading files and naming them. Writing is lib/artifact's, which does it
 * atomically; nothing here changes the disk but make_folders. */
#ifndef QUERN_BASE_FILE_H
#define QUERN_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/error.h"

/* A whole file mapped read-only. data is NULL for an empty file. */
typedef struct mapped_file {
	const uint8_t *data;
	size_t size;
} mapped_file;

bool map_file(mapped_file *file, const char *path, error *err);
void unmap_file(mapped_file *file);

/* Tells the kernel that these bytes of a mapped file are not needed any more: whoever
 * goes through a large file once calls this behind itself, or ends up with all of it
 * resident. They can be read again. */
void forget_pages(const void *data, size_t size);

/* Reads a text file whole into malloc'd memory, NUL-terminated; files larger
 * than max_bytes are refused. The caller frees *data. */
bool read_file(const char *path, size_t max_bytes, char **data, size_t *size,
               error *err);

/* `folder/name` into out[size]; a path too long is an error. */
bool join_path(char *out, size_t size, const char *folder, const char *name,
               error *err);

/* mkdir -p. */
bool make_folders(const char *path, error *err);

bool file_exists(const char *path);

enum { PATH_BYTES = 4096 };

#endif
