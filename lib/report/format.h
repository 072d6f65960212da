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

/* "1.2e-03 ± 4e-04" */
const char *show_estimate(char out[SHOWN_BYTES], const char *format, struct estimate e);

const char *show_text(const char *text);

/* The name without what all names of quern have around it: "all_layers_top50". */
void short_name(char *out, size_t size, const char *scheme);

/* "visual.blocks.3.attn.proj" */
int group_length(const char *group);

/* Text inside HTML. */
void add_escaped(text *out, const char *plain);

#endif
