/* UTF-8, character classes and NFC, over every code point there is. */
#include "lib/data/unicode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CODES = 0x110000 };

static bool is_surrogate(uint32_t code)
{
	return code >= 0xD800 && code < 0xE000;
}

/* FNV-1a, continued from h. */
static uint64_t hash_more(uint64_t h, const char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		h = (h ^ (uint8_t)bytes[i]) * 0x100000001B3u;
	return h;
}

static const uint64_t hash_start = 0xCBF29CE484222325u;

static void reads_what_it_writes(void **state)
{
	(void)state;
	for (uint32_t code = 0; code < CODES; code++) {
		char bytes[UTF8_MAX_BYTES];
		uint32_t back;
		if (is_surrogate(code))
			continue;
		size_t length = utf8_write(code, bytes);
		assert_int_equal(utf8_read(bytes, length, &back), length);
		assert_int_equal(back, code);
		for (size_t cut = 1; cut < length; cut++) {
			assert_int_equal(utf8_read(bytes, cut, &back), cut);
			assert_int_equal(back, REPLACEMENT_CHARACTER);
		}
	}
}

/* Expected texts are Python's bytes.decode("utf-8", "replace"). */
static void replaces_each_maximal_subpart(void **state)
{
	(void)state;
#define R "\xEF\xBF\xBD"
	static const struct {
		const char *bytes, *expected;
	} cases[] = {
		{ "a\x80z", "a" R "z" },
		{ "\xC0\xAF", R R },
		{ "\xC3(", R "(" },
		{ "\xE0\x9F\x80", R R R },
		{ "\xE1\x80(", R "(" },
		{ "\xE1\x80\xE2\xF0\x91\x92\xF1\xBF", R R R R },
		{ "\xED\xA0\x80", R R R },
		{ "\xF0\x8F\xBF\xBF", R R R R },
		{ "\xF0\x90\x80", R },
		{ "\xF4\x90\x80\x80", R R R R },
		{ "\xF5\xFF\xFE", R R R },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char out[64];
		size_t used = 0, length = strlen(cases[i].bytes);
		for (size_t at = 0; at < length;) {
			uint32_t code;
			at += utf8_read(cases[i].bytes + at, length - at, &code);
			used += utf8_write(code, out + used);
		}
		out[used] = '\0';
		assert_string_equal(out, cases[i].expected);
	}
#undef R
}

/* The figure: the same FNV-1a over the same bits in Python with unicodedata2
 * 16.0.0 (category()[0] 'L' 1, 'N' 2, White_Space 4); every member was compared
 * with the reference tokenizer's own regular expressions. */
static void classes_are_those_of_unicode_16(void **state)
{
	(void)state;
	uint64_t h = hash_start;
	for (uint32_t code = 0; code < CODES; code++) {
		if (is_surrogate(code))
			continue;
		char bits = (char)(code_is_letter(code) | code_is_number(code) << 1 |
		                   code_is_space(code) << 2);
		h = hash_more(h, &bits, 1);
	}
	assert_true(h == 0xD7A7B7C66BFAF257u);
}

/* NFC of text as UTF-8 into out; returns its length. */
static size_t normalize(const char *text, size_t length, char *out)
{
	struct codepoints codes = { 0 };
	error err;
	size_t used = 0;
	assert_true(nfc_from_utf8(&codes, text, length, &err));
	for (size_t i = 0; i < codes.count; i++)
		used += utf8_write(codes.at[i], out + used);
	codepoints_free(&codes);
	return used;
}

/* c U+0327 U+0301 c a c U+0323 c U+11A8 for a code point c */
static size_t write_probe(uint32_t code, char *out)
{
	uint32_t probe[] = { code, 0x327, 0x301, code, 'a', code, 0x323, code, 0x11A8 };
	size_t used = 0;
	for (size_t i = 0; i < sizeof probe / sizeof *probe; i++)
		used += utf8_write(probe[i], out + used);
	return used;
}

/* The figure: the same FNV-1a over unicodedata.normalize("NFC", probe) in Python
 * 3.6. Planes 3 to 13 hold nothing that normalises. */
static void nfc_is_that_of_unicode_9(void **state)
{
	(void)state;
	uint64_t h = hash_start;
	for (uint32_t code = 0; code < CODES; code++) {
		char probe[64], out[256];
		bool plane_probed = code < 0x30000 || (code >= 0xE0000 && code < 0xE0200);
		if (is_surrogate(code) || !plane_probed)
			continue;
		size_t length = normalize(probe, write_probe(code, probe), out);
		h = hash_more(h, out, length);
		assert_int_equal(normalize(out, length, probe), length);
		assert_memory_equal(out, probe, length);
	}
	assert_true(h == 0x500DF50A3D83E3ECu);
}

static void orders_a_long_run_of_marks(void **state)
{
	(void)state;
	enum { PAIRS = 20000 };
	char *text = malloc(1 + PAIRS * 4), *expected = malloc(1 + PAIRS * 4);
	char *out = malloc(1 + PAIRS * 4);
	assert_non_null(text);
	assert_non_null(expected);
	assert_non_null(out);
	text[0] = expected[0] = 'q';
	for (size_t i = 0; i < PAIRS; i++) {
		memcpy(text + 1 + i * 4, "\xCC\x81\xCC\xA3", 4); /* 0301 (230), 0323 (220) */
		memcpy(expected + 1 + i * 2, "\xCC\xA3", 2);
		memcpy(expected + 1 + (PAIRS + i) * 2, "\xCC\x81", 2);
	}
	assert_int_equal(normalize(text, 1 + PAIRS * 4, out), 1 + PAIRS * 4);
	assert_memory_equal(out, expected, 1 + PAIRS * 4);
	free(text);
	free(expected);
	free(out);
}

static void appends_to_what_is_there(void **state)
{
	(void)state;
	struct codepoints codes = { 0 };
	error err;
	assert_true(nfc_from_utf8(&codes, "e", 1, &err));
	assert_true(nfc_from_utf8(&codes, "\xCC\x81", 2, &err));
	assert_true(nfc_from_utf8(&codes, "", 0, &err));
	assert_int_equal(codes.count, 2);
	assert_int_equal(codes.at[0], 'e');
	assert_int_equal(codes.at[1], 0x301);
	codepoints_free(&codes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_it_writes),
		cmocka_unit_test(replaces_each_maximal_subpart),
		cmocka_unit_test(classes_are_those_of_unicode_16),
		cmocka_unit_test(nfc_is_that_of_unicode_9),
		cmocka_unit_test(orders_a_long_run_of_marks),
		cmocka_unit_test(appends_to_what_is_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
