/* A folder for a test's files, gone when the test is. */
#ifndef QUERN_TESTS_SUPPORT_TEMP_FOLDER_H
#define QUERN_TESTS_SUPPORT_TEMP_FOLDER_H

#include "lib/base/file.h"

/* Makes an empty folder under $TMPDIR (or /tmp) and writes its path. */
bool temp_folder_make(char path[PATH_BYTES], error *err);

/* Removes the folder and all it holds, also where modes say read-only. */
void temp_folder_remove(const char *path);

/* Writes folder/name, making it or replacing what it held. */
bool temp_folder_write(const char *folder, const char *name, const void *data,
                       size_t size, error *err);

#endif
