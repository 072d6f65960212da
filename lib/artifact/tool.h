/* Which tool is running, as a key knows it: by the digest of its sources, never by
 * its binary, so that keys agree between compilers and machines. */
#ifndef QUERN_ARTIFACT_TOOL_H
#define QUERN_ARTIFACT_TOOL_H

#include "lib/artifact/digest.h"
#include "lib/base/error.h"

/* Reads the digest that the build left beside the running program
 * (<program>.digest; made by tools/sources.c from the program's link map). */
bool tool_sources(struct digest *out, error *err);

#endif
