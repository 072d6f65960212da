/* Do schemes that claim to differ really differ? Once ten "different" checkpoints
 * were shipped with identical weights, because nothing checked. */
#ifndef QUERN_QUANT_DIVERSITY_H
#define QUERN_QUANT_DIVERSITY_H

#include "lib/base/error.h"
#include "lib/base/text.h"

/* lists[count] are the lists of files of published checkpoints. For any two of them
 * the groups whose weights differ in bytes must be exactly those that one coverage
 * selects and the other does not; fails on the first pair and group for which that
 * is not so. Prints, for every pair, how many groups differ. */
bool compare_checkpoints(const char *const *lists, int count, text *out, error *err);

#endif
