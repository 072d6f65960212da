/* What programs did with the checkpoints on this machine, as `ninja probe_vllm` and
 * `ninja probe_transformers` recorded it. */
#ifndef QUERN_REPORT_PROBES_H
#define QUERN_REPORT_PROBES_H

#include "lib/base/text.h"
#include "lib/report/findings.h"

/* A section of the Markdown, and one of the page. */
bool print_probes_markdown(const struct findings *f, text *out, error *err);
bool print_probes_page(const struct findings *f, text *out, error *err);

#endif
