/* Quantising a model's weights for scoring; see quantised.h. */
#include "lib/quant/quantised.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/amax.h"

/* What one pass over the groups works with. */
struct quantiser {
	struct quantised_model *q;
	const struct group_list *groups;
	const bool *keeps;
	const struct format *format;
	bool shared_scales, resident;
	const float *input_amax;
	const struct folds *folds;
	float *scratch; /* one weight in float32 */
};

static size_t elements_of(const struct linear *l)
{
	return (size_t)l->out * (size_t)l->in;
}

static bool wanted(const struct quantiser *z, int group)
{
	return !z->keeps || z->keeps[group];
}

/* Sizes: the largest weight, and all of the wanted ones together. */
static size_t measure(const struct quantiser *z)
{
	size_t total = 0;
	for (int g = 0; g < z->groups->count; g++) {
		if (!wanted(z, g))
			continue;
		const struct group *group = &z->groups->groups[g];
		for (int m = 0; m < group->member_count; m++) {
			size_t count = elements_of(&z->q->model->linears[group->members[m]]);
			total += count;
			if (count > z->q->largest)
				z->q->largest = count;
		}
	}
	return total;
}

static float group_amax(const struct quantiser *z, const struct group *group, float *each)
{
	float largest = 0;
	for (int m = 0; m < group->member_count; m++) {
		const struct linear *l = &z->q->model->linears[group->members[m]];
		each[m] = amax(linear_weight(l, z->scratch), elements_of(l));
		if (each[m] > largest)
			largest = each[m];
	}
	return largest;
}

/* Scaled weights come back divided by the scales: the inputs are those of the model. */
void round_linear(const struct quantised_model *q, int linear, float *values)
{
	const struct linear *l = &q->model->linears[linear];
	const struct quantised_linear *ql = &q->linears[linear];
	const float *weight = linear_weight(l, values);
	if (ql->scales) {
		if (weight != values)
			memcpy(values, weight, elements_of(l) * sizeof *values);
		scale_columns(values, l->out, l->in, ql->scales);
		weight = values;
	}
	ql->format->round_weight(q->numerics, weight, l->out, l->in, ql->weight_amax, values);
	if (ql->scales)
		unscale_columns(values, l->out, l->in, ql->scales);
}

static bool quantise_linear(struct quantiser *z, int linear, float weight_amax,
                            const struct fold *fold, error *err)
{
	const struct linear *l = &z->q->model->linears[linear];
	struct quantised_linear *ql = &z->q->linears[linear];
	if (!check_amax(weight_amax, l->name, err))
		return false;
	if (!format_takes(z->format, l->in))
		return fail(err, EXIT_INTERNAL, "%s: %d columns are no multiple of %d", l->name,
		            l->in, z->format->group);
	if (z->format->round_input) {
		if (!check_amax(z->input_amax[linear], l->name, err))
			return false;
		ql->input = z->format->input_step(z->q->numerics, z->input_amax[linear]);
	}
	ql->format = z->format;
	ql->weight_amax = weight_amax;
	ql->scales = fold ? fold->scales : NULL;
	if (!z->resident)
		return true;
	float *values = arena_alloc(&z->q->memory, elements_of(l), sizeof *values, err);
	if (values)
		round_linear(z->q, linear, values);
	ql->values = values;
	return values != NULL;
}

static bool quantise_groups(struct quantiser *z, error *err)
{
	for (int g = 0; g < z->groups->count; g++) {
		const struct group *group = &z->groups->groups[g];
		float each[MAX_MEMBERS];
		if (!wanted(z, g))
			continue;
		float shared = group_amax(z, group, each);
		for (int m = 0; m < group->member_count; m++)
			if (!quantise_linear(z, group->members[m],
			                     z->shared_scales ? shared : each[m],
			                     find_fold(z->folds, z->format, group->name), err))
				return false;
	}
	return true;
}

bool quantise_model(struct quantised_model *q, const struct model *model,
                    const struct group_list *groups, const bool *keeps,
                    const struct format *format, enum numerics numerics,
                    bool shared_scales, const float *input_amax,
                    const struct folds *folds, size_t resident_bytes, error *err)
{
	*q = (struct quantised_model){ .model = model, .numerics = numerics };
	struct quantiser z = { .q = q, .groups = groups, .keeps = keeps, .format = format,
		.shared_scales = shared_scales, .input_amax = input_amax, .folds = folds };
	z.resident = measure(&z) * sizeof(float) <= resident_bytes;
	q->linears = arena_alloc(&q->memory, (size_t)model->linear_count,
	                         sizeof *q->linears, err);
	z.scratch = malloc(q->largest * sizeof(float) + 1);
	bool ok = q->linears && (z.scratch || fail_memory(err, "a weight", q->largest * 4)) &&
	          quantise_groups(&z, err);
	free(z.scratch);
	if (!ok)
		quantised_free(q);
	return ok;
}

void quantised_free(struct quantised_model *q)
{
	arena_free(&q->memory);
	*q = (struct quantised_model){ 0 };
}
