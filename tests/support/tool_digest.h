/* The digest of a tool's sources, which the build leaves beside a tool and which
 * keys need; test programs have none. */
#ifndef QUERN_TESTS_SUPPORT_TOOL_DIGEST_H
#define QUERN_TESTS_SUPPORT_TOOL_DIGEST_H

#include <stdbool.h>

/* Writes one, always the same, beside the running program; false when it cannot. */
bool tool_digest_make(void);
void tool_digest_remove(void);

#endif
