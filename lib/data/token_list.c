/* Token ids that grow; see token_list.h. */
#include "lib/data/token_list.h"

#include <stdlib.h>

bool token_push(struct token_list *list, int32_t id, error *err)
{
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 64;
		int32_t *ids = realloc(list->ids, capacity * sizeof *ids);
		if (!ids)
			return fail_memory(err, "token ids", capacity * sizeof *ids);
		list->ids = ids;
		list->capacity = capacity;
	}
	list->ids[list->count++] = id;
	return true;
}

void token_list_free(struct token_list *list)
{
	free(list->ids);
	*list = (struct token_list){ 0 };
}
