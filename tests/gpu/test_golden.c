/* Calibration, gradient and KL scores on a GPU against the reference's float32 numbers,
 * under its numerics, for both data sets: amax within 2 %, gradient scores Spearman >=
 * 0.995 and median error <= 5 %, and sets of the least sensitive groups by gradient that
 * differ by groups alone whose golden scores are within that error of each other; KL
 * scores Spearman >= 0.99. How far the reference's own BF16 run is from its float32 run is
 * printed beside. Skipped where no GPU answers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/file.h"
#include "lib/model/caches.h"
#include "lib/quant/block_gpu.h"
#include "tests/support/golden.h"
#include "tests/support/reference_scores.h"
#include "tests/support/shared_data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { MOST_GROUPS = 256, MOST_SAMPLES = 64 };

static const double SAME_SCORE = 0.05;

/* What a case measured on the device. */
struct measured {
	double *values[MOST_SAMPLES]; /* [linear] */
	double losses[MOST_SAMPLES];
	double *all;
};

/* The programs find the device half beside themselves; tests lie elsewhere. */
static bool link_device_half(void)
{
	const char *tree = getenv("QUERN_TREE");
	char here[PATH_BYTES], target[PATH_BYTES], link[2 * PATH_BYTES];
	ssize_t length = readlink("/proc/self/exe", here, sizeof here - 1);
	assert_true(length > 0);
	here[length] = '\0';
	*strrchr(here, '/') = '\0';
	snprintf(link, sizeof link, "%s/libquern_gpu.so", here);
	snprintf(target, sizeof target, "%s/bin/libquern_gpu.so", tree ? tree : "out");
	char *whole = realpath(target, NULL);
	bool ok = whole && (file_exists(link) || symlink(whole, link) == 0);
	free(whole);
	return ok;
}

/* What a run gives of a sample: calibration looks at the cache as well. */
static int count_places(const struct reference *r, enum gpu_work work)
{
	return r->linear_count + (work == GPU_CALIBRATE ? count_caches(&r->config) : 0);
}

static void measure(const struct reference *r, const struct gpu_measurement *how,
                    struct measured *out)
{
	int places = count_places(r, how->work);
	const struct sample *samples[MOST_SAMPLES];
	struct block_gpu *gpu;
	double quantise_seconds;
	error err;
	assert_true(r->sample_count <= MOST_SAMPLES);
	out->all = calloc((size_t)(r->sample_count * places), sizeof *out->all);
	assert_non_null(out->all);
	for (int i = 0; i < r->sample_count; i++) {
		samples[i] = &r->samples[i];
		out->values[i] = out->all + (size_t)i * (size_t)places;
	}
	if (!block_gpu_open(&gpu, how, &r->model, places, &quantise_seconds, &err) ||
	    !block_gpu_measure(gpu, samples, r->sample_count, out->values, out->losses, &err))
		fail_msg("%s", err.text);
	block_gpu_close(gpu);
}

static void check_reference_amax(const struct reference *r)
{
	const struct gpu_measurement how = { .work = GPU_CALIBRATE };
	struct measured m;
	double worst = 0;
	measure(r, &how, &m);
	for (int l = 0; l < r->linear_count; l++) {
		double amax = 0;
		for (int i = 0; i < r->sample_count; i++)
			amax = fmax(amax, m.values[i][l]);
		if (r->input_amax[l] > 0)
			worst = fmax(worst, fabs(amax - r->input_amax[l]) / r->input_amax[l]);
	}
	free(m.all);
	print_message("  amax: largest difference %.2f %%\n", 100 * worst);
	assert_true(worst <= 0.02);
}

/* scores[group] on the device, -1 where the golden has none. */
static void score(const struct reference *r, enum gpu_work work, bool wide_codes,
                  double *scores)
{
	bool keeps[MOST_GROUPS];
	assert_true(r->groups.count <= MOST_GROUPS);
	for (int g = 0; g < r->groups.count; g++)
		keeps[g] = reference_score(r, &r->groups.groups[g], 0) >= 0;
	const struct gpu_scales scales = { .linears = r->linears, .groups = &r->groups,
		.keeps = keeps, .input_amax = r->input_amax, .numerics = NUMERICS_MODELOPT };
	const struct gpu_measurement how = { .work = work, .scales = &scales,
		.wide_codes = wide_codes };
	struct measured m;
	measure(r, &how, &m);
	for (int g = 0; g < r->groups.count; g++) {
		const struct group *group = &r->groups.groups[g];
		scores[g] = keeps[g] ? 0 : -1;
		for (int k = 0; keeps[g] && k < group->member_count; k++)
			for (int i = 0; i < r->sample_count; i++)
				scores[g] += m.values[i][group->members[k]];
	}
	free(m.all);
}

/* ---- the sets that percentages select ---- */

static int rank_of(const double *scores, int count, int group)
{
	int rank = 0;
	for (int i = 0; i < count; i++)
		rank += scores[i] >= 0 &&
		        (scores[i] < scores[group] || (scores[i] == scores[group] && i < group));
	return rank;
}

/* Sets of ten steps that differ at all, and by groups that are too far apart. */
struct set_differences {
	int differing, wrong;
};

static struct set_differences compare_sets(const double *golden, const double *ours,
                                           int count, double same)
{
	struct set_differences sets = { 0, 0 };
	int scored = 0;
	for (int g = 0; g < count; g++)
		scored += golden[g] >= 0;
	for (int percent = 10; percent < 100; percent += 10) {
		int cut = (int)ceil(percent / 100.0 * scored - 1e-9);
		double lowest = INFINITY, highest = 0; /* golden scores of those that moved */
		for (int g = 0; g < count; g++) {
			if (golden[g] < 0 || (rank_of(golden, count, g) < cut) ==
			                             (rank_of(ours, count, g) < cut))
				continue;
			lowest = fmin(lowest, golden[g]);
			highest = fmax(highest, golden[g]);
		}
		sets.differing += highest > 0;
		sets.wrong += highest > lowest * (1 + same);
	}
	return sets;
}

/* ---- cases ---- */

/* The reference's own run in BF16, where there is one. */
static bool read_bf16(const struct reference *r, const char *folder, const char *name,
                      double *scores)
{
	struct reference other = *r;
	char path[PATH_BYTES], file[128];
	snprintf(file, sizeof file, "%s.bfloat16.cuda.json", name);
	snprintf(path, sizeof path, "%s/%s", folder, file);
	if (!file_exists(path))
		return false;
	golden_load(&other.doc, folder, file);
	for (int g = 0; g < r->groups.count; g++)
		scores[g] = reference_score(&other, &r->groups.groups[g], 0);
	json_free(&other.doc);
	return true;
}

static void print_agreement(const char *whose, const struct agreement *a,
                            const struct set_differences *sets, double same)
{
	print_message("  %s: %d groups, Spearman %.5f, median error %.2f %%; %d of 9 sets "
	              "differ, %d by more than %.0f %%\n", whose, a->count, a->spearman,
	              100 * a->median, sets->differing, sets->wrong, 100 * same);
}

static void check_case(const char *folder, const char *name, enum gpu_work work,
                       bool wide_codes)
{
	struct reference r;
	double scores[MOST_GROUPS], golden[MOST_GROUPS], theirs[MOST_GROUPS];
	char file[128];
	snprintf(file, sizeof file, "%s.float32.cpu.json", name);
	reference_open(&r, folder, file);
	print_message("%s/%s%s\n", strstr(folder, "coco") ? "coco" : "demo", name,
	              wide_codes ? ", codes as 16-bit numbers" : "");
	if (work == GPU_SCORE && !wide_codes)
		check_reference_amax(&r);
	score(&r, work, wide_codes, scores);
	for (int g = 0; g < r.groups.count; g++)
		golden[g] = reference_score(&r, &r.groups.groups[g], 0);
	struct agreement ours = compare_scores(&r, 0, scores);
	struct set_differences sets = compare_sets(golden, scores, r.groups.count, SAME_SCORE);
	print_agreement("this device", &ours, &sets, SAME_SCORE);
	if (read_bf16(&r, folder, name, theirs)) {
		struct agreement a = compare_scores(&r, 0, theirs);
		struct set_differences b = compare_sets(golden, theirs, r.groups.count,
		                                        SAME_SCORE);
		print_agreement("the reference in BF16", &a, &b, SAME_SCORE);
	}
	assert_true(ours.spearman >= (work == GPU_SCORE ? 0.995 : 0.99));
	assert_true(work != GPU_SCORE || ours.median <= 0.05);
	assert_true(work != GPU_SCORE || sets.wrong == 0);
	reference_close(&r);
}

static void need_device(void)
{
	char name[128];
	error err;
	if (link_device_half() && gpu_usable(name, &err))
		return;
	print_message("SKIP gpu: no GPU answers, or this build has no CUDA\n");
	skip();
}

static const char *const GRADIENT[] = {
	"autoquant.fp8_all_gradient", "autoquant.fp8_all_gradient_describe",
	"autoquant.fp8_lm_gradient",
};
static const char *const DIVERGENCE[] = {
	"autoquant.fp8_all_kl_div", "autoquant.fp8_all_kl_div_describe",
	"autoquant.fp8_lm_kl_div",
};

static void check_cases(const char *folder)
{
	for (int i = 0; i < 3; i++) {
		check_case(folder, GRADIENT[i], GPU_SCORE, false);
		check_case(folder, GRADIENT[i], GPU_SCORE, true);
		check_case(folder, DIVERGENCE[i], GPU_COMPARE, false);
	}
}

static void test_demo(void **state)
{
	(void)state;
	need_device();
	check_cases(DEMO_GOLDEN);
}

static void test_coco(void **state)
{
	(void)state;
	char folder[PATH_BYTES];
	need_device();
	if (!find_shared(folder, "golden/coco", "gpu golden"))
		skip();
	check_cases(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_demo),
		cmocka_unit_test(test_coco),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
