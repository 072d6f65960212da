/* The damage of quantised models: against the reference's figures, and the promises
 * that evaluation makes about its store. */
#include "lib/quant/damage_file.h"
#include "lib/quant/taps.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/golden.h"
#include "tests/support/shared_data.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

enum { SLICES = 7, MOST_LAYERS = 16 };

static const char *const SLICE_NAMES[SLICES] = { "top10", "top25", "top50", "top75",
	                                             "top100", "worst50", "worst10" };

/* A model's groups and the reference's calibration of it. */
struct reference {
	arena memory;
	struct linear_shape *linears;
	struct group_list groups;
	struct variant_choice choices[SLICES];
	int linear_count;
	float *amax;   /* [linear] */
	bool *unknown; /* [linear] amax is ours */
	char tree[PATH_BYTES];
};

static void must(bool ok, const error *err)
{
	if (!ok)
		fail_msg("%s", err->text);
}

static void load_groups(struct reference *r)
{
	static const char *const exclude[] = { "lm_head" };
	struct model_config config;
	error err;
	*r = (struct reference){ 0 };
	must(model_config_load(&config, DEMO_MODEL, &err), &err);
	must(list_linears(&config, &r->memory, &r->linears, &r->linear_count, &err), &err);
	must(make_groups(r->linears, r->linear_count, exclude, 1, &r->memory, &r->groups, &err),
	     &err);
	r->amax = arena_alloc(&r->memory, (size_t)r->linear_count, sizeof *r->amax, &err);
	assert_non_null(r->amax);
	must(temp_folder_make(r->tree, &err), &err);
}

/* The largest inputs over the samples that the reference calibrated with. */
static void calibrate(struct reference *r, const struct source_settings *settings)
{
	struct source source;
	struct checkpoint ckpt;
	struct model model;
	struct outcome outcome;
	error err;
	double *amax = arena_alloc(&r->memory, (size_t)r->linear_count, sizeof *amax, &err);
	struct workspace *w = workspace_new(&err);
	assert_non_null(amax);
	assert_non_null(w);
	must(source_open(&source, settings, &err), &err);
	must(checkpoint_open(&ckpt, settings->model, &err), &err);
	must(model_open(&model, &ckpt, &source.config, SIZE_MAX, &err), &err);
	struct amax_watch watch = { .model = &model, .amax = amax };
	struct tap tap = amax_tap(&watch);
	for (int64_t i = 0; i < (int64_t)source.rows.count; i++) {
		struct sample sample;
		bool unreadable;
		must(source_sample(&source, i, &sample, &unreadable, &err), &err);
		must(model_forward(&model, w, &sample, 0, &tap, &outcome, &err), &err);
		sample_free(&sample);
	}
	for (int i = 0; i < r->linear_count; i++)
		r->amax[i] = (float)amax[i];
	workspace_free(w);
	model_close(&model);
	checkpoint_close(&ckpt);
	source_close(&source);
}

/* The reference's samples as an evaluation list of its resized images: decoders and
 * rounding of JPEGs differ, and an amax moves with them. */
static void write_list(const struct reference *r, const char *folder)
{
	json_doc doc, index;
	text list = { 0 };
	error err;
	const cJSON *item, *image;
	golden_load(&doc, folder, "autoquant.fp8_all_gradient.float32.cpu.json");
	golden_load(&index, folder, "images/index.json");
	cJSON_ArrayForEach(item, cJSON_GetObjectItem(doc.root, "samples")) {
		const char *file = cJSON_GetObjectItem(item, "file")->valuestring;
		cJSON_ArrayForEach(image, index.root)
			if (strcmp(cJSON_GetObjectItem(image, "file")->valuestring, file) == 0)
				text_printf(&list, "{\"image_relpath\": \"images/%s\", \"caption\": ",
				            cJSON_GetObjectItem(image, "resized")->valuestring);
		assert_true(json_quote(&list, cJSON_GetObjectItem(item, "caption")->valuestring,
		                       strlen(cJSON_GetObjectItem(item, "caption")->valuestring)));
		text_puts(&list, "}\n");
	}
	must(text_ok(&list, &err) &&
	     temp_folder_write(r->tree, "list.jsonl", list.data, list.length, &err), &err);
	text_free(&list);
	json_free(&index);
	json_free(&doc);
}

/* [group], to be filled: all as they are. */
static const struct format **no_formats(struct reference *r)
{
	error err;
	const struct format **formats = arena_alloc(&r->memory, (size_t)r->groups.count,
	                                            sizeof *formats, &err);
	assert_non_null(formats);
	return formats;
}

static void load_choices(struct reference *r, const json_doc *golden)
{
	for (int s = 0; s < SLICES; s++) {
		const struct format **formats = no_formats(r);
		const cJSON *name, *slice = cJSON_GetObjectItem(golden->root, SLICE_NAMES[s]);
		cJSON_ArrayForEach(name, cJSON_GetObjectItem(slice, "selected")) {
			const struct group *group = find_group(&r->groups, name->valuestring +
			                                       strlen("model."));
			assert_non_null(group);
			/* In the exports that were measured it stayed as it was. */
			if (group->exportable)
				formats[group - r->groups.groups] = format_find("fp8_e4m3", "tensor");
		}
		r->choices[s] = (struct variant_choice){ .name = SLICE_NAMES[s],
			.formats = formats };
	}
}

static void free_reference(struct reference *r)
{
	temp_folder_remove(r->tree);
	arena_free(&r->memory);
}

static struct evaluation job_of(const struct reference *r, enum numerics numerics)
{
	struct evaluation job = { .linears = r->linears, .linear_count = r->linear_count,
		.groups = &r->groups, .input_amax = r->amax, .numbers.numerics = numerics,
		.choices = r->choices, .choice_count = SLICES, .tree = r->tree,
		.tool = "test", .target = "test" };
	job.data = (struct source_settings){ .model = DEMO_MODEL, .on_bad_sample = "stop",
		.block_samples = 16 };
	memset(job.sources.hex, '0', DIGEST_HEX);
	return job;
}

static double golden_number(const json_doc *doc, const char *slice, const char *field)
{
	const cJSON *item = cJSON_GetObjectItem(cJSON_GetObjectItem(doc->root, slice), field);
	assert_non_null(item);
	return item->valuedouble;
}

/* The last bit of a scale turns codes that lie on a tie, those of the first token for
 * every text that begins with it, and a turned code moves the perplexity of these little
 * sets by up to 0.3 %, a last token's MSE twofold. So the scales are the reference's own,
 * as far as its files have them: not of groups that its search left in 16 bits. Ours of
 * these take five values each, all within 1e-6 of what we measure, which is how closely
 * both agree on the others. The reference must lie among the five outcomes or within the
 * tolerance of one. */
enum { DRAWS = 5 };

static const float STEP = 5e-7f; /* between draws, of an amax */

struct draws {
	struct damage_summary of[DRAWS][SLICES];
};

/* Puts the reference's amax where it has one; unknown[linear]: it has none. */
static void take_amax(struct reference *r, const char *folder)
{
	json_doc doc;
	error err;
	int known = 0;
	r->unknown = arena_alloc(&r->memory, (size_t)r->linear_count, sizeof *r->unknown, &err);
	assert_non_null(r->unknown);
	golden_load(&doc, folder, "autoquant.fp8_all_gradient.float32.cpu.json");
	const cJSON *all = cJSON_GetObjectItem(doc.root, "amax_active");
	for (int i = 0; i < r->linear_count; i++) {
		char name[NAME_BYTES + 32];
		snprintf(name, sizeof name, "model.%s.input_quantizer", r->linears[i].name);
		const cJSON *amax = cJSON_GetObjectItem(all, name);
		if (!(r->unknown[i] = !amax)) {
			double theirs = cJSON_GetArrayItem(amax, 0)->valuedouble;
			assert_true(fabs(r->amax[i] / theirs - 1) < 2e-6);
			r->amax[i] = (float)theirs;
			known++;
		}
	}
	print_message("%d of %d input scales are the reference's\n", known, r->linear_count);
	assert_true(known > r->linear_count * 3 / 4);
	json_free(&doc);
}

static void draw(struct evaluation *job, struct reference *r, struct draws *out)
{
	error err;
	for (int d = 0; d < DRAWS; d++) {
		struct damage damage[SLICES];
		arena memory = { 0 };
		float *moved = arena_alloc(&memory, (size_t)r->linear_count, sizeof *moved, &err);
		assert_non_null(moved);
		for (int i = 0; i < r->linear_count; i++)
			moved[i] = r->amax[i] *
			           (r->unknown[i] ? 1 + (float)(d - DRAWS / 2) * STEP : 1);
		job->input_amax = moved;
		must(evaluate_choices(job, damage, &memory, &err), &err);
		for (int s = 0; s < SLICES; s++)
			must(summarise_damage(&damage[s], &out->of[d][s], &err), &err);
		arena_free(&memory);
	}
}

/* `offset`: where in a summary the number is. */
static void check_near(const struct draws *draws, int slice, size_t offset,
                       const json_doc *golden, const char *field, double factor)
{
	double low = INFINITY, high = -INFINITY;
	double expected = golden_number(golden, SLICE_NAMES[slice], field);
	for (int d = 0; d < DRAWS; d++) {
		double found = *(const double *)(const void *)
			((const char *)&draws->of[d][slice] + offset);
		low = found < low ? found : low;
		high = found > high ? found : high;
	}
	print_message("%-8s %-22s %.6g to %.6g, reference %.6g (%+.3f to %+.3f %%)\n",
	              SLICE_NAMES[slice], field, low, high, expected,
	              expected > 0 ? 100 * (low / expected - 1) : 0,
	              expected > 0 ? 100 * (high / expected - 1) : 0);
	if (expected == 0 ? high > 1e-12
	                  : expected > high * factor || expected < low / factor)
		fail_msg("%s: %s: expected %g, found %g to %g", SLICE_NAMES[slice], field, expected,
		         low, high);
}

static void check_text(const struct draws *draws, const json_doc *golden)
{
	const struct damage_summary *any = &draws->of[0][0];
	double base = golden_number(golden, "base", "ppl");
	assert_int_equal(any->tokens, golden_number(golden, "base", "tokens"));
	assert_true(fabs(any->base_perplexity / base - 1) < 1e-5);
	for (int s = 0; s < SLICES; s++) {
		check_near(draws, s, offsetof(struct damage_summary, perplexity), golden, "ppl",
		           1.001);
		check_near(draws, s, offsetof(struct damage_summary, kl_all.mean), golden,
		           "kl_all_positions_text", 1.1);
	}
}

static void check_images(const struct draws *draws, const json_doc *golden)
{
	for (int s = 0; s < SLICES; s++) {
		check_near(draws, s, offsetof(struct damage_summary, kl_all.mean), golden,
		           "kl_all_positions_vlm", 1.1);
		check_near(draws, s, offsetof(struct damage_summary, last_kl.mean), golden,
		           "kl_last_vlm", 2);
		check_near(draws, s, offsetof(struct damage_summary, last_mse.mean), golden,
		           "mse_last_vlm", 2);
	}
}

/* Image + text, in the form the reference used, then text. */
static void compare_with_reference(const char *golden_folder, const char *captions,
                                   int64_t first)
{
	struct reference r;
	struct draws draws;
	json_doc golden;
	error err;
	char list[PATH_BYTES];
	load_groups(&r);
	write_list(&r, golden_folder);
	must(join_path(list, sizeof list, r.tree, "list.jsonl", &err), &err);
	golden_load(&golden, golden_folder, "damage.float32.cpu.json");
	load_choices(&r, &golden);
	struct evaluation job = job_of(&r, NUMERICS_MODELOPT);
	job.data.eval_list = list;
	job.data.image_root = golden_folder;
	job.data.prompt = "user_turn";
	job.data.samples = 16;
	calibrate(&r, &job.data);
	take_amax(&r, golden_folder);
	draw(&job, &r, &draws);
	check_images(&draws, &golden);
	job.data.eval_list = NULL;
	job.data.captions = captions;
	job.data.prompt = "text";
	job.data.first = first;
	job.data.samples = 64;
	draw(&job, &r, &draws);
	check_text(&draws, &golden);
	json_free(&golden);
	free_reference(&r);
}

static void test_demo_damage_is_the_references(void **state)
{
	(void)state;
	compare_with_reference(DEMO_GOLDEN, "demo/demo_captions.txt", 448);
}

static void test_coco_damage_is_the_references(void **state)
{
	char folder[PATH_BYTES], captions[PATH_BYTES];
	(void)state;
	if (!find_shared(folder, "golden/coco", "test_evaluate") ||
	    !find_shared(captions, "fixtures/coco2017/coco2017_captions.txt", "test_evaluate"))
		skip();
	compare_with_reference(folder, captions, 3000);
}

/* What was measured once is not measured again, and what two choices say does not
 * depend on the other choices of the pass. */
static void test_blocks_come_back_from_the_store(void **state)
{
	struct reference r;
	struct damage first[SLICES], again[SLICES], alone[1];
	struct damage_summary one, two;
	arena memory = { 0 };
	json_doc golden;
	error err;
	(void)state;
	load_groups(&r);
	golden_load(&golden, DEMO_GOLDEN, "damage.float32.cpu.json");
	load_choices(&r, &golden);
	for (int i = 0; i < r.linear_count; i++)
		r.amax[i] = 30;
	struct evaluation job = job_of(&r, NUMERICS_QUERN);
	job.numbers.shared_scales = true;
	job.data.captions = "demo/demo_captions.txt";
	job.data.prompt = "text";
	job.data.samples = 5;
	job.data.block_samples = 2;
	must(evaluate_choices(&job, first, &memory, &err), &err);
	must(evaluate_choices(&job, again, &memory, &err), &err);
	for (int s = 0; s < SLICES; s++)
		for (int i = 0; i < 5; i++) {
			assert_true(first[s].samples[i].kl == again[s].samples[i].kl);
			assert_true(first[s].samples[i].loss == again[s].samples[i].loss);
			assert_int_equal(first[s].samples[i].tokens, again[s].samples[i].tokens);
		}
	memset(job.sources.hex, '1', DIGEST_HEX); /* another tool: nothing to find */
	job.choices = &r.choices[3];
	job.choice_count = 1;
	must(evaluate_choices(&job, alone, &memory, &err), &err);
	must(summarise_damage(&first[3], &one, &err), &err);
	must(summarise_damage(&alone[0], &two, &err), &err);
	assert_true(one.kl.mean > 0 && one.kl.mean == two.kl.mean);
	assert_true(one.kl.error > 0 && one.kl_max >= one.kl_p99 && one.kl_p99 > one.kl.mean);
	assert_true(one.perplexity == two.perplexity);
	json_free(&golden);
	arena_free(&memory);
	free_reference(&r);
}

/* A cache in FP8 does some damage by itself, more where its scales are too small, and the
 * same in any company; it is a measurement of its own. */
static void test_a_cache_in_fp8_does_damage(void **state)
{
	struct reference r;
	struct damage damage[2], alone[1];
	struct damage_summary kept, clipped, again;
	arena memory = { 0 };
	float amax[2 * MOST_LAYERS];
	error err;
	(void)state;
	load_groups(&r);
	const struct format **nothing = no_formats(&r);
	struct variant_choice choices[] = { { .name = "plain", .formats = nothing },
		{ .name = "cache", .formats = nothing, .fp8_cache = true } };
	struct evaluation job = job_of(&r, NUMERICS_QUERN);
	job.choices = choices;
	job.choice_count = 2;
	job.cache_amax = amax;
	job.data.captions = "demo/demo_captions.txt";
	job.data.prompt = "text";
	job.data.samples = 5;
	job.data.block_samples = 2;
	for (int i = 0; i < 2 * MOST_LAYERS; i++)
		amax[i] = 6.5f;
	must(evaluate_choices(&job, damage, &memory, &err), &err);
	must(summarise_damage(&damage[0], &again, &err), &err);
	must(summarise_damage(&damage[1], &kept, &err), &err);
	assert_true(again.kl.mean == 0 && kept.kl.mean > 0);
	assert_true(kept.kl.mean < 0.01 && kept.agreement.mean > 0.9);
	job.choices = choices + 1;
	job.choice_count = 1;
	memset(job.sources.hex, '1', DIGEST_HEX); /* another tool: nothing to find */
	must(evaluate_choices(&job, alone, &memory, &err), &err);
	must(summarise_damage(&alone[0], &again, &err), &err);
	assert_true(again.kl.mean == kept.kl.mean && again.perplexity == kept.perplexity);
	for (int i = 0; i < 2 * MOST_LAYERS; i++)
		amax[i] = 1;
	must(evaluate_choices(&job, alone, &memory, &err), &err);
	must(summarise_damage(&alone[0], &clipped, &err), &err);
	print_message("KL %.2g with the cache in FP8, %.2g with its scales 6.5 times too small\n",
	              kept.kl.mean, clipped.kl.mean);
	assert_true(clipped.kl.mean > 10 * kept.kl.mean);
	arena_free(&memory);
	free_reference(&r);
}

/* A choice of nothing is the model itself, to the bit. */
static void test_nothing_quantised_is_no_damage(void **state)
{
	struct reference r;
	struct damage damage[1];
	struct damage_summary sum;
	arena memory = { 0 };
	error err;
	(void)state;
	load_groups(&r);
	const struct variant_choice nothing = { .name = "nothing",
		.formats = no_formats(&r) };
	struct evaluation job = job_of(&r, NUMERICS_QUERN);
	job.choices = &nothing;
	job.choice_count = 1;
	job.data.eval_list = "demo/demo_vlm_eval.jsonl";
	job.data.image_root = "demo";
	job.data.prompt = "answer";
	job.data.samples = 2;
	must(evaluate_choices(&job, damage, &memory, &err), &err);
	must(summarise_damage(&damage[0], &sum, &err), &err);
	assert_true(sum.kl.mean == 0 && sum.kl_max == 0 && sum.last_mse.mean == 0);
	assert_true(sum.agreement.mean == 1 && sum.perplexity == sum.base_perplexity);
	arena_free(&memory);
	free_reference(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_demo_damage_is_the_references),
		cmocka_unit_test(test_coco_damage_is_the_references),
		cmocka_unit_test(test_blocks_come_back_from_the_store),
		cmocka_unit_test(test_a_cache_in_fp8_does_damage),
		cmocka_unit_test(test_nothing_quantised_is_no_damage),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
