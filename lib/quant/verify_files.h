/* First half of verification: the files are exactly those listed, byte for byte. */
#ifndef QUERN_QUANT_VERIFY_FILES_H
#define QUERN_QUANT_VERIFY_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/error.h"
#include "lib/base/json.h"

/* Finds and reads the list (layer-sensitivity / *_files.json, exactly one) and checks
 * every file's size and SHA-256; a file that the list lacks is a fault too. *list is
 * the caller's to free. */
bool verify_files(const char *folder, json_doc *list, int *files, int64_t *bytes,
                  error *err);

/* The path of a checkpoint's list of files. */
bool find_file_list(const char *folder, char *path, size_t size, error *err);

#endif
