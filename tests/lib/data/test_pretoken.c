/* Where the pre-tokeniser cuts. The expected pieces are those of the reference
 * (Rust `tokenizers`, Oniguruma) for the same pattern. */
#include "lib/data/pretoken.h"
#include "lib/data/unicode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_CODES = 256 };

/* Cuts text and writes the pieces with a "|" after each. */
static void cut(const char *text, char *out)
{
	uint32_t codes[MAX_CODES];
	size_t count = 0, used = 0, length = strlen(text);
	for (size_t i = 0; i < length; count++) {
		assert_true(count < MAX_CODES);
		i += utf8_read(text + i, length - i, &codes[count]);
	}
	for (size_t start = 0; start < count;) {
		size_t end = pretoken_end(codes, count, start);
		assert_true(end > start && end <= count);
		for (; start < end; start++)
			used += utf8_write(codes[start], out + used);
		out[used++] = '|';
	}
	out[used] = '\0';
}

static void cuts_as_the_reference(void **state)
{
	(void)state;
	static const struct {
		const char *text, *pieces;
	} cases[] = {
		{ "", "" },
		{ "It's a dog's", "It|'s| a| dog|'s|" },
		{ "'reVE'Re'LL'lL'm'D't", "'re|VE|'Re|'LL|'lL|'m|'D|'t|" },
		{ "'r 'vx 'l 'x '", "'r| '|vx| '|l| '|x| '|" },
		{ "it'\xC5\xBFx", "it|'\xC5\xBF|x|" },           /* U+017F folds to s */
		{ "it'\xC3\x9Fx", "it|'\xC3\x9Fx|" },             /* U+00DF does not */
		{ "it\xE2\x80\x99s", "it|\xE2\x80\x99s|" },       /* a curly apostrophe */
		{ "a1b22", "a|1|b|2|2|" },
		{ "x\xC2\xB2\xE2\x85\xA7y", "x|\xC2\xB2|\xE2\x85\xA7|y|" },
		{ "Hello, world!!\n\nNext", "Hello|,| world|!!\n\n|Next|" },
		{ "  two  spaces", " | two| | spaces|" },
		{ "end  ", "end|  |" },
		{ "  \r\n \n  x", "  \r\n \n| | x|" },
		{ "\n\nx", "\n\n|x|" },
		{ "\tx \t1", "\tx| |\t|1|" },
		{ " 1  !", " |1| | !|" },
		{ "\t!", "\t|!|" },
		{ " \xCC\x81", " \xCC\x81|" },                    /* space, U+0301 */
		{ "\nx", "\n|x|" },
		{ "\xC2\x85\x0B\x1C\xE2\x80\x8B x", "\xC2\x85|\x0B|\x1C\xE2\x80\x8B| x|" },
		{ "\xE3\x80\x80\xE4\xB8\xAD\xE6\x96\x87", "\xE3\x80\x80\xE4\xB8\xAD\xE6\x96\x87|" },
		{ "\xF0\x9F\x98\x80\xE2\x80\x8D!\r\n a", "\xF0\x9F\x98\x80\xE2\x80\x8D!\r\n| a|" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char pieces[2 * MAX_CODES * UTF8_MAX_BYTES];
		cut(cases[i].text, pieces);
		assert_string_equal(pieces, cases[i].pieces);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cuts_as_the_reference),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
