/* Nibbles: every pair of codes, in both layouts that use them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "kernels/nibbles.h"

#include <cmocka.h>

/* Neighbours share a byte: compressed-tensors and NVFP4. */
static void test_neighbours(void **state)
{
	(void)state;
	for (unsigned pair = 0; pair < 256; pair++) {
		const uint8_t codes[2] = { (uint8_t)(pair % 16), (uint8_t)(pair / 16) };
		uint8_t byte, back[2];
		nibbles_join(codes, codes + 1, 1, 2, &byte);
		assert_int_equal(byte, pair);
		nibbles_split(&byte, 1, 2, back, back + 1);
		assert_memory_equal(back, codes, 2);
	}
}

/* Two rows share bytes: ModelOpt's INT4. Signed codes keep their lower four bits. */
static void test_rows(void **state)
{
	const int8_t upper[3] = { -8, 0, 7 }, lower[3] = { -1, 1, -2 };
	uint8_t bytes[3], first[3], second[3];
	(void)state;
	nibbles_join((const uint8_t *)upper, (const uint8_t *)lower, 3, 1, bytes);
	assert_int_equal(bytes[0], 0xF8);
	assert_int_equal(bytes[1], 0x10);
	assert_int_equal(bytes[2], 0xE7);
	nibbles_split(bytes, 3, 1, first, second);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(first[i], upper[i] & 15);
		assert_int_equal(second[i], lower[i] & 15);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_neighbours),
		cmocka_unit_test(test_rows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
