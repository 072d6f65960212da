/* Reading the digest beside the program; see tool.h. */
#include "lib/artifact/tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/file.h"

bool tool_sources(struct digest *out, error *err)
{
	static const char suffix[] = ".digest";
	char path[PATH_BYTES + sizeof suffix];
	ssize_t length = readlink("/proc/self/exe", path, PATH_BYTES);
	if (length < 0)
		return fail_errno(err, errno, "/proc/self/exe: cannot read the link");
	memcpy(path + length, suffix, sizeof suffix);
	char *text;
	size_t size;
	if (!read_file(path, DIGEST_HEX + 1, &text, &size, err))
		return false;
	bool ok = size >= DIGEST_HEX && digest_parse(text, DIGEST_HEX, out);
	free(text);
	return ok || fail(err, EXIT_ENVIRONMENT,
	                  "%s: expected the digest of the program's sources (run ninja tools)",
	                  path);
}
