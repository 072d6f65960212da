/* Token ids that grow. */
#ifndef QUERN_DATA_TOKEN_LIST_H
#define QUERN_DATA_TOKEN_LIST_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/error.h"

/* All zero is empty. */
struct token_list {
	int32_t *ids;
	size_t count, capacity;
};

bool token_push(struct token_list *list, int32_t id, error *err);
void token_list_free(struct token_list *list);

#endif
