/* UTF-8, character classes and NFC; see unicode.h.
 *
 * Normalisation is that of UAX #15: decompose, order the combining marks,
 * compose. Hangul goes by the arithmetic of the Unicode standard, section 3.12. */
#include "lib/data/unicode.h"

#include <stdlib.h>
#include <string.h>

#include "lib/data/unicode_tables.h"

enum {
	HANGUL_FIRST = 0xAC00, LEAD_FIRST = 0x1100, VOWEL_FIRST = 0x1161,
	TRAIL_BASE = 0x11A7, /* one before the first trailing consonant */
	LEADS = 19, VOWELS = 21, TRAILS = 28, SYLLABLES = LEADS * VOWELS * TRAILS
};

/* Below this, text is always in NFC: no combining marks, no singletons. */
enum { FIRST_COMBINING = 0x300 };

/* While text is being normalised, the combining class of a code point rides in
 * the eight bits above its 21. */
enum { CLASS_SHIFT = 24, CODE_MASK = 0xFFFFFF, CLASSES = 256 };

size_t utf8_read(const char *text, size_t length, uint32_t *code)
{
	const uint8_t *s = (const uint8_t *)text;
	*code = s[0];
	if (s[0] < 0x80)
		return 1;
	*code = REPLACEMENT_CHARACTER;
	if (s[0] < 0xC2 || s[0] > 0xF4)
		return 1;
	size_t bytes = s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
	/* Shortest form, no surrogates, nothing past U+10FFFF: all that depends on
	 * the second byte alone. */
	uint8_t low = s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80;
	uint8_t high = s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF;
	uint32_t value = s[0] & (0xFFu >> (bytes + 1));
	for (size_t i = 1; i < bytes; i++) {
		if (i >= length || s[i] < low || s[i] > high)
			return i;
		value = value << 6 | (s[i] & 0x3F);
		low = 0x80;
		high = 0xBF;
	}
	*code = value;
	return bytes;
}

size_t utf8_write(uint32_t code, char out[UTF8_MAX_BYTES])
{
	static const uint8_t lead[] = { 0, 0, 0xC0, 0xE0, 0xF0 };
	if (code < 0x80) {
		out[0] = (char)code;
		return 1;
	}
	size_t bytes = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
	for (size_t i = bytes - 1; i > 0; i--, code >>= 6)
		out[i] = (char)(0x80 | (code & 0x3F));
	out[0] = (char)(lead[bytes] | code);
	return bytes;
}

static bool in_ranges(const struct code_range *ranges, size_t count, uint32_t code)
{
	size_t low = 0, high = count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (code > ranges[middle].last)
			low = middle + 1;
		else
			high = middle;
	}
	return low < count && code >= ranges[low].first;
}

bool code_is_letter(uint32_t code)
{
	if (code < 0x80)
		return (code | 0x20) >= 'a' && (code | 0x20) <= 'z';
	return in_ranges(letter_ranges, letter_ranges_count, code);
}

bool code_is_number(uint32_t code)
{
	if (code < 0x80)
		return code >= '0' && code <= '9';
	return in_ranges(number_ranges, number_ranges_count, code);
}

bool code_is_space(uint32_t code)
{
	return (code >= 0x09 && code <= 0x0D) || code == ' ' || code == 0x85 ||
	       code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) ||
	       code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F ||
	       code == 0x3000;
}

static uint32_t combining_class(uint32_t code)
{
	size_t low = 0, high = code < FIRST_COMBINING ? 0 : combining_classes_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct class_range *range = &combining_classes[middle];
		if (code > range->last)
			low = middle + 1;
		else if (code < range->first)
			high = middle;
		else
			return range->combining_class;
	}
	return 0;
}

static const struct decomposition *find_decomposition(uint32_t code)
{
	size_t low = 0, high = decompositions_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (code > decompositions[middle].code)
			low = middle + 1;
		else
			high = middle;
	}
	bool found = low < decompositions_count && decompositions[low].code == code;
	return found ? &decompositions[low] : NULL;
}

static bool push_code(struct codepoints *c, uint32_t code, error *err)
{
	if (c->count == c->capacity) {
		size_t capacity = c->capacity ? c->capacity * 2 : 64;
		uint32_t *at = realloc(c->at, capacity * sizeof *at);
		if (!at)
			return fail_memory(err, "a text", capacity * sizeof *at);
		c->at = at;
		c->capacity = capacity;
	}
	c->at[c->count++] = code;
	return true;
}

static bool push_hangul(struct codepoints *out, uint32_t syllable, error *err)
{
	uint32_t index = syllable - HANGUL_FIRST, trail = index % TRAILS;
	return push_code(out, LEAD_FIRST + index / (VOWELS * TRAILS), err) &&
	       push_code(out, VOWEL_FIRST + index / TRAILS % VOWELS, err) &&
	       (trail == 0 || push_code(out, TRAIL_BASE + trail, err));
}

/* Appends the full decomposition, every code with its combining class. */
static bool push_decomposed(struct codepoints *out, uint32_t code, error *err)
{
	if (code < 0xC0)
		return push_code(out, code, err);
	if (code >= HANGUL_FIRST && code < HANGUL_FIRST + SYLLABLES)
		return push_hangul(out, code, err);
	const struct decomposition *d = find_decomposition(code);
	if (!d)
		return push_code(out, code | combining_class(code) << CLASS_SHIFT, err);
	return push_decomposed(out, d->first, err) &&
	       (d->second == 0 || push_decomposed(out, d->second, err));
}

/* Sorts a run of marks by class, equal classes staying in order. By counting,
 * so that a long run costs no more than a short one. */
static bool sort_marks(uint32_t *at, size_t count, error *err)
{
	size_t i = 1, next[CLASSES + 1] = { 0 };
	while (i < count && at[i - 1] >> CLASS_SHIFT <= at[i] >> CLASS_SHIFT)
		i++;
	if (i >= count)
		return true;
	uint32_t *sorted = malloc(count * sizeof *sorted);
	if (!sorted)
		return fail_memory(err, "a text", count * sizeof *sorted);
	for (i = 0; i < count; i++)
		next[(at[i] >> CLASS_SHIFT) + 1]++;
	for (i = 1; i <= CLASSES; i++)
		next[i] += next[i - 1];
	for (i = 0; i < count; i++)
		sorted[next[at[i] >> CLASS_SHIFT]++] = at[i];
	memcpy(at, sorted, count * sizeof *sorted);
	free(sorted);
	return true;
}

static bool order_marks(uint32_t *at, size_t count, error *err)
{
	for (size_t i = 0; i < count;) {
		size_t end = i;
		while (end < count && at[end] >> CLASS_SHIFT)
			end++;
		if (!sort_marks(at + i, end - i, err))
			return false;
		i = end + 1;
	}
	return true;
}

static uint32_t compose_hangul(uint32_t first, uint32_t second)
{
	if (first >= LEAD_FIRST && first < LEAD_FIRST + LEADS && second >= VOWEL_FIRST &&
	    second < VOWEL_FIRST + VOWELS)
		return HANGUL_FIRST + ((first - LEAD_FIRST) * VOWELS + second - VOWEL_FIRST) *
		                              TRAILS;
	if (first >= HANGUL_FIRST && first < HANGUL_FIRST + SYLLABLES &&
	    (first - HANGUL_FIRST) % TRAILS == 0 && second > TRAIL_BASE &&
	    second < TRAIL_BASE + TRAILS)
		return first + second - TRAIL_BASE;
	return 0;
}

/* The code point that both make together, or 0. */
static uint32_t compose_pair(uint32_t first, uint32_t second)
{
	uint32_t hangul = compose_hangul(first, second);
	uint64_t wanted = (uint64_t)first << 32 | second;
	size_t low = 0, high = hangul ? 0 : compositions_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct decomposition *d = &decompositions[compositions[middle]];
		uint64_t found = (uint64_t)d->first << 32 | d->second;
		if (found == wanted)
			return d->code;
		if (found < wanted)
			low = middle + 1;
		else
			high = middle;
	}
	return hangul;
}

/* Composes at[count] in place, drops the classes, and returns the new count. A
 * mark reaches its starter unless a mark of its own class, or one without class,
 * stands between them. */
static size_t compose(uint32_t *at, size_t count)
{
	size_t kept = 0, starter = SIZE_MAX;
	uint32_t last_class = 0;
	for (size_t i = 0; i < count; i++) {
		uint32_t class = at[i] >> CLASS_SHIFT, code = at[i] & CODE_MASK;
		bool reaches = starter != SIZE_MAX && (last_class == 0 || last_class < class);
		uint32_t both = reaches ? compose_pair(at[starter], code) : 0;
		if (both) {
			at[starter] = both;
			continue;
		}
		if (class == 0)
			starter = kept;
		last_class = class;
		at[kept++] = code;
	}
	return kept;
}

bool nfc_from_utf8(struct codepoints *out, const char *text, size_t length, error *err)
{
	size_t start = out->count;
	uint32_t code, highest = 0;
	for (size_t i = 0; i < length;) {
		i += utf8_read(text + i, length - i, &code);
		if (!push_code(out, code, err))
			return false;
		highest = code > highest ? code : highest;
	}
	if (highest < FIRST_COMBINING)
		return true;
	out->count = start;
	for (size_t i = 0; i < length;) {
		i += utf8_read(text + i, length - i, &code);
		if (!push_decomposed(out, code, err))
			return false;
	}
	if (!order_marks(out->at + start, out->count - start, err))
		return false;
	out->count = start + compose(out->at + start, out->count - start);
	return true;
}

void codepoints_free(struct codepoints *c)
{
	free(c->at);
	*c = (struct codepoints){ 0 };
}
