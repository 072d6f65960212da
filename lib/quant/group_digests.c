/* Reading a checkpoint's weights group by group; see group_digests.h. */
#include "lib/quant/group_digests.h"

#include <string.h>

#include "lib/checkpoint/safetensors.h"
#include "lib/model/linears.h"
#include "lib/quant/groups.h"

static void add_tensor(struct digester *d, const struct tensor *t)
{
	enum { AT_ONCE = 1 << 20 };
	const char *data = t->data;
	digester_add(d, dtype_name(t->dtype), strlen(dtype_name(t->dtype)) + 1);
	for (size_t at = 0; at < t->bytes; at += AT_ONCE) {
		size_t some = t->bytes - at < AT_ONCE ? t->bytes - at : AT_ONCE;
		digester_add(d, data + at, some);
		forget_pages(data + at, some);
	}
}

/* All tensors of a linear but its bias: the weight, or what stands for it without the
 * scales that a profile has a file of its own for. */
static int add_linear(struct digester *d, const struct checkpoint *c, const char *linear)
{
	char hub[NAME_BYTES];
	name_to_hub(linear, hub);
	size_t length = strlen(hub);
	int added = 0;
	for (size_t i = 0; i < c->count; i++) {
		const struct tensor *t = c->by_name[i];
		if (strncmp(t->name, hub, length) != 0 || t->name[length] != '.' ||
		    strcmp(t->name + length, ".bias") == 0 || t->elements == 1)
			continue;
		add_tensor(d, t);
		added++;
	}
	return added;
}

static bool digest_group(const struct checkpoint *c, const struct linear_shape *linears,
                         const struct group *group, struct digest *out, error *err)
{
	struct digester d;
	digester_begin(&d);
	for (int m = 0; m < group->member_count; m++) {
		const char *name = linears[group->members[m]].name;
		if (add_linear(&d, c, name) == 0)
			return fail(err, EXIT_BAD_INPUT, "%s: expected the weight of %s, found none",
			            c->folder, name);
	}
	return digester_end(&d, out, err);
}

static bool digest_all(const struct checkpoint *c, const struct model_config *config,
                       arena *memory, struct group_digest **out, int *count, error *err)
{
	struct linear_shape *linears;
	struct group_list groups;
	int linear_count;
	if (!list_linears(config, memory, &linears, &linear_count, err) ||
	    !make_groups(linears, linear_count, NULL, 0, memory, &groups, err) ||
	    !(*out = arena_alloc(memory, (size_t)groups.count, sizeof **out, err)))
		return false;
	*count = 0;
	for (int g = 0; g < groups.count; g++) {
		const struct group *group = &groups.groups[g];
		struct group_digest *digest = &(*out)[*count];
		if (group->kind == KIND_HEAD && config->text.tied_head)
			continue;
		digest->module = arena_text(memory, group->name,
		                            strlen(group->name) - strlen(".quant_recipe"), err);
		if (!digest->module || !digest_group(c, linears, group, &digest->digest, err))
			return false;
		++*count;
	}
	return true;
}

bool digest_groups(const char *folder, arena *memory, struct group_digest **out, int *count,
                   error *err)
{
	struct model_config config;
	struct checkpoint checkpoint;
	if (!model_config_load(&config, folder, err) ||
	    !checkpoint_open(&checkpoint, folder, err))
		return false;
	bool ok = digest_all(&checkpoint, &config, memory, out, count, err);
	checkpoint_close(&checkpoint);
	return ok;
}
