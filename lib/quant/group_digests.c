/* Reading a checkpoint's weights group by group; see group_digests.h. */
#include "lib/quant/group_digests.h"

#include <stdio.h>
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

static bool digest_group(const struct checkpoint *c, const struct linear_shape *linears,
                         const struct group *group, struct digest *out, error *err)
{
	struct digester d;
	digester_begin(&d);
	for (int m = 0; m < group->member_count; m++) {
		char hub[NAME_BYTES], name[NAME_BYTES + 8];
		name_to_hub(linears[group->members[m]].name, hub);
		snprintf(name, sizeof name, "%s.weight", hub);
		const struct tensor *t = checkpoint_find(c, name);
		if (!t)
			return fail(err, EXIT_BAD_INPUT, "%s: expected tensor %s, found none", c->folder,
			            name);
		add_tensor(&d, t);
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
