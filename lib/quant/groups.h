/* Groups: the linears that must share a format, because servers fuse them into
 * one matrix ({q,k,v} and {gate,up}); every other linear is a group by itself.
 * Which fuse is lib/checkpoint/fused.h's to say; ModelOpt groups them alike
 * (modelopt/torch/quantization/algorithms.py, grouping rules). */
#ifndef QUERN_QUANT_GROUPS_H
#define QUERN_QUANT_GROUPS_H

#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/model/linears.h"

enum { MAX_MEMBERS = 3 };

/* What a group is made of, for tables by kind. */
enum group_kind {
	KIND_QKV, KIND_O, KIND_GATE_UP, KIND_DOWN, /* of text and vision blocks alike */
	KIND_MERGER, KIND_PATCH_EMBED, KIND_HEAD, KIND_COUNT
};

const char *group_kind_name(enum group_kind kind);

struct group {
	char name[NAME_BYTES]; /* the first member + ".quant_recipe" */
	int members[MAX_MEMBERS]; /* indices into the list of linears */
	int member_count;
	int64_t weights; /* elements of all members together */
	enum group_kind kind;
	bool vision;
	int block;       /* of its tower, or -1 */
	bool exportable; /* false for the patch convolution: no consumer loads it in FP8 */
};

struct group_list {
	struct group *groups; /* in module order */
	int count;
};

/* Groups of those linears that no exclude glob matches (fnmatch on the linear's
 * name; one excluded member excludes its group). */
bool make_groups(const struct linear_shape *linears, int linear_count,
                 const char *const *exclude, int exclude_count, arena *memory,
                 struct group_list *out, error *err);

/* Keeps the groups with a member that an include glob matches; count 0: all. */
void keep_included(struct group_list *list, const struct linear_shape *linears,
                   const char *const *include, int count);

struct format;

/* Takes groups out of the list with a member whose shape the format does not take; or,
 * unless `skip`, fails naming the first, and the format by `name`. */
bool keep_takeable(struct group_list *list, const struct linear_shape *linears,
                   const struct format *format, const char *name, bool skip, error *err);

/* False for a group (or module) that stays BF16 whatever a rule says: no consumer
 * loads a quantised patch convolution, and ModelOpt's export leaves it too. */
bool group_exportable(const char *name);

/* NULL when absent; accepts any spelling of the name, with or without
 * ".quant_recipe". */
const struct group *find_group(const struct group_list *list, const char *name);

#endif
