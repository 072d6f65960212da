/* The arithmetic that the bench counts, against figures worked out by hand. */
#include "tests/support/flops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h> /* after ours: it makes a macro of `fail` */

/* The 3B's shape. */
static struct model_config shape_3b(void)
{
	struct model_config c = {
		.vision = { .depth = 32, .hidden = 1280, .intermediate = 3420, .heads = 16,
		            .head_dim = 80, .channels = 3, .patch = 14, .temporal_patch = 2,
		            .merge = 2, .window = 112, .out_hidden = 2048,
		            .patch_values = 1176 },
		.text = { .layers = 36, .hidden = 2048, .intermediate = 11008, .heads = 16,
		          .kv_heads = 2, .head_dim = 128, .vocab = 151936, .tied_head = true },
	};
	for (int i = 7; i < 32; i += 8)
		c.vision.full_attention[i] = true;
	return c;
}

/* A 640x480 image: 34 x 46 patches, 391 tokens of 448. */
static const struct sample_shape IMAGE = { .tokens = 448, .graded = 32, .grid_h = 34,
	                                       .grid_w = 46 };
static const struct sample_shape TEXT = { .tokens = 512, .graded = 511 };

static void is_about(double found, double expected)
{
	if (!(found > 0.99 * expected && found < 1.01 * expected))
		fail_msg("expected about %g, found %g", expected, found);
}

static void a_forward_pass(void **state)
{
	(void)state;
	struct model_config c = shape_3b();
	struct forward_flops f = forward_flops(&c, &IMAGE);
	/* 77.07e6 parameters a layer, and attention. */
	is_about(f.text, 36 * (2 * 77.07e6 * 448 + 4 * 2048 * 448.0 * 449 / 2));
	is_about(f.head, 2 * 151936.0 * 2048);
	/* 19.69e6 a block; 4 full attentions; 28 of windows of 8x8, cut off at the edges:
	 * heights 8 8 8 8 2, widths five times 8 and 6; the merger; the embedding. */
	is_about(f.vision, 32 * 2 * 19.69e6 * 1564 + 4 * 4 * 1280 * 1564.0 * 1564 +
	                   28 * 4 * 1280 * 260.0 * 356 + 2 * 36.7e6 * 391 +
	                   2 * 1176.0 * 1280 * 1564);
	/* What is commonly said of such a sample: about 2.7 and 2.0 TFLOP. */
	assert_true(f.text + 448 * f.head > 2.6e12 && f.text + 448 * f.head < 2.85e12);
	assert_true(f.vision > 1.95e12 && f.vision < 2.1e12);
	assert_true(forward_flops(&c, &TEXT).vision == 0);
}

static void scoring(void **state)
{
	(void)state;
	struct model_config c = shape_3b();
	double plain = work_flops(&c, FLOPS_CALIBRATE, &IMAGE);
	double gradient = work_flops(&c, FLOPS_GRADIENT, &IMAGE);
	assert_true(gradient > 13.3e12 && gradient < 14.3e12);
	assert_true(gradient > 2.95 * plain && gradient < 3.1 * plain);
}

/* A text model of one layer: each of its four groups in turn. */
static void replays(void **state)
{
	(void)state;
	struct model_config c = { .vision = { .depth = 1, .hidden = 8, .intermediate = 8,
	                                      .patch = 2, .merge = 2, .window = 4 },
		.text = { .layers = 1, .hidden = 4, .intermediate = 8, .heads = 2, .kv_heads = 1,
		          .head_dim = 2, .vocab = 10 } };
	const struct sample_shape s = { .tokens = 3, .graded = 2 };
	double qkv = 2 * 3 * 8 * 4, attention = 4 * 4 * 6, o = 2 * 3 * 4 * 4;
	double gate_up = 2 * 3 * 16 * 4, down = 2 * 3 * 4 * 8, head = 2 * 3 * 10 * 4;
	double all = qkv + attention + o + gate_up + down;
	double expected = (all + head) + (all + head) + (o + gate_up + down + head) +
	                  (gate_up + down + head) + (down + head);
	assert_true(work_flops(&c, FLOPS_KL, &s) == expected);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_forward_pass),
		cmocka_unit_test(scoring),
		cmocka_unit_test(replays),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
