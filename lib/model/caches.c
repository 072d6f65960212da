/* Names of the parts of the key/value cache; see caches.h. */
#include "lib/model/caches.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD "language_model.layers."

int count_caches(const struct model_config *config)
{
	return 2 * config->text.layers;
}

void name_cache(int cache, char out[NAME_BYTES])
{
	snprintf(out, NAME_BYTES, HEAD "%d.self_attn.%c_cache", cache / 2,
	         cache % 2 ? 'v' : 'k');
}

int find_cache(const char *name)
{
	enum { MOST_DIGITS = 6 };
	char again[NAME_BYTES];
	size_t head = strlen(HEAD), digits;
	if (strncmp(name, HEAD, head) != 0)
		return -1;
	digits = strspn(name + head, "0123456789");
	if (digits == 0 || digits > MOST_DIGITS)
		return -1;
	int keys = 2 * atoi(name + head);
	for (int cache = keys; cache < keys + 2; cache++) {
		name_cache(cache, again);
		if (strcmp(again, name) == 0)
			return cache;
	}
	return -1;
}
