/* The list of formats; see format.h. */
#include <string.h>

#include "lib/quant/formats/known.h"

static const struct format *const KNOWN[] = {
	&FORMAT_FP8_TENSOR, &FORMAT_FP8_CHANNEL, &FORMAT_INT8_CHANNEL, &FORMAT_INT4_GROUP,
	&FORMAT_INT4_AWQ, &FORMAT_NVFP4, NULL
};

const struct format *format_at(int index)
{
	return KNOWN[index];
}

const struct format *format_of_form(enum profile p, const struct linear_form *form)
{
	for (int i = 0; KNOWN[i]; i++)
		if (p == PROFILE_MODELOPT ? forms_equal_modelopt(&KNOWN[i]->form, form)
		                          : forms_equal_compressed(&KNOWN[i]->form, form))
			return KNOWN[i];
	return NULL;
}

const struct format *format_find(const char *element, const char *granularity)
{
	for (int i = 0; KNOWN[i]; i++)
		if (strcmp(KNOWN[i]->element, element) == 0 &&
		    strcmp(KNOWN[i]->granularity, granularity) == 0)
			return KNOWN[i];
	return NULL;
}
