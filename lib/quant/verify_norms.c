/* Verification of norms with channel scales folded in; see verify_parts.h. */
#include <stdio.h>
#include <string.h>

#include "lib/model/expand.h"
#include "lib/quant/fold.h"
#include "lib/quant/verify_parts.h"

bool is_folded_norm(const struct verifier *v, const char *tensor, int *group)
{
	for (int g = 0; g < v->groups.count; g++) {
		char norm[NAME_BYTES], hub[NAME_BYTES], name[NAME_BYTES + 8];
		int first = v->groups.groups[g].members[0];
		if (!v->formats[first] || !v->formats[first]->channel_scales ||
		    !norm_of_linear(v->linears[first].name, norm))
			continue;
		name_to_hub(norm, hub);
		snprintf(name, sizeof name, "%s.weight", hub);
		*group = g;
		if (strcmp(name, tensor) == 0)
			return true;
	}
	return false;
}

/* The scales are those that quantising had, from the same two norms: had one channel of
 * the norm moved since, that column of the weights would not come back any more. */
bool verify_norm(struct verifier *v, const struct tensor *base, const struct tensor *t,
                 int group, error *err)
{
	const struct group *g = &v->groups.groups[group];
	int in = v->linears[g->members[0]].in;
	if (t->dtype != base->dtype || base->elements != in || !can_expand(base->dtype))
		return fail(err, EXIT_BAD_INPUT, "%s: %s: expected %d %s as in the base, found "
		            "%lld %s", t->file, t->name, in, dtype_name(base->dtype),
		            (long long)t->elements, dtype_name(t->dtype));
	float *norms = arena_alloc(&v->memory, 3 * (size_t)in, sizeof *norms, err);
	if (!norms)
		return false;
	float *folded = norms + in, *scales = folded + in;
	expand_values(norms, base->dtype, base->data, (size_t)in);
	expand_values(folded, t->dtype, t->data, (size_t)in);
	int bad = fold_scales(norms, folded, in, scales);
	for (int m = 0; m < g->member_count; m++)
		v->scales[g->members[m]] = scales;
	return bad == in ||
	       fail(err, EXIT_BAD_INPUT, "%s: %s[%d]: expected the base's %g divided by a "
	            "positive scale, found %g", t->file, t->name, bad, (double)norms[bad],
	            (double)folded[bad]);
}
