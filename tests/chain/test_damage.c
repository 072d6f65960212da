/* The damage of schemes that mix number formats: what evaluate measures from the weights
 * and a slice is what the exported checkpoint does when it is opened and run, sample by
 * sample; and the report has it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/divergence.h"
#include "kernels/matmul.h"
#include "lib/base/json.h"
#include "lib/quant/served_model.h"
#include "lib/quant/source.h"
#include "lib/quant/taps.h"
#include "tests/support/build_tree.h"
#include "tests/support/golden.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

#define BELOW_MODELS "models/tiny"

enum { SCHEMES = 4, FOLDED = 2, MAX_JSON = 16 << 20, MOST_SAMPLES = 4 };

/* Fewest bits first. */
static const char *const NAMES[SCHEMES] = { "mixed", "mixed_6_bits", "mixed_8_bits",
	                                        "mixed_12_bits" };

/* With scales of input channels, which a checkpoint has in its norms. */
static const char *const FOLDED_NAMES[FOLDED] = { "weights", "weights_8_bits" };

static void must(bool ok, const error *err)
{
	if (!ok)
		fail_msg("%s", err->text);
}

static int make_tree(void **state)
{
	static char folder[PATH_BYTES];
	error err;
	must(temp_folder_make(folder, &err), &err);
	assert_int_equal(setenv("catalog", "tests/support/mixed_formats.json", 1), 0);
	build_tree(folder, "", "all report");
	*state = folder;
	return 0;
}

static int remove_tree(void **state)
{
	temp_folder_remove(*state);
	return 0;
}

static void load(json_doc *doc, const char *folder, const char *name)
{
	char path[PATH_BYTES];
	error err;
	built_path(path, folder, name);
	must(json_load(doc, path, MAX_JSON, &err), &err);
}

static double mean_kl(const json_doc *damage, const char *scheme)
{
	const cJSON *item = cJSON_GetObjectItem(cJSON_GetObjectItem(damage->root, "schemes"),
	                                        scheme);
	item = cJSON_GetObjectItem(cJSON_GetObjectItem(item, "kl"), "mean");
	assert_true(cJSON_IsNumber(item));
	return item->valuedouble;
}

/* ---- the checkpoint, opened and run ---- */

/* kl[samples]: over the graded tokens of each. */
static void run_checkpoint(const char *folder, const struct source *source, double *kl)
{
	struct served_model base, served;
	struct outcome outcome;
	error err;
	struct workspace *w = workspace_new(&err);
	assert_non_null(w);
	must(served_model_open(&base, DEMO_MODEL, &err), &err);
	must(served_model_open(&served, folder, &err), &err);
	assert_true(served.quantised_linears > 0);
	struct served *how = served_new(&served.quantised, &err);
	assert_non_null(how);
	struct tap tap = served_tap(how);
	size_t vocab = (size_t)base.config.text.vocab;
	for (int64_t i = 0; i < (int64_t)source->rows.count; i++) {
		struct sample s;
		bool unreadable;
		must(source_sample(source, i, &s, &unreadable, &err), &err);
		must(model_forward(&base.model, w, &s, WANT_LOGITS, NULL, &outcome, &err), &err);
		size_t bytes = (size_t)s.tokens * vocab * sizeof(float);
		float *plain = malloc(bytes);
		assert_non_null(plain);
		memcpy(plain, outcome.logits, bytes);
		must(model_forward(&served.model, w, &s, WANT_LOGITS, &tap, &outcome, &err), &err);
		kl[i] = 0;
		for (int t = 1; t < s.tokens; t++) {
			size_t row = (size_t)(t - 1) * vocab;
			if (s.graded[t])
				kl[i] += divergence(plain + row, outcome.logits + row, 1, (int)vocab);
		}
		free(plain);
		sample_free(&s);
	}
	served_free(how);
	served_model_close(&served);
	served_model_close(&base);
	workspace_free(w);
}

/* Scales and packing are chosen so that nothing is rounded again. */
static void compare_scheme(const char *tree, const json_doc *damage, const char *scheme,
                           double tolerance, const struct source *source)
{
	double kl[MOST_SAMPLES];
	char name[256], folder[PATH_BYTES];
	const cJSON *per_sample = cJSON_GetObjectItem(
		cJSON_GetObjectItem(cJSON_GetObjectItem(damage->root, "schemes"), scheme),
		"per_sample");
	const cJSON *kls = cJSON_GetObjectItem(per_sample, "kl");
	snprintf(name, sizeof name, BELOW_MODELS "/quantized/%s", scheme);
	built_path(folder, tree, name);
	assert_int_equal(cJSON_GetArraySize(kls), source->rows.count);
	assert_in_range(source->rows.count, 1, MOST_SAMPLES);
	run_checkpoint(folder, source, kl);
	for (int i = 0; i < (int)source->rows.count; i++) {
		double measured = cJSON_GetArrayItem(kls, i)->valuedouble;
		print_message("%s, sample %d: evaluated %.9g, as exported %.9g\n", scheme, i,
		              measured, kl[i]);
		assert_true(measured > 0);
		assert_true(fabs(kl[i] / measured - 1) < tolerance);
	}
}

static void compare_set(const char *tree, const char *file, const char *const *schemes,
                        int count, double tolerance, const struct source_settings *settings)
{
	struct source source;
	json_doc damage;
	error err;
	matmul_threads(1);
	load(&damage, tree, file);
	must(source_open(&source, settings, &err), &err);
	for (int s = 0; s < count; s++)
		compare_scheme(tree, &damage, schemes[s], tolerance, &source);
	source_close(&source);
	json_free(&damage);
}

static const struct source_settings TEXT = { .model = DEMO_MODEL,
	.captions = "demo/demo_captions.txt", .prompt = "text", .on_bad_sample = "stop",
	.first = 448, .samples = 4, .block_samples = 4 };

static void a_checkpoint_does_the_damage_on_text(void **state)
{
	compare_set(*state, "work/tiny/mixed/damage.text.json", NAMES, SCHEMES, 1e-9, &TEXT);
}

/* A norm divided by the scales, in place of columns: the last bits differ. */
static void folded_norms_do_the_damage(void **state)
{
	compare_set(*state, "work/tiny/weights/damage.text.json", FOLDED_NAMES, FOLDED, 1e-4,
	            &TEXT);
}

static void a_checkpoint_does_the_damage_on_images(void **state)
{
	const struct source_settings settings = { .model = DEMO_MODEL,
		.eval_list = "demo/demo_vlm_eval.jsonl", .image_root = "demo", .prompt = "answer",
		.on_bad_sample = "stop", .samples = 2, .block_samples = 4 };
	compare_set(*state, "work/tiny/mixed/damage.images.json", NAMES, SCHEMES, 1e-9,
	            &settings);
}

/* ---- what is said of it ---- */

static void print_kls(const json_doc *damage)
{
	for (int s = 0; s < SCHEMES; s++)
		print_message("%s: KL %.3g\n", NAMES[s], mean_kl(damage, NAMES[s]));
}

/* On two images schemes that lie close together may change places: only the ends. */
static void fewer_bits_do_more_damage(void **state)
{
	json_doc text, images;
	load(&text, *state, "work/tiny/mixed/damage.text.json");
	load(&images, *state, "work/tiny/mixed/damage.images.json");
	print_kls(&text);
	print_kls(&images);
	for (int s = 1; s < SCHEMES; s++)
		assert_true(mean_kl(&text, NAMES[s - 1]) > mean_kl(&text, NAMES[s]));
	assert_true(mean_kl(&images, NAMES[0]) > 2 * mean_kl(&images, NAMES[SCHEMES - 1]));
	json_free(&images);
	json_free(&text);
}

/* The schemes really mix, or nothing above says anything about mixtures. */
static void the_schemes_mix(void **state)
{
	json_doc list;
	char name[256];
	for (int s = 1; s < SCHEMES; s++) {
		const char *seen[8] = { NULL };
		int count = 0;
		snprintf(name, sizeof name, "work/tiny/schemes/%s/slice.json", NAMES[s]);
		load(&list, *state, name);
		const cJSON *format;
		cJSON_ArrayForEach(format, cJSON_GetObjectItem(list.root, "formats")) {
			int i = 0;
			while (i < count && strcmp(seen[i], format->valuestring) != 0)
				i++;
			assert_in_range(i, 0, 7);
			seen[i] = format->valuestring;
			count += i == count;
		}
		print_message("%s: %d formats\n", NAMES[s], count);
		assert_true(count >= 2);
		json_free(&list);
	}
}

/* The row of the damage tables, as the report prints a mean. */
static void the_report_says_so(void **state)
{
	char path[PATH_BYTES], *page;
	json_doc damage;
	error err;
	size_t size;
	built_path(path, *state, BELOW_MODELS "/report-fp8-autoquant-schemes.md");
	must(read_file(path, MAX_JSON, &page, &size, &err), &err);
	load(&damage, *state, "work/tiny/mixed/damage.text.json");
	for (int s = 0; s < SCHEMES; s++) {
		char shown[64];
		snprintf(shown, sizeof shown, "|%.2e ± ", mean_kl(&damage, NAMES[s]));
		assert_non_null(strstr(page, shown));
	}
	assert_non_null(strstr(page, "## Is the ranking of mixed better than chance"));
	assert_null(strstr(page, "|missing|"));
	json_free(&damage);
	free(page);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_schemes_mix),
		cmocka_unit_test(a_checkpoint_does_the_damage_on_text),
		cmocka_unit_test(a_checkpoint_does_the_damage_on_images),
		cmocka_unit_test(folded_norms_do_the_damage),
		cmocka_unit_test(fewer_bits_do_more_damage),
		cmocka_unit_test(the_report_says_so),
	};
	return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
