/* The spellings of a module's name; see names.h. */
#include "lib/checkpoint/names.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* When name is prefix or lies in it ("visual", "visual.x" but not "visuals"),
 * writes it with that prefix replaced. */
static bool replace_prefix(const char *name, const char *prefix, const char *by,
                           char out[NAME_BYTES])
{
	size_t length = strlen(prefix);
	if (strncmp(name, prefix, length) != 0 ||
	    (name[length] != '.' && name[length] != '\0'))
		return false;
	snprintf(out, NAME_BYTES, "%s%s", by, name + length);
	return true;
}

void name_to_hub(const char *module, char out[NAME_BYTES])
{
	if (!replace_prefix(module, "language_model", "model", out))
		snprintf(out, NAME_BYTES, "%s", module);
}

void name_from_any(const char *name, char out[NAME_BYTES])
{
	/* The longer spelling first: the hub's "model" is a prefix of the others. */
	static const char *const spellings[][2] = {
		{ "model.visual", "visual" },
		{ "model.language_model", "language_model" },
		{ "model", "language_model" },
	};
	for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++)
		if (replace_prefix(name, spellings[i][0], spellings[i][1], out))
			return;
	snprintf(out, NAME_BYTES, "%s", name);
}
