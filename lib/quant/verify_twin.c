/* Verification of the bf16 profile, which has no codes and no scales to look at: both are
 * made once more from the base. See verify_parts.h. */
#include <stdlib.h>
#include <string.h>

#include "kernels/amax.h"
#include "lib/quant/packed.h"
#include "lib/quant/twin.h"
#include "lib/quant/verify_parts.h"

static float tensor_amax(const struct verifier *v, int linear, const struct tensor *t,
                         int at_once)
{
	const struct linear_shape *shape = &v->linears[linear];
	float largest = 0;
	for (int row = 0; row < shape->out; row += at_once) {
		int rows = shape->out - row < at_once ? shape->out - row : at_once;
		expand_rows(v, linear, t, row, rows);
		forget_rows(t, shape->out, row, rows);
		float seen = amax(v->chunk, (size_t)rows * (size_t)shape->in);
		largest = seen > largest ? seen : largest;
	}
	return largest;
}

static const struct group *group_of(const struct verifier *v, int linear)
{
	for (int g = 0; g < v->groups.count; g++)
		for (int m = 0; m < v->groups.groups[g].member_count; m++)
			if (v->groups.groups[g].members[m] == linear)
				return &v->groups.groups[g];
	return NULL;
}

/* The scales of all members of the linear's group. */
static bool find_scales(struct verifier *v, int linear, error *err)
{
	const struct group *group = group_of(v, linear);
	const struct format *f = v->formats[linear];
	float each[MAX_MEMBERS], largest = 0;
	if (!group)
		return fail(err, EXIT_BAD_INPUT, "%s: %s: the manifest quantises it, but it is in "
		            "no group", v->folder, v->linears[linear].name);
	for (int m = 0; m < group->member_count; m++) {
		int at_once, member = group->members[m];
		const struct tensor *base = base_weight(v, member, err);
		if (!base || !rows_at_once(v, member, &at_once, err) ||
		    !check_amax(each[m] = tensor_amax(v, member, base, at_once), base->name, err))
			return false;
		largest = each[m] > largest ? each[m] : largest;
	}
	for (int m = 0; m < group->member_count; m++)
		v->wholes[group->members[m]] = !f->weight_scale ? 1 : f->weight_scale(
			v->numbers.numerics, v->numbers.shared_scales ? largest : each[m]);
	return true;
}

/* Room for a chunk on its way. */
struct room {
	float values[VERIFY_CHUNK];
	uint16_t expected[VERIFY_CHUNK];
};

static bool compare_rows(const struct verifier *v, int linear, const struct tensor *t,
                         const struct tensor *base, int first, int rows, struct room *room,
                         error *err)
{
	const struct linear_shape *shape = &v->linears[linear];
	const struct format *f = v->formats[linear];
	size_t count = (size_t)rows * (size_t)shape->in;
	size_t start = (size_t)first * (size_t)shape->in;
	const char *found = (const char *)t->data + start * sizeof room->expected[0];
	expand_rows(v, linear, base, first, rows);
	if (!ship_and_return(f, v->numbers.numerics, v->chunk, rows, shape->in, v->wholes[linear],
	                     room->values, err))
		return false;
	round_twin(room->values, count, room->expected);
	if (memcmp(found, room->expected, count * sizeof room->expected[0]) == 0)
		return true;
	size_t i = 0;
	uint16_t bits;
	while (memcpy(&bits, found + i * sizeof bits, sizeof bits), bits == room->expected[i])
		i++;
	return fail(err, EXIT_BAD_INPUT, "%s: %s[%zu]: expected what comes back of %g in %s, "
	            "BF16 0x%04X, found 0x%04X", t->file, t->name, start + i,
	            (double)v->chunk[i], f->element, room->expected[i], bits);
}

static const struct tensor *find_twin(const struct verifier *v, const struct tensor *base,
                                      error *err)
{
	const struct tensor *t = checkpoint_find(&v->published, base->name);
	if (!t || t->dtype != DTYPE_BF16 || t->elements != base->elements) {
		fail(err, EXIT_BAD_INPUT, "%s: %s: expected %lld BF16, found %s", v->folder,
		     base->name, (long long)base->elements, t ? dtype_name(t->dtype) : "none");
		return NULL;
	}
	return t;
}

bool verify_twin(struct verifier *v, int linear, const struct tensor **twin, error *err)
{
	int out = v->linears[linear].out, at_once;
	const struct tensor *base = base_weight(v, linear, err);
	const struct tensor *t = base ? find_twin(v, base, err) : NULL;
	if (!t || !rows_at_once(v, linear, &at_once, err) ||
	    (!v->wholes[linear] && !find_scales(v, linear, err)))
		return false;
	struct room *room = malloc(sizeof *room);
	if (!room)
		return fail_memory(err, "a chunk of weights", sizeof *room);
	bool ok = true;
	for (int row = 0; ok && row < out; row += at_once) {
		int rows = out - row < at_once ? out - row : at_once;
		ok = compare_rows(v, linear, t, base, row, rows, room, err);
		forget_rows(base, out, row, rows);
		forget_rows(t, out, row, rows);
	}
	free(room);
	*twin = t;
	return ok;
}
