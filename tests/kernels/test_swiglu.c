/* swiglu against its formula in float64 and its slope; the same bits one element
 * at a time as in one sweep, and as when they were checked. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "kernels/swiglu.h"
#include "tests/support/numeric.h"

enum { N = 203 };

struct inputs {
	float gate[N], up[N], dout[N];
};

static void fill(struct inputs *in)
{
	fill_random(in->gate, N, 12, 1);
	fill_random(in->up, N, 3, 2);
	fill_random(in->dout, N, 1, 3);
	in->gate[0] = 0;
	in->gate[1] = 200;
	in->gate[2] = -200;
}

static double silu(double x)
{
	return x / (1 + exp(-x));
}

static double loss_of_gate(const void *context, const double *gate)
{
	const struct inputs *in = context;
	double sum = 0;
	for (int i = 0; i < N; i++)
		sum += silu(gate[i]) * in->up[i] * in->dout[i];
	return sum;
}

static double loss_of_up(const void *context, const double *up)
{
	const struct inputs *in = context;
	double sum = 0;
	for (int i = 0; i < N; i++)
		sum += silu(in->gate[i]) * up[i] * in->dout[i];
	return sum;
}

static void test_forward(void **state)
{
	(void)state;
	struct inputs in;
	float out[N];
	double expected[N];
	fill(&in);
	for (int i = 0; i < N; i++)
		expected[i] = silu(in.gate[i]) * in.up[i];
	swiglu_forward(out, in.gate, in.up, N);
	assert_close(out, expected, N, 4e-7);
}

static void test_backward(void **state)
{
	(void)state;
	struct inputs in;
	float dgate[N], dup[N];
	fill(&in);
	swiglu_backward(dgate, dup, in.dout, in.gate, in.up, N);
	assert_gradient(loss_of_gate, &in, in.gate, dgate, N, 2e-6);
	assert_gradient(loss_of_up, &in, in.up, dup, N, 2e-6);
}

static void test_bits(void **state)
{
	(void)state;
	struct inputs in;
	float out[N], dgate[N], dup[N];
	fill(&in);
	swiglu_forward(out, in.gate, in.up, N);
	swiglu_backward(dgate, dup, in.dout, in.gate, in.up, N);
	for (int i = 0; i < N; i++) {
		float o, g, u;
		swiglu_forward(&o, in.gate + i, in.up + i, 1);
		swiglu_backward(&g, &u, in.dout + i, in.gate + i, in.up + i, 1);
		assert_true(o == out[i] && g == dgate[i] && u == dup[i]);
	}
	assert_int_equal(hash_floats(out, N), 0xc39bfe1b50c86241u);
	assert_int_equal(hash_floats(dgate, N), 0x2ce8170d4bc5660du);
	assert_int_equal(hash_floats(dup, N), 0xe6aebb1384d1ccf8u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forward),
		cmocka_unit_test(test_backward),
		cmocka_unit_test(test_bits),
	};
	return cmocka_run_group_tests_name("kernels/swiglu", tests, NULL, NULL);
}
