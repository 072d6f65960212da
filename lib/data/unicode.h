/* What the tokenizer needs of Unicode: UTF-8, three character classes, NFC.
 *
 * All of it follows the reference tokenizer (Rust `tokenizers`), which is of two
 * ages: classes as in Unicode 16, normalisation as in Unicode 9. */
#ifndef QUERN_DATA_UNICODE_H
#define QUERN_DATA_UNICODE_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/error.h"

/* A growing list of code points; all zero is empty. */
struct codepoints {
	uint32_t *at;
	size_t count, capacity;
};

enum { REPLACEMENT_CHARACTER = 0xFFFD, UTF8_MAX_BYTES = 4 };

/* Reads one code point from text[length], length > 0, and returns the bytes it
 * took. A byte sequence that is no UTF-8 reads as one U+FFFD for each maximal
 * subpart (Unicode 16, section 3.9), as Python's and Rust's decoders do. */
size_t utf8_read(const char *text, size_t length, uint32_t *code);

/* Writes a code point and returns how many bytes it took. */
size_t utf8_write(uint32_t code, char out[UTF8_MAX_BYTES]);

bool code_is_letter(uint32_t code); /* \p{L} */
bool code_is_number(uint32_t code); /* \p{N} */
bool code_is_space(uint32_t code);  /* \s */

/* Appends text[length], decoded and brought to NFC, to *out. */
bool nfc_from_utf8(struct codepoints *out, const char *text, size_t length,
                   error *err);
void codepoints_free(struct codepoints *c);

#endif
