/* Qwen2's pre-tokeniser: cuts text into the pieces that merges never cross.
 *
 * The pattern is matched by hand, alternative by alternative in the pattern's
 * order, which also says why each one ends where it ends; a regular expression
 * engine with lookahead and Unicode classes would be the larger dependency. */
#ifndef QUERN_DATA_PRETOKEN_H
#define QUERN_DATA_PRETOKEN_H

#include <stddef.h>
#include <stdint.h>

/* The pattern as tokenizer.json writes it. */
extern const char pretoken_pattern[];

/* The end of the piece that begins at code[start], start < count. */
size_t pretoken_end(const uint32_t *code, size_t count, size_t start);

#endif
