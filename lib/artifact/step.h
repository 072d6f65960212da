/* The frame around a cheap edge, one that is done again sooner than its result is
 * found: it has a key like any other, so that "why did this run" has an answer, and a
 * line in the log, but the store is not asked.
 *
 *   step_begin(&s, tree, "merge", target, &err) && step_input(&s, "part", path, &err)
 *   && ...the work, step_write(&s, path, &text, &err)... && step_end(&s, &err)
 *   step_drop(&s)
 *
 * The key's text is kept as <tree>/log/keys/<its digest>.txt. */
#ifndef QUERN_ARTIFACT_STEP_H
#define QUERN_ARTIFACT_STEP_H

#include <stdint.h>
#include <time.h>

#include "lib/artifact/key.h"
#include "lib/base/text.h"

/* Without a tree (a tool run by hand) nothing is kept and nothing logged. All zero is
 * one not begun. */
struct step {
	const char *tree, *tool, *target; /* the caller's */
	struct key key;
	struct timespec begun;
	uint64_t bytes; /* that the edge wrote */
};

bool step_begin(struct step *s, const char *tree, const char *tool, const char *target,
                error *err);

/* Adds a file's digest to the key under a name; several under one name. */
bool step_input(struct step *s, const char *name, const char *path, error *err);
bool step_inputs(struct step *s, const char *name, const char *const *paths, int count,
                 error *err);

/* Makes the file hold this text, if it does not yet. */
bool step_write(struct step *s, const char *path, const text *content, error *err);

/* Keeps the key's text and logs. */
bool step_end(struct step *s, error *err);
void step_drop(struct step *s); /* frees, after whatever came before */

/* The text of a key that a step or a result of the store left in a tree; *found is
 * false when neither is there whole. The caller frees *out. */
bool key_recall(const char *tree, const struct digest *key, char **out, bool *found,
                error *err);

#endif
