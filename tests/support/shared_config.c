/* See shared_config.h. */
#include "tests/support/shared_config.h"

#include "lib/base/file.h"
#include "tests/support/shared_data.h"
#include "tests/support/temp_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h> /* after ours: it makes a macro of `fail` */

enum { MAX_CONFIG_BYTES = 1 << 20 };

bool find_shared_config(struct model_config *config, const char *name, const char *test)
{
	char relative[128], path[PATH_BYTES], folder[PATH_BYTES], *data;
	size_t size;
	error err;
	snprintf(relative, sizeof relative, "fixtures/configs/%s.config.json", name);
	if (!find_shared(path, relative, test))
		return false;
	if (!read_file(path, MAX_CONFIG_BYTES, &data, &size, &err) ||
	    !temp_folder_make(folder, &err))
		fail_msg("%s", err.text);
	bool ok = temp_folder_write(folder, "config.json", data, size, &err) &&
	          model_config_load(config, folder, &err);
	free(data);
	temp_folder_remove(folder);
	if (!ok)
		fail_msg("%s", err.text);
	return true;
}
