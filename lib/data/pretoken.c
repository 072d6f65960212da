/* The pre-tokeniser pattern as a hand-written matcher; see pretoken.h. */
#include "lib/data/pretoken.h"

#include <stdbool.h>

#include "lib/data/unicode.h"

const char pretoken_pattern[] =
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
	" ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

enum { LONG_S = 0x17F }; /* the one other code point that folds to an s */

static bool is_line_end(uint32_t code)
{
	return code == '\r' || code == '\n';
}

/* [^\s\p{L}\p{N}] */
static bool is_mark(uint32_t code)
{
	return !code_is_space(code) && !code_is_letter(code) && !code_is_number(code);
}

static uint32_t fold_ascii(uint32_t code)
{
	if (code == LONG_S)
		return 's';
	return code >= 'A' && code <= 'Z' ? code + ('a' - 'A') : code;
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d) at an apostrophe: its end, or 0. */
static size_t contraction_end(const uint32_t *code, size_t count, size_t start)
{
	uint32_t first = start + 1 < count ? fold_ascii(code[start + 1]) : 0;
	uint32_t second = start + 2 < count ? fold_ascii(code[start + 2]) : 0;
	if (first == 's' || first == 't' || first == 'm' || first == 'd')
		return start + 2;
	if ((second == 'e' && (first == 'r' || first == 'v')) ||
	    (first == 'l' && second == 'l'))
		return start + 3;
	return 0;
}

static size_t letters_end(const uint32_t *code, size_t count, size_t i)
{
	while (i < count && code_is_letter(code[i]))
		i++;
	return i;
}

/* [^\s\p{L}\p{N}]+[\r\n]* */
static size_t marks_end(const uint32_t *code, size_t count, size_t i)
{
	while (i < count && is_mark(code[i]))
		i++;
	while (i < count && is_line_end(code[i]))
		i++;
	return i;
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ : up to the last line end of the white space if it
 * has one, otherwise all of it but the character that the next word takes. */
static size_t space_end(const uint32_t *code, size_t count, size_t start)
{
	size_t end = start, after_line_end = 0;
	for (; end < count && code_is_space(code[end]); end++)
		if (is_line_end(code[end]))
			after_line_end = end + 1;
	if (after_line_end)
		return after_line_end;
	return end < count && end - start > 1 ? end - 1 : end;
}

size_t pretoken_end(const uint32_t *code, size_t count, size_t start)
{
	uint32_t first = code[start];
	if (first == '\'') {
		size_t end = contraction_end(code, count, start);
		if (end)
			return end;
	}
	if (code_is_letter(first))
		return letters_end(code, count, start);
	if (code_is_number(first))
		return start + 1;
	bool letter_next = start + 1 < count && code_is_letter(code[start + 1]);
	if (letter_next && !is_line_end(first))
		return letters_end(code, count, start + 1);
	if (is_mark(first))
		return marks_end(code, count, start);
	if (first == ' ' && start + 1 < count && is_mark(code[start + 1]))
		return marks_end(code, count, start + 1);
	return space_end(code, count, start);
}
