/* Verification of the bf16 profile, which has no codes and no scales to look at: both are
 * made once more from the base. See verify_parts.h. */
#include <stdlib.h>
#include <string.h>

#include "kernels/amax.h"
#include "lib/model/expand.h"
#include "lib/quant/twin.h"
#include "lib/quant/verify_parts.h"

static const char *bytes_at(const struct tensor *t, int64_t first)
{
	return (const char *)t->data + (size_t)first * dtype_bytes(t->dtype);
}

static size_t chunk_at(const struct tensor *t, int64_t first)
{
	int64_t left = t->elements - first;
	return (size_t)(left < VERIFY_CHUNK ? left : VERIFY_CHUNK);
}

static float tensor_amax(const struct verifier *v, const struct tensor *t)
{
	float largest = 0;
	for (int64_t at = 0; at < t->elements; at += VERIFY_CHUNK) {
		size_t count = chunk_at(t, at);
		expand_values(v->chunk, t->dtype, bytes_at(t, at), count);
		forget_pages(bytes_at(t, at), count * dtype_bytes(t->dtype));
		float seen = amax(v->chunk, count);
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
	float each[MAX_MEMBERS], largest = 0;
	if (!group)
		return fail(err, EXIT_BAD_INPUT, "%s: %s: the manifest quantises it, but it is in "
		            "no group", v->folder, v->linears[linear].name);
	for (int m = 0; m < group->member_count; m++) {
		const struct tensor *base = base_weight(v, group->members[m], err);
		if (!base || !check_amax(each[m] = tensor_amax(v, base), base->name, err))
			return false;
		largest = each[m] > largest ? each[m] : largest;
	}
	for (int m = 0; m < group->member_count; m++)
		v->twin_scales[group->members[m]] =
			fp8_shipped_weight_scale(v->numerics, v->shared_scales ? largest : each[m]);
	return true;
}

/* Room for a chunk on its way. */
struct room {
	uint8_t codes[VERIFY_CHUNK];
	float values[VERIFY_CHUNK];
	uint16_t expected[VERIFY_CHUNK];
};

static bool compare_chunk(const struct verifier *v, float scale, const struct tensor *t,
                          const struct tensor *base, int64_t at, struct room *room,
                          error *err)
{
	size_t count = chunk_at(base, at);
	uint16_t found;
	expand_values(v->chunk, base->dtype, bytes_at(base, at), count);
	fp8_encode_weights(v->numerics, v->chunk, count, scale, room->codes);
	decode_twin(room->codes, count, scale, room->values, room->expected);
	bool equal = memcmp(bytes_at(t, at), room->expected,
	                    count * sizeof room->expected[0]) == 0;
	for (size_t i = 0; !equal && i < count; i++) {
		memcpy(&found, bytes_at(t, at + (int64_t)i), sizeof found);
		if (found != room->expected[i])
			return fail(err, EXIT_BAD_INPUT, "%s: %s[%lld]: expected what comes back of %g "
			            "in FP8, BF16 0x%04X, found 0x%04X", t->file, t->name,
			            (long long)at + (long long)i, (double)v->chunk[i],
			            room->expected[i], found);
	}
	forget_pages(bytes_at(base, at), count * dtype_bytes(base->dtype));
	forget_pages(bytes_at(t, at), count * sizeof found);
	return true;
}

bool verify_twin(struct verifier *v, int linear, const struct tensor *t,
                 const struct tensor *base, error *err)
{
	if (t->dtype != DTYPE_BF16)
		return fail(err, EXIT_BAD_INPUT, "%s: %s: expected BF16, found %s", t->file,
		            t->name, dtype_name(t->dtype));
	if (!v->twin_scales[linear] && !find_scales(v, linear, err))
		return false;
	struct room *room = malloc(sizeof *room);
	if (!room)
		return fail_memory(err, "a chunk of weights", sizeof *room);
	bool ok = true;
	for (int64_t at = 0; ok && at < base->elements; at += VERIFY_CHUNK)
		ok = compare_chunk(v, v->twin_scales[linear], t, base, at, room, err);
	free(room);
	v->fp8[linear] = true;
	v->done->fp8_linears++;
	return ok;
}
