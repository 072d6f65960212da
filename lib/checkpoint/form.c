/* Comparing forms; see form.h. */
#include "lib/checkpoint/form.h"

#include <string.h>

static bool numbers_equal(const struct number_form *a, const struct number_form *b)
{
	if (a->bits != b->bits || a->bits == 0)
		return a->bits == b->bits;
	if (!a->scales != !b->scales || (a->scales && strcmp(a->scales, b->scales) != 0))
		return false;
	return strcmp(a->type, b->type) == 0 && strcmp(a->strategy, b->strategy) == 0 &&
	       a->time == b->time && a->group_size == b->group_size;
}

bool forms_equal_compressed(const struct linear_form *a, const struct linear_form *b)
{
	return strcmp(a->format, b->format) == 0 && numbers_equal(&a->weights, &b->weights) &&
	       numbers_equal(&a->inputs, &b->inputs);
}

bool forms_equal_modelopt(const struct linear_form *a, const struct linear_form *b)
{
	return strcmp(a->algorithm, b->algorithm) == 0 &&
	       a->weights.group_size == b->weights.group_size;
}
