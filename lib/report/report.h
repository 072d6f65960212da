/* A model's report, as Markdown and as one HTML page that needs nothing else: styles,
 * script and plots are in it. */
#ifndef QUERN_REPORT_REPORT_H
#define QUERN_REPORT_REPORT_H

#include "lib/base/text.h"
#include "lib/report/findings.h"

bool print_report_markdown(const struct findings *f, text *out, error *err);
bool print_report_page(const struct findings *f, text *out, error *err);

#endif
