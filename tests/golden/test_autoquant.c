/* Calibration and gradient scores against ModelOpt's in float32, under its numerics,
 * from captions and images to the sets of groups that every percentage selects; and
 * the same sets from our own decode of the JPEGs. Each case prints its figures. The
 * demo's numbers are in the repository; those of COCO are used where present. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/amax.h"
#include "kernels/matmul.h"
#include "lib/quant/baseline.h"
#include "lib/quant/slice.h"
#include "lib/quant/taps.h"
#include "tests/support/golden.h"
#include "tests/support/image_files.h"
#include "tests/support/shared_data.h"

#include <cmocka.h>

enum { MAX_EXCLUDES = 4, MAX_SAMPLES = 64 };

/* Groups whose golden scores are that close may swap where a set ends. */
static const double SAME_SCORE = 0.01;

struct fixture {
	struct model_config config;
	struct checkpoint ckpt;
	struct model model;
	struct workspace *space;
	struct tokenizer *tokenizer;
	struct image_processor processor;
	struct linear_shape *linears;
	arena memory;
};

static int start(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	error err;
	int count;
	matmul_threads(1);
	if (f && model_config_load(&f->config, DEMO_MODEL, &err) &&
	    checkpoint_open(&f->ckpt, DEMO_MODEL, &err) &&
	    model_open(&f->model, &f->ckpt, &f->config, (size_t)1 << 30, &err) &&
	    (f->space = workspace_new(&err)) &&
	    (f->tokenizer = tokenizer_load(DEMO_MODEL, &err)) &&
	    image_processor_load(&f->processor, DEMO_MODEL, &err) &&
	    list_linears(&f->config, &f->memory, &f->linears, &count, &err) &&
	    count == f->model.linear_count) {
		*state = f;
		return 0;
	}
	print_error("%s\n", err.text);
	return -1;
}

static int stop(void **state)
{
	struct fixture *f = *state;
	tokenizer_free(f->tokenizer);
	workspace_free(f->space);
	model_close(&f->model);
	checkpoint_close(&f->ckpt);
	arena_free(&f->memory);
	free(f);
	return 0;
}

/* ---- a case ---- */

struct golden_case {
	const char *name; /* in messages */
	const char *file; /* in both golden folders */
	enum prompt_form form;
};

static const struct golden_case CASES[] = {
	{ "user turn", "autoquant.fp8_all_gradient.float32.cpu.json", PROMPT_USER_TURN },
	{ "answer", "autoquant.fp8_all_gradient_describe.float32.cpu.json", PROMPT_ANSWER },
	{ "text", "autoquant.fp8_lm_gradient.float32.cpu.json", PROMPT_TEXT },
};

enum { CASE_COUNT = 3, TEXT_CASE = 2 };

/* Which pixels a run sees: the reference's own, or those of our JPEG decoder. */
enum pixels { PIXELS_OF_PIL, PIXELS_OF_STB };

/* A golden file with its samples made into ours, and what we measure on them. */
struct run {
	struct fixture *f;
	json_doc doc;
	const char *set; /* "demo" or "coco" */
	const struct golden_case *c;
	struct sample samples[MAX_SAMPLES];
	int sample_count;
	struct group_list groups; /* all but those the search left alone */
	double *input_amax;       /* [linear] */
	double *scores;           /* [linear] */
	struct baseline ours, golden;
	arena memory;
};

static const cJSON *field(const cJSON *item, const char *name)
{
	const cJSON *found = cJSON_GetObjectItemCaseSensitive(item, name);
	if (!found)
		fail_msg("the golden file lacks %s", name);
	return found;
}

/* Fails the test unless ok. */
static void demand(bool ok, const error *err)
{
	if (!ok)
		fail_msg("%s", err->text);
}

static void *take(struct run *r, size_t count, size_t size)
{
	error err;
	void *memory = arena_alloc(&r->memory, count, size, &err);
	demand(memory != NULL, &err);
	return memory;
}

/* ---- samples ---- */

static void load_pixels(struct run *r, const struct golden_image *g, enum pixels pixels,
                        struct patches *out)
{
	struct fixture *f = r->f;
	struct image image;
	error err;
	if (pixels == PIXELS_OF_STB) {
		demand(load_patches(g->source, &f->processor, &f->config.vision, g->max_pixels,
		                    out, &err), &err);
		return;
	}
	demand(image_load(&image, g->resized, &err), &err);
	demand(image_to_patches(&image, &f->processor, &f->config.vision, out, &err), &err);
	image_free(&image);
}

/* Our prompt of every golden caption, as long as the reference's. */
static void make_samples(struct run *r, const struct golden_images *images,
                         enum pixels pixels)
{
	const cJSON *item;
	error err;
	cJSON_ArrayForEach(item, field(r->doc.root, "samples")) {
		const cJSON *file = field(item, "file");
		struct patches patches = { 0 };
		int i = r->sample_count++;
		assert_true(i < MAX_SAMPLES);
		if (cJSON_IsString(file)) {
			assert_true((size_t)i < images->count);
			assert_non_null(strstr(images->images[i].source, file->valuestring));
			load_pixels(r, &images->images[i], pixels, &patches);
		}
		demand(sample_build(&r->samples[i], r->f->tokenizer, &r->f->config, r->c->form,
		                    field(item, "caption")->valuestring,
		                    patches.values ? &patches : NULL, 0, &err), &err);
		assert_int_equal(r->samples[i].tokens, field(item, "tokens")->valueint);
	}
}

/* ---- measuring ---- */

static void calibrate(struct run *r)
{
	struct fixture *f = r->f;
	r->input_amax = take(r, (size_t)f->model.linear_count, sizeof *r->input_amax);
	struct amax_watch watch = { .model = &f->model, .amax = r->input_amax };
	struct tap tap = amax_tap(&watch);
	struct outcome outcome;
	error err;
	for (int i = 0; i < r->sample_count; i++)
		demand(model_forward(&f->model, f->space, &r->samples[i], 0, &tap, &outcome, &err),
		       &err);
}

static void score(struct run *r)
{
	struct fixture *f = r->f;
	struct quantised_model quantised;
	struct outcome outcome;
	error err;
	float *amax_values = take(r, (size_t)f->model.linear_count, sizeof *amax_values);
	r->scores = take(r, (size_t)f->model.linear_count, sizeof *r->scores);
	for (int i = 0; i < f->model.linear_count; i++)
		amax_values[i] = (float)r->input_amax[i];
	demand(quantise_model(&quantised, &f->model, &r->groups, NULL,
	                      format_find("fp8_e4m3", "tensor"), NUMERICS_MODELOPT, false,
	                      amax_values, NULL, (size_t)1 << 30, &err), &err);
	struct perturbation *p = perturbation_new(&quantised, &err);
	demand(p != NULL, &err);
	struct tap tap = perturbation_tap(p, r->scores);
	for (int i = 0; i < r->sample_count; i++)
		demand(model_gradient(&f->model, f->space, &r->samples[i], &tap, &outcome, &err),
		       &err);
	perturbation_free(p);
	quantised_free(&quantised);
}

/* ---- rankings ---- */

static void make_groups_of(struct run *r)
{
	const char *exclude[MAX_EXCLUDES];
	int count = 0;
	const cJSON *item;
	error err;
	cJSON_ArrayForEach(item, field(r->doc.root, "disabled_layers")) {
		assert_true(count < MAX_EXCLUDES);
		exclude[count++] = item->valuestring;
	}
	demand(make_groups(r->f->linears, r->f->model.linear_count, exclude, count, &r->memory,
	                   &r->groups, &err), &err);
}

static void start_baseline(struct baseline *b, const struct group_list *groups)
{
	error err;
	*b = (struct baseline){ .count = groups->count };
	b->groups = arena_alloc(&b->memory, (size_t)b->count, sizeof *b->groups, &err);
	demand(b->groups != NULL, &err);
	for (int g = 0; g < b->count; g++)
		b->groups[g] = (struct scored_group){ .name = groups->groups[g].name,
			.format_count = 2 };
}

/* Both rankings, over the groups that the reference searched; it lists the others
 * with one format. */
static void rank_both(struct run *r)
{
	const cJSON *item;
	error err;
	int found = 0;
	start_baseline(&r->ours, &r->groups);
	start_baseline(&r->golden, &r->groups);
	for (int g = 0; g < r->groups.count; g++)
		for (int m = 0; m < r->groups.groups[g].member_count; m++)
			r->ours.groups[g].importance += r->scores[r->groups.groups[g].members[m]];
	cJSON_ArrayForEach(item, field(r->doc.root, "candidate_stats")) {
		const struct group *group = find_group(&r->groups, item->string);
		if (cJSON_GetArraySize(field(item, "formats")) < 2) {
			assert_null(group);
			continue;
		}
		assert_non_null(group);
		r->golden.groups[group - r->groups.groups].importance =
			field(item, "scores")->child->valuedouble;
		found++;
	}
	assert_int_equal(found, r->groups.count);
	demand(rank_groups(&r->ours, &err) && rank_groups(&r->golden, &err), &err);
}

static void run_case(struct run *r, struct fixture *f, const char *set, const char *folder,
                     const struct golden_case *c, const struct golden_images *images,
                     enum pixels pixels)
{
	*r = (struct run){ .f = f, .set = set, .c = c };
	golden_load(&r->doc, folder, c->file);
	make_groups_of(r);
	make_samples(r, images, pixels);
	calibrate(r);
	score(r);
	rank_both(r);
}

static void end_case(struct run *r)
{
	for (int i = 0; i < r->sample_count; i++)
		sample_free(&r->samples[i]);
	baseline_free(&r->ours);
	baseline_free(&r->golden);
	arena_free(&r->memory);
	json_free(&r->doc);
}

/* ---- comparing ---- */

static double relative(double found, double expected)
{
	return fabs(found - expected) / fabs(expected);
}

static int compare_doubles(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;
	return left < right ? -1 : left > right;
}

/* The largest relative difference of the input and weight amax that the file has. */
static double compare_amax(const struct run *r)
{
	static const char input[] = ".input_quantizer", weight[] = ".weight_quantizer";
	const struct model *model = &r->f->model;
	const cJSON *item;
	double worst = 0;
	int seen = 0;
	cJSON_ArrayForEach(item, field(r->doc.root, "amax_active")) {
		char name[NAME_BYTES];
		name_from_any(item->string, name);
		char *suffix = strrchr(name, '.');
		bool of_input = strcmp(suffix, input) == 0;
		assert_true(of_input || strcmp(suffix, weight) == 0);
		*suffix = '\0';
		int linear = model_find_linear(model, name);
		assert_true(linear >= 0);
		const struct linear *l = &model->linears[linear];
		double found = of_input ? r->input_amax[linear]
		                        : (double)amax(l->weight, (size_t)l->out * (size_t)l->in);
		worst = fmax(worst, relative(found, item->child->valuedouble));
		seen++;
	}
	assert_true(seen > 60);
	return worst;
}

static double median_error(const struct run *r, double *largest)
{
	int count = r->ours.count;
	double errors[256];
	assert_in_range(count, 1, 256);
	for (int g = 0; g < count; g++)
		errors[g] = relative(r->ours.groups[g].importance, r->golden.groups[g].importance);
	qsort(errors, (size_t)count, sizeof *errors, compare_doubles);
	*largest = errors[count - 1];
	return count % 2 ? errors[count / 2] : (errors[count / 2 - 1] + errors[count / 2]) / 2;
}

/* 1 - 6 sum(d^2) / (n (n^2 - 1)), no two scores being equal. */
static double spearman(const struct baseline *a, const struct baseline *b)
{
	double sum = 0, n = a->count;
	for (int g = 0; g < a->count; g++) {
		double d = a->groups[g].rank - b->groups[g].rank;
		sum += d * d;
	}
	return 1 - 6 * sum / (n * (n * n - 1));
}

/* What differs between the nine top-10...90 % sets of two rankings. */
struct set_differences {
	int sets, groups;
	double widest; /* largest relative distance of two reference scores that swapped */
};

static bool in_front(const struct baseline *b, int group, int count)
{
	return b->groups[group].rank <= count;
}

/* Whoever stands in front in one ranking only must be close, by the scores of the
 * reference, to everybody who does in the other only. */
static void compare_fronts(const struct baseline *found, const struct baseline *reference,
                           int count, struct set_differences *out)
{
	int swapped = 0;
	for (int a = 0; a < found->count; a++) {
		if (!in_front(found, a, count) || in_front(reference, a, count))
			continue;
		swapped++;
		for (int b = 0; b < found->count; b++) {
			if (in_front(found, b, count) || !in_front(reference, b, count))
				continue;
			double high = reference->groups[a].importance;
			double low = reference->groups[b].importance;
			out->widest = fmax(out->widest, (high - low) / high);
		}
	}
	out->sets += swapped > 0;
	out->groups += swapped;
}

static struct set_differences compare_sets(const struct baseline *found,
                                           const struct baseline *reference)
{
	struct set_differences d = { 0 };
	for (int percent = 10; percent <= 90; percent += 10) {
		const struct rule rule = { .kind = RULE_TOP_PERCENT, .percent = percent };
		struct coverage c;
		error err;
		demand(slice_baseline(&c, reference, "x", &rule, &err), &err);
		compare_fronts(found, reference, c.asked, &d);
		coverage_free(&c);
	}
	return d;
}

static void check_parity(const struct run *r)
{
	double largest, median = median_error(r, &largest), rho = spearman(&r->ours, &r->golden);
	double worst_amax = compare_amax(r);
	struct set_differences d = compare_sets(&r->ours, &r->golden);
	print_message("%s, %s: %d groups, amax within %.1e, scores: median error %.1e, largest "
	              "%.1e, Spearman %.6f; %d of 9 sets differ (%d groups, scores within "
	              "%.2f %%)\n", r->set, r->c->name, r->ours.count, worst_amax, median,
	              largest, rho, d.sets, d.groups, 100 * d.widest);
	assert_true(worst_amax <= 1e-5);
	assert_true(median <= 1e-4);
	assert_true(rho >= 0.9999);
	assert_true(d.widest <= SAME_SCORE);
}

/* ---- tests ---- */

static void demo_scores_are_the_references(void **state)
{
	static struct golden_images images;
	load_demo_goldens(&images);
	for (int i = 0; i < CASE_COUNT; i++) {
		struct run r;
		run_case(&r, *state, "demo", DEMO_GOLDEN, &CASES[i], &images, PIXELS_OF_PIL);
		check_parity(&r);
		end_case(&r);
	}
}

static void coco_scores_are_the_references(void **state)
{
	static struct golden_images images;
	char folder[PATH_BYTES];
	if (!find_shared(folder, "golden/coco", "coco_scores_are_the_references") ||
	    !load_coco_goldens(&images, "coco_scores_are_the_references"))
		skip();
	for (int i = 0; i < CASE_COUNT; i++) {
		struct run r;
		run_case(&r, *state, "coco", folder, &CASES[i], &images, PIXELS_OF_PIL);
		check_parity(&r);
		end_case(&r);
	}
}

static void check_decoder(const struct run *r)
{
	double largest, median = median_error(r, &largest);
	struct set_differences d = compare_sets(&r->ours, &r->golden);
	print_message("%s, %s, our JPEG decoder: scores: median error %.1e, largest %.1e, "
	              "Spearman %.6f; %d of 9 sets differ (%d groups, scores within %.2f %%)\n",
	              r->set, r->c->name, median, largest, spearman(&r->ours, &r->golden),
	              d.sets, d.groups, 100 * d.widest);
	assert_true(d.widest <= SAME_SCORE);
}

static void demo_slices_do_not_depend_on_the_decoder(void **state)
{
	static struct golden_images images;
	load_demo_goldens(&images);
	for (int i = 0; i < TEXT_CASE; i++) {
		struct run r;
		run_case(&r, *state, "demo", DEMO_GOLDEN, &CASES[i], &images, PIXELS_OF_STB);
		check_decoder(&r);
		end_case(&r);
	}
}

static void coco_slices_do_not_depend_on_the_decoder(void **state)
{
	static struct golden_images images;
	char folder[PATH_BYTES];
	if (!find_shared(folder, "golden/coco", "coco_slices_do_not_depend_on_the_decoder") ||
	    !load_coco_goldens(&images, "coco_slices_do_not_depend_on_the_decoder"))
		skip();
	for (int i = 0; i < TEXT_CASE; i++) {
		struct run r;
		run_case(&r, *state, "coco", folder, &CASES[i], &images, PIXELS_OF_STB);
		check_decoder(&r);
		end_case(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(demo_scores_are_the_references),
		cmocka_unit_test(coco_scores_are_the_references),
		cmocka_unit_test(demo_slices_do_not_depend_on_the_decoder),
		cmocka_unit_test(coco_slices_do_not_depend_on_the_decoder),
	};
	return cmocka_run_group_tests(tests, start, stop);
}
