/* See shared_data.h. */
#include "tests/support/shared_data.h"

#include <stdio.h>
#include <stdlib.h>

bool find_shared(char path[PATH_BYTES], const char *relative, const char *test)
{
	const char *folder = getenv("QUERN_SHARED");
	error err;
	if (join_path(path, PATH_BYTES, folder ? folder : "../shared", relative, &err) &&
	    file_exists(path))
		return true;
	printf("SKIP %s: %s is absent\n", test, path);
	return false;
}
