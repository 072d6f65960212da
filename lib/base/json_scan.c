/* The strict scanner of json_scan.h: one function a production, and a small
 * state (`want`) in place of recursion. */
#include "lib/base/json_scan.h"

#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What may come next. */
enum want {
	WANT_VALUE,
	WANT_KEY,
	WANT_FIRST, /* a container was just opened: its first element or its end */
	WANT_MORE   /* a value just ended: a comma, its container's end, or the end */
};

/* ---- Characters ---- */

size_t utf8_sequence(const char *bytes, size_t size)
{
	static const uint32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
	if (size == 0)
		return 0;
	uint8_t lead = (uint8_t)bytes[0];
	if (lead < 0x80)
		return 1;
	size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
	if (lead < 0xc2 || lead > 0xf4 || size < length)
		return 0;
	uint32_t c = lead & (0x7fu >> length);
	for (size_t i = 1; i < length; i++) {
		if (((uint8_t)bytes[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | ((uint8_t)bytes[i] & 0x3f);
	}
	bool surrogate = c >= 0xd800 && c <= 0xdfff;
	return c < least[length] || c > 0x10ffff || surrogate ? 0 : length;
}

static size_t put_utf8(uint32_t c, char out[4])
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/* The value of four hexadecimal digits, or -1. */
static int32_t read_hex4(const char *digits)
{
	int32_t value = 0;
	for (int i = 0; i < 4; i++) {
		char c = digits[i];
		int digit = c >= '0' && c <= '9'   ? c - '0'
		            : c >= 'a' && c <= 'f' ? c - 'a' + 10
		            : c >= 'A' && c <= 'F' ? c - 'A' + 10
		                                   : -1;
		if (digit < 0)
			return -1;
		value = value << 4 | digit;
	}
	return value;
}

/* One character of a checked string, unescaped, as UTF-8 in out; moves *p past
 * it and returns its length. 0 at the closing quote. */
static size_t read_character(const char **p, char out[4])
{
	const char *at = *p;
	if (*at == '"')
		return 0;
	if (*at != '\\') {
		size_t length = utf8_sequence(at, 4);
		memcpy(out, at, length);
		*p = at + length;
		return length;
	}
	*p = at + 2;
	switch (at[1]) {
	case 'b': out[0] = '\b'; return 1;
	case 'f': out[0] = '\f'; return 1;
	case 'n': out[0] = '\n'; return 1;
	case 'r': out[0] = '\r'; return 1;
	case 't': out[0] = '\t'; return 1;
	case 'u': break;
	default: out[0] = at[1]; return 1; /* \" \\ \/ */
	}
	uint32_t c = (uint32_t)read_hex4(at + 2);
	*p = at + 6;
	if (c >= 0xd800 && c <= 0xdbff) {
		uint32_t low = (uint32_t)read_hex4(at + 8);
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
		*p = at + 12;
	}
	return put_utf8(c, out);
}

/* ---- Errors ---- */

void json_line_column(const char *text, size_t offset, int *line, int *column)
{
	*line = 1;
	*column = 1;
	for (size_t i = 0; i < offset; i++) {
		if (text[i] == '\n') {
			++*line;
			*column = 1;
		} else if (((uint8_t)text[i] & 0xc0) != 0x80) {
			++*column;
		}
	}
}

static bool fail_at_va(const struct json_scan *s, size_t offset, error *err,
                       const char *format, va_list args)
{
	char message[sizeof err->text];
	int line, column;
	vsnprintf(message, sizeof message, format, args);
	json_line_column(s->text, offset, &line, &column);
	return fail(err, EXIT_BAD_INPUT, "%s:%d:%d: %s", s->name, line, column, message);
}

static bool __attribute__((format(printf, 4, 5)))
fail_at(const struct json_scan *s, size_t offset, error *err, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fail_at_va(s, offset, err, format, args);
	va_end(args);
	return false;
}

bool json_scan_fail(const struct json_scan *s, error *err, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fail_at_va(s, s->start, err, format, args);
	va_end(args);
	return false;
}

/* How much of the token just read goes into a message. */
static int shown_bytes(const struct json_scan *s)
{
	size_t length = s->end - s->start;
	return length > 60 ? 60 : (int)length;
}

static int peek(const struct json_scan *s)
{
	return s->at < s->size ? (uint8_t)s->text[s->at] : -1;
}

/* "expected <what>, found <the byte at s->at>" */
static bool fail_expected(const struct json_scan *s, const char *what, error *err)
{
	int byte = peek(s);
	if (byte < 0)
		return fail_at(s, s->at, err, "expected %s, found the end of the text", what);
	if (byte > ' ' && byte < 127)
		return fail_at(s, s->at, err, "expected %s, found '%c'", what, byte);
	return fail_at(s, s->at, err, "expected %s, found byte 0x%02x", what, byte);
}

/* ---- Strings ---- */

static bool scan_escape(struct json_scan *s, error *err)
{
	size_t left = s->size - s->at;
	const char *at = s->text + s->at;
	if (left >= 2 && at[1] && strchr("\"\\/bfnrt", at[1])) {
		s->at += 2;
		return true;
	}
	int32_t c = left >= 6 && at[1] == 'u' ? read_hex4(at + 2) : -1;
	if (c < 0)
		return fail_at(s, s->at, err, "not an escape sequence");
	if (c == 0)
		return fail_at(s, s->at, err, "\\u0000 is not accepted in a string");
	s->at += 6;
	if (c < 0xd800 || c > 0xdfff)
		return true;
	int32_t low = left >= 12 && at[6] == '\\' && at[7] == 'u' ? read_hex4(at + 8) : -1;
	if (c > 0xdbff || low < 0xdc00 || low > 0xdfff)
		return fail_at(s, s->at - 6, err, "half a surrogate pair");
	s->at += 6;
	return true;
}

/* From an opening quote to behind the closing one. */
static bool scan_string(struct json_scan *s, error *err)
{
	size_t opening = s->at++;
	for (;;) {
		int byte = peek(s);
		if (byte < 0)
			return fail_at(s, opening, err, "a string without an end");
		if (byte == '"') {
			s->at++;
			return true;
		}
		if (byte < ' ')
			return fail_at(s, s->at, err, "control byte 0x%02x in a string", byte);
		if (byte == '\\') {
			if (!scan_escape(s, err))
				return false;
			continue;
		}
		size_t length = utf8_sequence(s->text + s->at, s->size - s->at);
		if (length == 0)
			return fail_at(s, s->at, err, "invalid UTF-8: byte 0x%02x", byte);
		s->at += length;
	}
}

bool json_scan_is(const struct json_scan *s, const char *plain)
{
	const char *p = s->text + s->start + 1;
	char piece[4];
	for (size_t n; (n = read_character(&p, piece)) > 0; plain += n)
		if (strncmp(piece, plain, n) != 0)
			return false;
	return *plain == '\0';
}

bool json_scan_text(const struct json_scan *s, char *out, size_t size,
                    const char *what, error *err)
{
	const char *p = s->text + s->start + 1;
	size_t used = 0;
	char piece[4];
	for (size_t n; (n = read_character(&p, piece)) > 0; used += n) {
		if (used + n >= size)
			return json_scan_fail(s, err, "%s: expected at most %zu bytes", what,
			                      size - 1);
		memcpy(out + used, piece, n);
	}
	out[used] = '\0';
	return true;
}

/* ---- Keys ---- */

static bool remember_key(struct json_scan *s, error *err)
{
	if (s->key_count == s->key_capacity) {
		size_t capacity = s->key_capacity ? s->key_capacity * 2 : 64;
		const char **keys = realloc(s->keys, capacity * sizeof *keys);
		if (!keys)
			return fail_memory(err, "the keys of a JSON text",
			                   capacity * sizeof *keys);
		s->keys = keys;
		s->key_capacity = capacity;
	}
	s->keys[s->key_count++] = s->text + s->start;
	return true;
}

/* Orders two keys, given by their opening quotes, by what they spell. */
static int compare_spelling(const char *a, const char *b)
{
	char piece_a[4], piece_b[4];
	a++;
	b++;
	for (;;) {
		size_t length_a = read_character(&a, piece_a);
		size_t length_b = read_character(&b, piece_b);
		if (length_a == 0 || length_b == 0)
			return (length_a > 0) - (length_b > 0);
		size_t shorter = length_a < length_b ? length_a : length_b;
		int order = memcmp(piece_a, piece_b, shorter);
		if (order)
			return order;
	}
}

/* By spelling, then by place. */
static int compare_keys(const void *a, const void *b)
{
	const char *key_a = *(const char *const *)a, *key_b = *(const char *const *)b;
	int order = compare_spelling(key_a, key_b);
	return order ? order : (key_a > key_b) - (key_a < key_b);
}

/* Fails on the key of the object now closing that first repeats another. Sorting
 * keeps this n log n whatever the keys are: there is no hash to attack. */
static bool check_keys(struct json_scan *s, error *err)
{
	size_t first = s->first_key[s->depth - 1], count = s->key_count - first;
	if (count < 2) {
		s->key_count = first;
		return true;
	}
	const char **keys = s->keys + first;
	const char *repeated = NULL, *original = NULL;
	qsort(keys, count, sizeof *keys, compare_keys);
	for (size_t i = 1; i < count; i++) {
		if (compare_spelling(keys[i - 1], keys[i]) != 0)
			continue;
		if (!repeated || keys[i] < repeated) {
			repeated = keys[i];
			original = keys[i - 1];
		}
	}
	s->key_count = first;
	if (!repeated)
		return true;
	int line, column;
	json_line_column(s->text, (size_t)(original - s->text), &line, &column);
	const char *end = repeated + 1;
	for (char piece[4]; read_character(&end, piece) > 0;)
		;
	return fail_at(s, (size_t)(repeated - s->text), err,
	               "the key \"%.*s\" is there twice, first at %d:%d",
	               (int)(end - repeated - 1 > 200 ? 200 : end - repeated - 1),
	               repeated + 1, line, column);
}

static bool scan_key(struct json_scan *s, error *err)
{
	if (peek(s) != '"')
		return fail_expected(s, "a key in quotes", err);
	if (!scan_string(s, err))
		return false;
	s->token = JSON_KEY;
	s->end = s->at;
	s->want = WANT_VALUE;
	return remember_key(s, err);
}

/* ---- Numbers ---- */

/* Digits at s->at; how many. */
static size_t scan_digits(struct json_scan *s)
{
	size_t first = s->at;
	while (peek(s) >= '0' && peek(s) <= '9')
		s->at++;
	return s->at - first;
}

/* Whether the number in text[length] fits a double. */
static bool fits_double(const char *text, size_t length)
{
	char copy[JSON_NUMBER_BYTES + 1];
	memcpy(copy, text, length);
	copy[length] = '\0';
	locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	double value = strtod_l(copy, NULL, plain);
	freelocale(plain);
	return isfinite(value);
}

static bool scan_number(struct json_scan *s, error *err)
{
	bool has_exponent = false;
	if (peek(s) == '-')
		s->at++;
	if (peek(s) == '0')
		s->at++;
	else if (scan_digits(s) == 0)
		return fail_expected(s, "a digit", err);
	if (peek(s) == '.') {
		s->at++;
		if (scan_digits(s) == 0)
			return fail_expected(s, "a digit", err);
	}
	if (peek(s) == 'e' || peek(s) == 'E') {
		has_exponent = true;
		s->at++;
		if (peek(s) == '+' || peek(s) == '-')
			s->at++;
		if (scan_digits(s) == 0)
			return fail_expected(s, "a digit", err);
	}
	size_t length = s->at - s->start;
	if (length > JSON_NUMBER_BYTES)
		return json_scan_fail(s, err, "a number of %zu bytes, expected at most %d",
		                      length, JSON_NUMBER_BYTES);
	if (has_exponent && !fits_double(s->text + s->start, length))
		return json_scan_fail(s, err, "the number %.*s is beyond a double",
		                      (int)length, s->text + s->start);
	s->token = JSON_NUMBER;
	return true;
}

/* The number in text[length] as an integer, if it is one of at most 64 bits. */
static bool read_integer(const char *text, size_t length, int64_t *out)
{
	bool negative = *text == '-';
	uint64_t value = 0, limit = (uint64_t)INT64_MAX + negative;
	for (size_t i = negative; i < length; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		uint64_t digit = (uint64_t)(text[i] - '0');
		if (value > (limit - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*out = (int64_t)(negative ? 0 - value : value);
	return true;
}

bool json_scan_integer(const struct json_scan *s, int64_t low, int64_t high,
                       int64_t *out, error *err)
{
	const char *text = s->text + s->start;
	size_t length = s->end - s->start;
	if (s->token == JSON_NUMBER && read_integer(text, length, out) && *out >= low &&
	    *out <= high)
		return true;
	return json_scan_fail(s, err, "expected an integer from %lld to %lld, found %.*s",
	                      (long long)low, (long long)high, shown_bytes(s), text);
}

/* ---- Values and containers ---- */

static bool scan_word(struct json_scan *s, const char *word, enum json_token token,
                      error *err)
{
	size_t length = strlen(word);
	if (s->size - s->at < length || memcmp(s->text + s->at, word, length) != 0)
		return fail_expected(s, "a value", err);
	s->at += length;
	s->token = token;
	return true;
}

static bool open_container(struct json_scan *s, error *err)
{
	bool object = peek(s) == '{';
	if (s->depth == JSON_MAX_DEPTH)
		return fail_at(s, s->at, err, "nested deeper than %d", JSON_MAX_DEPTH);
	s->closer[s->depth] = object ? '}' : ']';
	s->first_key[s->depth] = s->key_count;
	s->depth++;
	s->token = object ? JSON_OBJECT_OPEN : JSON_ARRAY_OPEN;
	s->end = ++s->at;
	s->want = WANT_FIRST;
	return true;
}

static bool close_container(struct json_scan *s, error *err)
{
	bool object = s->closer[s->depth - 1] == '}';
	s->start = s->at;
	s->end = ++s->at;
	s->token = object ? JSON_OBJECT_CLOSE : JSON_ARRAY_CLOSE;
	s->want = WANT_MORE;
	if (object && !check_keys(s, err))
		return false;
	s->depth--;
	return true;
}

static bool scan_scalar(struct json_scan *s, error *err)
{
	int byte = peek(s);
	bool ok;
	if (byte == '"') {
		s->token = JSON_STRING;
		ok = scan_string(s, err);
	} else if (byte == '-' || (byte >= '0' && byte <= '9')) {
		ok = scan_number(s, err);
	} else if (byte == 't') {
		ok = scan_word(s, "true", JSON_TRUE, err);
	} else if (byte == 'f') {
		ok = scan_word(s, "false", JSON_FALSE, err);
	} else {
		ok = scan_word(s, "null", JSON_NULL, err);
	}
	s->end = s->at;
	s->want = WANT_MORE;
	return ok;
}

static void skip_space(struct json_scan *s)
{
	while (s->at < s->size && memchr(" \t\n\r", s->text[s->at], 4))
		s->at++;
}

/* The text's one value was read: nothing but space may follow. */
static bool scan_end(struct json_scan *s, error *err)
{
	if (s->at < s->size)
		return fail_expected(s, "the end of the text", err);
	s->token = JSON_END;
	s->start = s->end = s->at;
	return true;
}

static bool next_in_container(struct json_scan *s, error *err)
{
	char closer = s->closer[s->depth - 1];
	if (peek(s) == closer)
		return close_container(s, err);
	if (s->want == WANT_MORE) {
		if (peek(s) != ',')
			return fail_expected(s, closer == '}' ? "',' or '}'" : "',' or ']'", err);
		s->at++;
		skip_space(s);
	}
	s->want = closer == '}' ? WANT_KEY : WANT_VALUE;
	return true;
}

bool json_scan_next(struct json_scan *s, error *err)
{
	skip_space(s);
	if (s->want == WANT_MORE && s->depth == 0)
		return scan_end(s, err);
	if (s->token == JSON_KEY) {
		if (peek(s) != ':')
			return fail_expected(s, "':'", err);
		s->at++;
		skip_space(s);
	} else if (s->want != WANT_VALUE) {
		if (!next_in_container(s, err))
			return false;
		if (s->want == WANT_MORE) /* it closed */
			return true;
	}
	s->start = s->at;
	if (s->want == WANT_KEY)
		return scan_key(s, err);
	if (peek(s) == '{' || peek(s) == '[')
		return open_container(s, err);
	return scan_scalar(s, err);
}

void json_scan_begin(struct json_scan *s, const char *name, const char *text,
                     size_t size)
{
	*s = (struct json_scan){ .name = name, .text = text, .size = size,
	                         .want = WANT_VALUE };
}

void json_scan_free(struct json_scan *s)
{
	free(s->keys);
	*s = (struct json_scan){ 0 };
}

bool json_scan_expect(struct json_scan *s, enum json_token token, const char *what,
                      error *err)
{
	if (!json_scan_next(s, err))
		return false;
	if (s->token == token)
		return true;
	if (s->token == JSON_END)
		return json_scan_fail(s, err, "expected %s, found the end of the text", what);
	return json_scan_fail(s, err, "expected %s, found %.*s", what, shown_bytes(s),
	                      s->text + s->start);
}

bool json_scan_skip(struct json_scan *s, error *err)
{
	if (s->token != JSON_OBJECT_OPEN && s->token != JSON_ARRAY_OPEN)
		return true;
	int outside = s->depth - 1;
	while (s->depth > outside)
		if (!json_scan_next(s, err))
			return false;
	return true;
}

bool json_scan_check(const char *name, const char *text, size_t size, error *err)
{
	struct json_scan s;
	bool ok;
	json_scan_begin(&s, name, text, size);
	while ((ok = json_scan_next(&s, err)) && s.token != JSON_END)
		;
	json_scan_free(&s);
	return ok;
}
