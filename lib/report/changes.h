/* What changed between two schemes, or two baselines, as text for a person. */
#ifndef QUERN_REPORT_CHANGES_H
#define QUERN_REPORT_CHANGES_H

#include "lib/base/text.h"
#include "lib/report/findings.h"

/* Groups that one quantises and the other does not, bits, size, where groups moved in
 * the ranking (between schemes of different baselines), and damage: the difference,
 * paired sample by sample, with its standard error. */
bool print_changes(const struct findings *f, const struct found_scheme *a,
                   const struct found_scheme *b, text *out, error *err);

#endif
