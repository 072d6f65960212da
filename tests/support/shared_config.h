/* Configurations of the released models, where QUERN_SHARED has them. */
#ifndef QUERN_TESTS_SUPPORT_SHARED_CONFIG_H
#define QUERN_TESTS_SUPPORT_SHARED_CONFIG_H

#include "lib/checkpoint/config.h"

/* Loads fixtures/configs/<name>.config.json. Where it is absent, says so for `test`
 * and returns false; other failures fail the test. */
bool find_shared_config(struct model_config *config, const char *name, const char *test);

#endif
