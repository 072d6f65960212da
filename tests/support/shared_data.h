/* Data that is not the project's to commit, read in place from the folder named
 * by QUERN_SHARED (default: ../shared). */
#ifndef QUERN_TESTS_SUPPORT_SHARED_DATA_H
#define QUERN_TESTS_SUPPORT_SHARED_DATA_H

#include "lib/base/file.h"

/* The path of a shared file. Where it is absent, says "SKIP test: path is absent"
 * and returns false. */
bool find_shared(char path[PATH_BYTES], const char *relative, const char *test);

#endif
