/* Every bf16 and f16 pattern against its meaning, at aligned and odd addresses;
 * the search for NaN and infinity at every position that matters. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/convert.h"

enum { PATTERNS = 65536 };

/* sign, exponent bits and fraction bits as IEEE 754 reads them. */
static double meaning(uint32_t bits, int exponent_bits, int fraction_bits)
{
	int exponent = (int)(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
	int bias = (1 << (exponent_bits - 1)) - 1;
	double fraction = ldexp(bits & ((1u << fraction_bits) - 1), -fraction_bits);
	double sign = bits >> 15 ? -1 : 1;
	if (exponent == (1 << exponent_bits) - 1)
		return fraction > 0 ? NAN : sign * INFINITY;
	return exponent ? sign * ldexp(1 + fraction, exponent - bias)
	                : sign * ldexp(fraction, 1 - bias);
}

static void check_patterns(void (*convert)(float *, const void *, size_t),
                           int exponent_bits, int fraction_bits, size_t shift)
{
	uint8_t *in = malloc(2 * PATTERNS + shift);
	float *out = malloc(PATTERNS * sizeof *out);
	assert_true(in && out);
	for (uint32_t i = 0; i < PATTERNS; i++) {
		uint16_t bits = (uint16_t)i;
		memcpy(in + shift + 2 * i, &bits, 2);
	}
	convert(out, in + shift, PATTERNS);
	for (uint32_t i = 0; i < PATTERNS; i++) {
		double expected = meaning(i, exponent_bits, fraction_bits);
		if (isnan(expected))
			assert_true(isnan(out[i]));
		else
			assert_true((double)out[i] == expected &&
			            !signbit(out[i]) == !signbit(expected));
	}
	free(in);
	free(out);
}

static void test_bf16(void **state)
{
	(void)state;
	check_patterns(convert_bf16, 8, 7, 0);
	check_patterns(convert_bf16, 8, 7, 1);
}

static void test_f16(void **state)
{
	(void)state;
	check_patterns(convert_f16, 5, 10, 0);
	check_patterns(convert_f16, 5, 10, 3);
}

static void test_f32(void **state)
{
	(void)state;
	const float in[3] = { 1.5f, -0.0f, 3e-40f };
	uint8_t shifted[1 + sizeof in];
	float out[3];
	memcpy(shifted + 1, in, sizeof in);
	convert_f32(out, shifted + 1, 3);
	assert_memory_equal(out, in, sizeof in);
}

static void check_search(size_t (*find)(const void *, size_t), size_t width,
                         const void *largest, const void *bad)
{
	enum { N = 9000 };
	static const size_t places[] = { 0, 1, 15, 16, 4095, 4096, 8999 };
	uint8_t *x = malloc(N * width + 1);
	assert_non_null(x);
	for (size_t shift = 0; shift < 2; shift++) {
		for (size_t i = 0; i < N; i++)
			memcpy(x + shift + i * width, largest, width);
		assert_int_equal(find(x + shift, N), N);
		assert_int_equal(find(x + shift, 0), 0);
		for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
			memcpy(x + shift + places[p] * width, bad, width);
			assert_int_equal(find(x + shift, N), places[p]);
			memcpy(x + shift + places[p] * width, largest, width);
		}
	}
	free(x);
}

static void test_search(void **state)
{
	(void)state;
	check_search(find_nonfinite_bf16, 2, &(uint16_t){ 0xFF7F }, &(uint16_t){ 0x7F80 });
	check_search(find_nonfinite_bf16, 2, &(uint16_t){ 0x7F7F }, &(uint16_t){ 0xFFC1 });
	check_search(find_nonfinite_f16, 2, &(uint16_t){ 0x7BFF }, &(uint16_t){ 0x7C00 });
	check_search(find_nonfinite_f16, 2, &(uint16_t){ 0xFBFF }, &(uint16_t){ 0xFE00 });
	check_search(find_nonfinite_f32, 4, &(uint32_t){ 0x7F7FFFFF },
	             &(uint32_t){ 0xFF800000 });
	check_search(find_nonfinite_f32, 4, &(uint32_t){ 0xFF7FFFFF },
	             &(uint32_t){ 0x7F800001 });
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bf16),
		cmocka_unit_test(test_f16),
		cmocka_unit_test(test_f32),
		cmocka_unit_test(test_search),
	};
	return cmocka_run_group_tests_name("kernels/convert", tests, NULL, NULL);
}
