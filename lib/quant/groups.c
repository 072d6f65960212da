/* Grouping of linears by name; see groups.h. */
#include "lib/quant/groups.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "lib/quant/formats/format.h"

#include "lib/checkpoint/fused.h"

#define SUFFIX ".quant_recipe"

/* What a linear is by the last component of its name. */
static const struct {
	const char *leaf;
	enum group_kind kind;
} LEAVES[] = {
	{ "q_proj", KIND_QKV },
	{ "k_proj", KIND_QKV },
	{ "v_proj", KIND_QKV },
	{ "qkv", KIND_QKV },
	{ "gate_proj", KIND_GATE_UP },
	{ "up_proj", KIND_GATE_UP },
	{ "o_proj", KIND_O },
	{ "down_proj", KIND_DOWN },
};

const char *group_kind_name(enum group_kind kind)
{
	static const char *const names[KIND_COUNT] = {
		"q/k/v", "o", "gate/up", "down", "merger", "patch_embed", "lm_head"
	};
	return names[kind];
}

bool group_exportable(const char *name)
{
	return strstr(name, "patch_embed") == NULL;
}

static enum group_kind kind_of(const char *name)
{
	for (size_t i = 0; i < sizeof LEAVES / sizeof LEAVES[0]; i++)
		if (strcmp(name_leaf(name), LEAVES[i].leaf) == 0)
			return LEAVES[i].kind;
	if (strcmp(name, "lm_head") == 0)
		return KIND_HEAD;
	if (!group_exportable(name))
		return KIND_PATCH_EMBED;
	return strstr(name, "merger") ? KIND_MERGER : KIND_O;
}

static int block_of(const char *name)
{
	int block = -1;
	if (sscanf(name, "visual.blocks.%d.", &block) == 1 ||
	    sscanf(name, "language_model.layers.%d.", &block) == 1)
		return block;
	return -1;
}

static void start_group(struct group *group, const char *name)
{
	snprintf(group->name, sizeof group->name, "%.*s" SUFFIX,
	         (int)(NAME_BYTES - sizeof SUFFIX), name);
	group->kind = kind_of(name);
	group->vision = strncmp(name, "visual.", 7) == 0;
	group->block = block_of(name);
	group->exportable = group_exportable(name);
}

static bool matches(const struct group *group, const struct linear_shape *linears,
                    const char *const *globs, int count)
{
	for (int m = 0; m < group->member_count; m++)
		for (int e = 0; e < count; e++)
			if (fnmatch(globs[e], linears[group->members[m]].name, 0) == 0)
				return true;
	return false;
}

bool make_groups(const struct linear_shape *linears, int linear_count,
                 const char *const *exclude, int exclude_count, arena *memory,
                 struct group_list *out, error *err)
{
	struct group *groups = arena_alloc(memory, (size_t)linear_count,
	                                   sizeof *groups, err);
	if (!groups)
		return false;
	int count = 0;
	for (int i = 0; i < linear_count;) {
		struct group *group = &groups[count];
		*group = (struct group){ 0 };
		start_group(group, linears[i].name);
		do {
			group->members[group->member_count++] = i;
			group->weights += (int64_t)linears[i].out * linears[i].in;
			i++;
		} while (i < linear_count && group->member_count < MAX_MEMBERS &&
		         modules_fuse(linears[i - 1].name, linears[i].name));
		if (!matches(group, linears, exclude, exclude_count))
			count++;
	}
	*out = (struct group_list){ .groups = groups, .count = count };
	return true;
}

void keep_included(struct group_list *list, const struct linear_shape *linears,
                   const char *const *include, int count)
{
	int kept = 0;
	for (int g = 0; g < list->count; g++)
		if (count == 0 || matches(&list->groups[g], linears, include, count))
			list->groups[kept++] = list->groups[g];
	list->count = kept;
}

/* The first member that the format does not take, or -1. */
static int find_untakeable(const struct group *group, const struct linear_shape *linears,
                           const struct format *format)
{
	for (int m = 0; m < group->member_count; m++)
		if (!format_takes(format, linears[group->members[m]].in))
			return group->members[m];
	return -1;
}

bool keep_takeable(struct group_list *list, const struct linear_shape *linears,
                   const struct format *format, const char *name, bool skip, error *err)
{
	int kept = 0;
	for (int g = 0; g < list->count; g++) {
		int bad = find_untakeable(&list->groups[g], linears, format);
		if (bad >= 0 && !skip)
			return fail(err, EXIT_BAD_INPUT,
			            "format %s: %s has %d columns: expected a multiple of %d, or "
			            "\"on_bad_shape\": \"bf16\"", name, linears[bad].name,
			            linears[bad].in, format->group);
		if (bad < 0)
			list->groups[kept++] = list->groups[g];
	}
	list->count = kept;
	return true;
}

const struct group *find_group(const struct group_list *list, const char *name)
{
	char module[NAME_BYTES];
	name_from_any(name, module);
	size_t length = strlen(module), suffix = sizeof SUFFIX - 1;
	if (length > suffix && strcmp(module + length - suffix, SUFFIX) == 0)
		length -= suffix;
	for (int i = 0; i < list->count; i++)
		if (strncmp(list->groups[i].name, module, length) == 0 &&
		    strcmp(list->groups[i].name + length, SUFFIX) == 0)
			return &list->groups[i];
	return NULL;
}
