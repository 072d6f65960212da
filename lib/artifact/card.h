/* The seal of a model card. The card of a checkpoint is no part of its list of files, since
 * it is completed after the list was made and names the list's digest; so its last line
 * gives the digest of all lines above it. */
#ifndef QUERN_ARTIFACT_CARD_H
#define QUERN_ARTIFACT_CARD_H

#include "lib/base/error.h"
#include "lib/base/text.h"

/* The one file of a checkpoint that is not in its list. */
#define CARD_FILE "README.md"

/* Appends the last line to a card whose text ends with a line's end. */
bool card_seal(text *card, error *err);

/* Reads a card, without its seal, into *out, after holding the one against the other. */
bool card_read(const char *path, text *out, error *err);

/* A card belongs to a checkpoint when it is whole and names the digest of the list of
 * files, which lies at `list`. */
bool card_check(const char *folder, const char *list, error *err);

#endif
