/* See provenance.h. */
#include "lib/quant/provenance.h"

#include <string.h>

bool provenance_read(struct provenance *p, const json_doc *manifest, error *err)
{
	const cJSON *section = cJSON_GetObjectItemCaseSensitive(manifest->root, "provenance");
	const char *numerics = "quern", *scales = "group";
	if (section && !(json_text_or(manifest, section, "numerics", &numerics, err) &&
	                 json_text_or(manifest, section, "weight_scales", &scales, err)))
		return false;
	p->shared_scales = strcmp(scales, "group") == 0;
	return numerics_from_name(numerics, &p->numerics) ||
	       json_fail(manifest, section, err, "unknown numerics \"%s\"", numerics);
}

const struct format *provenance_format(const json_doc *manifest, const char *name,
                                       error *err)
{
	const char *element, *granularity;
	const cJSON *section = json_object(manifest, manifest->root, "provenance", err);
	const cJSON *formats = section ? json_object(manifest, section, "formats", err) : NULL;
	const cJSON *entry = formats ? json_object(manifest, formats, name, err) : NULL;
	if (!entry || !json_text(manifest, entry, "element", &element, err) ||
	    !json_text(manifest, entry, "granularity", &granularity, err))
		return NULL;
	const struct format *format = format_find(element, granularity);
	if (!format)
		json_fail(manifest, entry, err, "no format \"%.40s\", \"%.40s\"", element,
		          granularity);
	return format;
}
