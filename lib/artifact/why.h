/* Why an edge last did something: its keys compared, line by line, with those of the
 * run before. */
#ifndef QUERN_ARTIFACT_WHY_H
#define QUERN_ARTIFACT_WHY_H

#include "lib/artifact/log.h"
#include "lib/base/text.h"

/* Explains every target of the log that is `name`, or has it as a folder or as a
 * file's name up to a dot: a scheme's name finds all edges of the scheme. *found is
 * how many there are. */
bool explain_target(const struct edge_log *log, const char *tree, const char *name,
                    text *out, int *found, error *err);

/* The lines in which two keys' texts differ, in words, one to a line. */
bool explain_keys(const char *before, const char *after, text *out, error *err);

#endif
