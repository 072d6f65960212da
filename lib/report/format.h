/* Numbers and names as reports show them. Private to lib/report. */
#ifndef QUERN_REPORT_FORMAT_H
#define QUERN_REPORT_FORMAT_H

#include "lib/base/text.h"
#include "lib/report/findings.h"

enum { SHOWN_BYTES = 48 };

/* What stands where an artifact has no number. */
#define NOT_THERE "missing"

/* printf of one double, or NOT_THERE. */
const char *show(char out[SHOWN_BYTES], const char *format, double value);

/* "1.23e-03 ± 4e-04", "0.94 ± 0.01"; a plain 0 where both are. */
const char *show_estimate(char out[SHOWN_BYTES], const char *format, struct estimate e);

const char *show_text(const char *text);

/* The name without what all names of quern have around it: "all_layers_top50". */
void short_name(char *out, size_t size, const char *scheme);

/* The same, but with its end where another scheme of the model would be called so too. */
void short_scheme(char *out, size_t size, const struct findings *f,
                  const struct found_scheme *s);

/* "visual.blocks.3.attn.proj" */
int group_length(const char *group);

/* What the groups of a scheme are quantised to: "FP8_DEFAULT_CFG 12, cache fp8", or
 * NOT_THERE. */
void add_formats(text *out, const struct found_scheme *s);

/* Text inside HTML. */
void add_escaped(text *out, const char *plain);

#endif
