/* Scores of every format and of both methods against what the reference computed for
 * the same samples (golden/README.md). COCO's numbers are used where present. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include "tests/support/golden.h"
#include "tests/support/reference_scores.h"
#include "tests/support/shared_data.h"

#include <cmocka.h>

typedef void scorer(struct reference *r, const struct format *format, double *scores);

struct bar {
	double median, spearman;
};

static const struct bar GRADIENT = { 5e-3, 0.999 }, KL = { 1e-2, 0.995 };

static void check(const char *folder, const char *name, scorer *score, const char *element,
                  const char *granularity, int format, struct bar bar)
{
	struct reference r;
	reference_open(&r, folder, name);
	double *scores = calloc((size_t)r.groups.count, sizeof *scores);
	const struct format *found = format_find(element, granularity);
	assert_true(scores && found);
	score(&r, found, scores);
	struct agreement a = compare_scores(&r, format, scores);
	print_message("%s, %s: %d groups, median error %.2e, Spearman %.5f\n", name, element,
	              a.count, a.median, a.spearman);
	assert_true(a.count > 1);
	assert_true(a.median <= bar.median);
	assert_true(a.spearman >= bar.spearman);
	free(scores);
	reference_close(&r);
}

static void check_coco(const char *test, const char *name, scorer *score,
                       const char *element, const char *granularity, int format,
                       struct bar bar)
{
	char folder[PATH_BYTES];
	if (!find_shared(folder, "golden/coco", test))
		skip();
	check(folder, name, score, element, granularity, format, bar);
}

static void test_int8(void **state)
{
	(void)state;
	check(DEMO_GOLDEN, "autoquant.int8_all_gradient.float32.cpu.json", score_gradient,
	      "int8", "channel", 0, GRADIENT);
}

static void test_fp8_channel(void **state)
{
	(void)state;
	check(DEMO_GOLDEN, "autoquant.fp8_pcpt_lm_gradient.float32.cpu.json", score_gradient,
	      "fp8_e4m3", "channel_token", 0, GRADIENT);
}

static void test_kl_text(void **state)
{
	(void)state;
	check(DEMO_GOLDEN, "autoquant.fp8_lm_kl_div.float32.cpu.json", score_divergence,
	      "fp8_e4m3", "tensor", 0, KL);
}

static void test_kl_images(void **state)
{
	(void)state;
	check(DEMO_GOLDEN, "autoquant.fp8_all_kl_div.float32.cpu.json", score_divergence,
	      "fp8_e4m3", "tensor", 0, KL);
}

static void test_kl_describe(void **state)
{
	(void)state;
	check(DEMO_GOLDEN, "autoquant.fp8_all_kl_div_describe.float32.cpu.json",
	      score_divergence, "fp8_e4m3", "tensor", 0, KL);
}

static void test_coco_fp8_channel(void **state)
{
	(void)state;
	check_coco("test_coco_fp8_channel", "autoquant.fp8_pcpt_lm_gradient.float32.cpu.json",
	           score_gradient, "fp8_e4m3", "channel_token", 0, GRADIENT);
}

static void test_coco_int8(void **state)
{
	(void)state;
	check_coco("test_coco_int8", "autoquant.int8_all_gradient.float32.cpu.json",
	           score_gradient, "int8", "channel", 0, GRADIENT);
}

static void test_coco_nvfp4(void **state)
{
	(void)state;
	check_coco("test_coco_nvfp4", "autoquant.nvfp4_fp8_lm_gradient.float32.cuda.json",
	           score_gradient, "nvfp4", "block16", 0, GRADIENT);
}

static void test_coco_fp8_beside_nvfp4(void **state)
{
	(void)state;
	check_coco("test_coco_fp8_beside_nvfp4",
	           "autoquant.nvfp4_fp8_lm_gradient.float32.cuda.json", score_gradient,
	           "fp8_e4m3", "tensor", 1, GRADIENT);
}

static void test_coco_kl_text(void **state)
{
	(void)state;
	check_coco("test_coco_kl_text", "autoquant.fp8_lm_kl_div.float32.cpu.json",
	           score_divergence, "fp8_e4m3", "tensor", 0, KL);
}

static void test_coco_kl_images(void **state)
{
	(void)state;
	check_coco("test_coco_kl_images", "autoquant.fp8_all_kl_div.float32.cpu.json",
	           score_divergence, "fp8_e4m3", "tensor", 0, KL);
}

static void test_coco_kl_describe(void **state)
{
	(void)state;
	check_coco("test_coco_kl_describe", "autoquant.fp8_all_kl_div_describe.float32.cpu.json",
	           score_divergence, "fp8_e4m3", "tensor", 0, KL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_int8),
		cmocka_unit_test(test_fp8_channel),
		cmocka_unit_test(test_kl_text),
		cmocka_unit_test(test_kl_images),
		cmocka_unit_test(test_kl_describe),
		cmocka_unit_test(test_coco_fp8_channel),
		cmocka_unit_test(test_coco_int8),
		cmocka_unit_test(test_coco_nvfp4),
		cmocka_unit_test(test_coco_fp8_beside_nvfp4),
		cmocka_unit_test(test_coco_kl_text),
		cmocka_unit_test(test_coco_kl_images),
		cmocka_unit_test(test_coco_kl_describe),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
