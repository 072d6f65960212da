/* calibrate, score and evaluate on a GPU against the same tools on the CPU, whose numbers
 * are held against the goldens elsewhere (design: amax within 2 %, gradient scores
 * Spearman >= 0.995 and median error <= 5 %, KL scores Spearman >= 0.99; the reference's
 * own BF16 run: 0.992 to 1.000, 2 to 6 %, and 0.82 to 0.97). Skipped where no GPU
 * answers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/model/linears.h"
#include "lib/quant/block_file.h"
#include "lib/quant/groups.h"
#include "tests/support/temp_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { MOST_GROUPS = 256 };

static const char IMAGES[] = "--calib-db demo/demo_vlm_calib.db --image-root demo "
                             "--prompt answer --exclude lm_head";
static const char CAPTIONS[] = "--captions demo/demo_captions.txt --prompt text "
                               "--exclude lm_head --exclude 'visual.*'";

/* Runs a tool of the tree; returns its exit status. */
static int run_tool(const char *folder, const char *tool, const char *device,
                    const char *data, const char *more, const char *out)
{
	const char *tree = getenv("QUERN_TREE");
	char command[8 * PATH_BYTES];
	/* Formats are score's to know: calibrate needs none, evaluate reads them. */
	int length = (int)strlen(data);
	const char *exclude = strstr(data, " --exclude");
	if (strcmp(tool, "score") != 0 && exclude)
		length = (int)(exclude - data);
	snprintf(command, sizeof command,
	         "%s/bin/%s --model demo/tiny-qwen2_5-vl --tree %s/%s.tree %s "
	         "%.*s --out %s/%s %s >%s/log 2>&1", tree ? tree : "out", tool, folder, out,
	         device, length, data, folder, out, more, folder);
	return system(command) >> 8;
}

static struct block read_merged(struct block_list *list, const char *folder, const char *name,
                                enum block_kind kind)
{
	char path[PATH_BYTES];
	const char *paths[] = { path };
	struct block merged;
	error err;
	assert_true(join_path(path, sizeof path, folder, name, &err));
	assert_true(read_parts(list, paths, 1, kind, &err));
	assert_true(merge_blocks(list, kind, &merged, &err));
	return merged;
}

static double value_of(const struct block *b, const char *name)
{
	for (int i = 0; i < b->count; i++)
		if (strcmp(b->names[i], name) == 0)
			return b->values[i];
	return -1;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static double spearman(const double *a, const double *b, int n)
{
	double sum = 0;
	for (int i = 0; i < n; i++) {
		int rank_a = 0, rank_b = 0;
		for (int j = 0; j < n; j++) {
			rank_a += a[j] < a[i];
			rank_b += b[j] < b[i];
		}
		sum += (double)(rank_a - rank_b) * (rank_a - rank_b);
	}
	return 1 - 6 * sum / ((double)n * ((double)n * n - 1));
}

static void check_amax(const char *folder)
{
	struct block_list cpu_list, gpu_list;
	struct block cpu = read_merged(&cpu_list, folder, "cpu-calibrate", BLOCK_AMAX);
	struct block gpu = read_merged(&gpu_list, folder, "gpu-calibrate", BLOCK_AMAX);
	double worst = 0;
	assert_int_equal(cpu.count, gpu.count);
	for (int i = 0; i < cpu.count; i++) {
		assert_string_equal(cpu.names[i], gpu.names[i]);
		worst = fmax(worst, fabs(gpu.values[i] - cpu.values[i]) / cpu.values[i]);
	}
	print_message("amax: largest difference %.2f %%\n", 100 * worst);
	assert_true(worst <= 0.02);
	block_list_free(&cpu_list);
	block_list_free(&gpu_list);
}

/* Both lists' scores by group. */
static int group_scores(const struct block *cpu, const struct block *gpu, double *a,
                        double *b)
{
	struct model_config config;
	struct linear_shape *linears;
	struct group_list groups;
	arena memory = { 0 };
	error err;
	int count, n = 0;
	assert_true(model_config_load(&config, "demo/tiny-qwen2_5-vl", &err));
	assert_true(list_linears(&config, &memory, &linears, &count, &err));
	assert_true(make_groups(linears, count, NULL, 0, &memory, &groups, &err));
	for (int g = 0; g < groups.count && n < MOST_GROUPS; g++) {
		const struct group *group = &groups.groups[g];
		if (value_of(cpu, linears[group->members[0]].name) < 0)
			continue;
		a[n] = b[n] = 0;
		for (int m = 0; m < group->member_count; m++) {
			if (value_of(cpu, linears[group->members[m]].name) < 0)
				continue; /* KL: the first member stands for the group */
			a[n] += value_of(cpu, linears[group->members[m]].name);
			b[n] += value_of(gpu, linears[group->members[m]].name);
		}
		n++;
	}
	arena_free(&memory);
	return n;
}

static void check_scores(const char *folder, const char *cpu_name, const char *gpu_name,
                         enum block_kind kind)
{
	struct block_list cpu_list, gpu_list;
	struct block cpu = read_merged(&cpu_list, folder, cpu_name, kind);
	struct block gpu = read_merged(&gpu_list, folder, gpu_name, kind);
	double a[MOST_GROUPS], b[MOST_GROUPS], off[MOST_GROUPS];
	int n = group_scores(&cpu, &gpu, a, b);
	assert_true(n > 20);
	for (int i = 0; i < n; i++)
		off[i] = fabs(a[i] - b[i]) / a[i];
	double rho = spearman(a, b, n);
	qsort(off, (size_t)n, sizeof *off, compare_doubles);
	print_message("%s scores of %d groups: median difference %.2f %%, largest %.1f %%, "
	              "Spearman %.5f; loss %.6f on the CPU, %.6f on the GPU\n",
	              block_kind_name(kind), n, 100 * off[n / 2], 100 * off[n - 1], rho,
	              cpu.loss, gpu.loss);
	assert_true(rho >= (kind == BLOCK_GRADIENT ? 0.995 : 0.99));
	assert_true(kind != BLOCK_GRADIENT || off[n / 2] <= 0.05);
	block_list_free(&cpu_list);
	block_list_free(&gpu_list);
}

static void assert_same_bytes(const char *folder, const char *one, const char *other)
{
	char path[PATH_BYTES], *a, *b;
	size_t size_a, size_b;
	error err;
	assert_true(join_path(path, sizeof path, folder, one, &err));
	assert_true(read_file(path, 1 << 26, &a, &size_a, &err));
	assert_true(join_path(path, sizeof path, folder, other, &err));
	assert_true(read_file(path, 1 << 26, &b, &size_b, &err));
	assert_int_equal(size_a, size_b);
	assert_memory_equal(a, b, size_a);
	free(a);
	free(b);
}

/* ---- damage ---- */

/* Ranks the groups by the CPU's scores and cuts a scheme of the least sensitive half. */
static void make_slice(const char *folder)
{
	const char *tree = getenv("QUERN_TREE");
	char command[8 * PATH_BYTES];
	tree = tree ? tree : "out";
	snprintf(command, sizeof command,
	         "mkdir %s/slice && %s/bin/rank --baseline half --file-name half --model-name tiny --data-name demo "
	         "--prompt answer --model demo/tiny-qwen2_5-vl --amax %s/amax.json --out %s %s/cpu-score && "
	         "%s/bin/slice --baseline %s/half_quant_manifest.json --baseline-folder half "
	         "--scheme half --file-name half --top-percent 50 --out %s/slice >%s/log 2>&1",
	         folder, tree, folder, folder, folder, tree, folder, folder, folder);
	assert_int_equal(system(command), 0);
}

static double read_number(const char *folder, const char *file, const char *column,
                          const char *part)
{
	char path[PATH_BYTES];
	json_doc doc;
	error err;
	assert_true(join_path(path, sizeof path, folder, file, &err));
	assert_true(json_load(&doc, path, 1 << 26, &err));
	const cJSON *choice = cJSON_GetObjectItem(doc.root, "schemes")->child;
	const cJSON *item = cJSON_GetObjectItem(choice, column);
	if (part && item)
		item = cJSON_GetObjectItem(item, part);
	assert_true(cJSON_IsNumber(item));
	double value = item->valuedouble;
	json_free(&doc);
	return value;
}

static void check_damage(const char *folder, const char *data)
{
	char more[4 * PATH_BYTES];
	snprintf(more, sizeof more, "--samples 16 --baseline-name half --set-name set --data-name "
	         "demo --baseline %s/half_quant_manifest.json --amax %s/amax.json "
	         "%s/slice/slice.json", folder, folder, folder);
	assert_int_equal(run_tool(folder, "evaluate", "--cpu", data, more, "cpu-damage"), 0);
	assert_int_equal(run_tool(folder, "evaluate", "--cuda", data, more, "gpu-damage"), 0);
	double cpu = read_number(folder, "cpu-damage", "kl", "mean");
	double gpu = read_number(folder, "gpu-damage", "kl", "mean");
	double cpu_perplexity = read_number(folder, "cpu-damage", "perplexity", NULL);
	double gpu_perplexity = read_number(folder, "gpu-damage", "perplexity", NULL);
	print_message("damage of half the groups: KL %.4e on the CPU, %.4e on the GPU; "
	              "perplexity %.5f and %.5f\n", cpu, gpu, cpu_perplexity, gpu_perplexity);
	assert_true(fabs(gpu - cpu) <= 0.1 * cpu);
	assert_true(fabs(gpu_perplexity - cpu_perplexity) <= 1e-3 * cpu_perplexity);
}

/* ---- cases ---- */

static void skip_without_device(const char *folder, const char *data)
{
	int status = run_tool(folder, "calibrate", "--cuda", data, "--samples 32",
	                      "gpu-calibrate");
	if (status == EXIT_ENVIRONMENT) {
		print_message("SKIP gpu: no GPU answers, or this build has no CUDA\n");
		temp_folder_remove(folder);
		skip();
	}
	assert_int_equal(status, 0);
}

static void run_scores(const char *folder, const char *data)
{
	char amax[PATH_BYTES + 128];
	snprintf(amax, sizeof amax, "--samples 32 --amax %s/amax.json", folder);
	assert_int_equal(run_tool(folder, "score", "--cpu", data, amax, "cpu-score"), 0);
	assert_int_equal(run_tool(folder, "score", "--cuda", data, amax, "gpu-score"), 0);
	assert_int_equal(run_tool(folder, "score", "--cuda", data, amax, "gpu-again"), 0);
	snprintf(amax, sizeof amax, "--method kl_div --samples 8 --amax %s/amax.json", folder);
	assert_int_equal(run_tool(folder, "score", "--cpu", data, amax, "cpu-kl"), 0);
	assert_int_equal(run_tool(folder, "score", "--cuda", data, amax, "gpu-kl"), 0);
	assert_int_equal(run_tool(folder, "score", "--cuda", data, amax, "gpu-kl-again"), 0);
}

/* Every run has a tree of its own, so nothing comes from a store. */
static void compare_devices(const char *data)
{
	char folder[PATH_BYTES], merge[3 * PATH_BYTES];
	const char *tree = getenv("QUERN_TREE");
	error err;
	assert_true(temp_folder_make(folder, &err));
	skip_without_device(folder, data);
	assert_int_equal(run_tool(folder, "calibrate", "--cpu", data, "--samples 32",
	                          "cpu-calibrate"), 0);
	check_amax(folder);
	snprintf(merge, sizeof merge, "%s/bin/merge --out %s/amax.json %s/cpu-calibrate",
	         tree ? tree : "out", folder, folder);
	assert_int_equal(system(merge), 0);
	run_scores(folder, data);
	check_scores(folder, "cpu-score", "gpu-score", BLOCK_GRADIENT);
	assert_same_bytes(folder, "gpu-score", "gpu-again");
	check_scores(folder, "cpu-kl", "gpu-kl", BLOCK_KL);
	assert_same_bytes(folder, "gpu-kl", "gpu-kl-again");
	make_slice(folder);
	check_damage(folder, data);
	temp_folder_remove(folder);
}

static void test_images(void **state)
{
	(void)state;
	compare_devices(IMAGES);
}

static void test_captions(void **state)
{
	(void)state;
	compare_devices(CAPTIONS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_images),
		cmocka_unit_test(test_captions),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
