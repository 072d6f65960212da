/* Channel scales: what a norm can hold of them, the search for the best, their file; and
 * that what is scored with them is what is shipped. */
#include "lib/quant/fold_run.h"

#include <float.h>
#include <math.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/matmul.h"
#include "lib/model/expand.h"
#include "lib/quant/packed.h"
#include "lib/quant/quantised.h"
#include "lib/quant/variants.h"
#include "tests/support/expect_error.h"
#include "tests/support/numeric.h"
#include "tests/support/processes.h"
#include "tests/support/random_model.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tool_digest.h"

#include <cmocka.h>

enum { IN = 256, OUT = 48, ROWS = 40 };

static const struct format *awq(void)
{
	return format_find("int4", "group128_awq");
}

/* ---- folding ---- */

static void norms_hold_what_bf16_can(void **state)
{
	enum { COUNT = 7 };
	const float norm[COUNT] = { 1, -0.5f, 0, 3, 1, 0x1p-126f, 0x1.fep127f };
	const float wanted[COUNT] = { 2, 0.25f, 5, 3, 1, 4, 0.5f };
	const float after[COUNT] = { 0.5f, -2, 0, 1, 1, 0x1p-126f, 0x1.fep127f };
	const float kept[COUNT] = { 2, 0.25f, 1, 3, 1, 1, 1 };
	float folded[COUNT], scales[COUNT];
	(void)state;
	fold_norm(norm, wanted, COUNT, folded);
	assert_memory_equal(folded, after, sizeof after);
	assert_int_equal(fold_scales(norm, folded, COUNT, scales), COUNT);
	assert_memory_equal(scales, kept, sizeof kept);
}

/* norm = folded * scale up to one rounding to float32, whatever was asked for. */
static void scales_are_those_of_the_rounded_norm(void **state)
{
	float norm[IN], wanted[IN], folded[IN], scales[IN];
	(void)state;
	fill_random(norm, IN, 2, 1);
	fill_random(wanted, IN, 3, 2);
	for (int i = 0; i < IN; i++) {
		norm[i] = bf16_nearest(norm[i]);
		wanted[i] = expf(wanted[i]);
	}
	fold_norm(norm, wanted, IN, folded);
	assert_int_equal(fold_scales(norm, folded, IN, scales), IN);
	for (int i = 0; i < IN; i++) {
		assert_true(folded[i] == bf16_nearest(folded[i]));
		assert_true(fabsf(scales[i] / wanted[i] - 1) <= 0x1p-8f);
		double back = (double)folded[i] * (double)scales[i];
		assert_true(fabs(back - (double)norm[i]) <= fabs((double)norm[i]) * 0x1p-24);
	}
}

static void norms_that_are_none_are_noticed(void **state)
{
	static const float pairs[][2] = { { 1, -1 }, { 1, 0 }, { 0, 1 }, { 1, NAN }, { NAN, 1 },
		{ 1, INFINITY }, { INFINITY, 1 }, { 0x1p-126f, 0x1p127f } };
	(void)state;
	for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
		float norm[2] = { 1, pairs[i][0] }, folded[2] = { 1, pairs[i][1] }, scales[2];
		assert_int_equal(fold_scales(norm, folded, 2, scales), 1);
	}
}

static void columns_come_back(void **state)
{
	float w[2 * IN], again[2 * IN], scales[IN];
	(void)state;
	fill_random(w, 2 * IN, 1, 3);
	fill_random(scales, IN, 1, 4);
	for (int i = 0; i < IN; i++)
		scales[i] = 2 + scales[i];
	memcpy(again, w, sizeof w);
	scale_columns(again, 2, IN, scales);
	for (int i = 0; i < 2 * IN; i++)
		assert_true(again[i] == w[i] * scales[i % IN]);
	unscale_columns(again, 2, IN, scales);
	for (int i = 0; i < 2 * IN; i++)
		assert_true(fabsf(again[i] - w[i]) <= fabsf(w[i]) * 0x1p-22f);
}

/* ---- the search ---- */

struct problem {
	float weights[2][OUT * IN], norm[IN], mean[IN], x[ROWS * IN];
	struct tensor tensors[2];
	struct fold_search search;
};

/* Channels of `loud` carry activations so many times as large as the others. */
static struct problem *make_problem(float times, int loud)
{
	struct problem *p = calloc(1, sizeof *p);
	assert_non_null(p);
	for (int m = 0; m < 2; m++) {
		fill_random(p->weights[m], OUT * IN, 0.1f, 10 + (uint32_t)m);
		p->tensors[m] = (struct tensor){ .name = "w", .dtype = DTYPE_F32, .rank = 2,
			.shape = { OUT, IN }, .elements = OUT * IN, .data = p->weights[m] };
	}
	fill_random(p->x, ROWS * IN, 1, 20);
	for (int i = 0; i < IN; i++) {
		p->norm[i] = 1;
		for (int row = 0; row < ROWS; row++) {
			p->x[row * IN + i] *= i % (IN / loud) == 3 ? times : 1;
			p->mean[i] += fabsf(p->x[row * IN + i]) / ROWS;
		}
	}
	p->search = (struct fold_search){ .format = awq(), .in = IN, .member_count = 2,
		.weights = { &p->tensors[0], &p->tensors[1] }, .norm = p->norm, .mean = p->mean,
		.x = p->x, .rows = ROWS };
	return p;
}

static void search(struct problem *p, float *folded, struct fold_choice *choice)
{
	error err;
	if (!search_fold(&p->search, folded, choice, &err))
		fail_msg("%s", err.text);
}

/* The error again, output by output, in float64. */
static double error_of(const struct problem *p, const float *scales)
{
	static float values[OUT * IN];
	double sum = 0;
	for (int m = 0; m < 2; m++) {
		memcpy(values, p->weights[m], sizeof values);
		scale_columns(values, OUT, IN, scales);
		awq()->round_weight(NUMERICS_QUERN, values, OUT, IN, 0, values);
		unscale_columns(values, OUT, IN, scales);
		for (int row = 0; row < ROWS; row++)
			for (int o = 0; o < OUT; o++) {
				double d = 0;
				for (int i = 0; i < IN; i++)
					d += (double)p->x[row * IN + i] *
					     ((double)values[o * IN + i] - (double)p->weights[m][o * IN + i]);
				sum += d * d;
			}
	}
	return sum;
}

static void loud_channels_get_scales(void **state)
{
	struct problem *p = make_problem(50, 4);
	struct fold_choice choice;
	float folded[IN], scales[IN], ones[IN];
	(void)state;
	search(p, folded, &choice);
	assert_int_equal(fold_scales(p->norm, folded, IN, scales), IN);
	for (int i = 0; i < IN; i++)
		ones[i] = 1;
	assert_true(choice.candidate > 0);
	assert_true(scales[3] > 2 * scales[4]);
	assert_true(choice.error < choice.plain_error / 2);
	assert_true(fabs(choice.error / error_of(p, scales) - 1) < 1e-3);
	assert_true(fabs(choice.plain_error / error_of(p, ones) - 1) < 1e-3);
	free(p);
}

/* The same mean everywhere asks for no scales, whatever the exponent. */
static void flat_activations_stay(void **state)
{
	struct problem *p = make_problem(1, 4);
	struct fold_choice choice;
	float folded[IN];
	(void)state;
	for (int i = 0; i < IN; i++)
		p->mean[i] = 0.7f;
	search(p, folded, &choice);
	assert_int_equal(choice.candidate, 0);
	assert_true(choice.error == choice.plain_error);
	assert_memory_equal(folded, p->norm, sizeof folded);
	free(p);
}

/* Of any activations the search is never worse than no scales; and without a row to judge
 * by it takes none. */
static void never_worse_than_none(void **state)
{
	struct fold_choice choice;
	float folded[IN];
	(void)state;
	for (int loud = 1; loud <= 64; loud *= 4) {
		struct problem *p = make_problem(3, loud);
		search(p, folded, &choice);
		assert_true(choice.error <= choice.plain_error);
		p->search.rows = 0;
		search(p, folded, &choice);
		assert_int_equal(choice.candidate, 0);
		free(p);
	}
}

static void norms_must_be_numbers(void **state)
{
	struct problem *p = make_problem(50, 4);
	struct fold_choice choice;
	float folded[IN];
	error err;
	(void)state;
	p->norm[9] = NAN;
	assert_false(search_fold(&p->search, folded, &choice, &err));
	expect_error(&err, EXIT_BAD_INPUT, "finite", NULL);
	free(p);
}

/* ---- a model ---- */

static char folder[PATH_BYTES], model_folder[PATH_BYTES];

/* Text and vision as wide as the format asks for. */
static int make(void **state)
{
	struct random_model shape = random_model_tiny();
	error err;
	(void)state;
	shape.config.text.hidden = 128;
	shape.config.vision.hidden = 128;
	shape.config.vision.intermediate = 130;
	matmul_threads(1);
	if (tool_digest_make() && temp_folder_make(folder, &err) &&
	    join_path(model_folder, sizeof model_folder, folder, "model", &err) &&
	    make_folders(model_folder, &err) &&
	    random_model_write(&shape, model_folder, &err))
		return 0;
	print_error("%s\n", err.text);
	return -1;
}

static int clean(void **state)
{
	(void)state;
	tool_digest_remove();
	temp_folder_remove(folder);
	return 0;
}

struct subject {
	struct model_config config;
	struct linear_shape *linears;
	int count;
	struct group_list groups;
	struct folds folds;
	arena memory;
};

static const char *const HEAD[] = { "lm_head" };

static bool describe(struct subject *s, error *err)
{
	return model_config_load(&s->config, model_folder, err) &&
	       list_linears(&s->config, &s->memory, &s->linears, &s->count, err) &&
	       make_groups(s->linears, s->count, HEAD, 1, &s->memory, &s->groups, err) &&
	       keep_takeable(&s->groups, s->linears, awq(), "AWQ", true, err);
}

static void forget(struct subject *s)
{
	folds_free(&s->folds);
	arena_free(&s->memory);
}

/* Into folder/NAME, with the store in folder/TREE. */
static bool fold_into(struct subject *s, const char *tree, const char *name, error *err)
{
	const struct source_settings images = { .model = model_folder,
		.calib_db = "demo/demo_vlm_calib.db", .image_root = "demo", .prompt = "answer",
		.on_bad_sample = "stop", .samples = 5, .block_samples = 2, .max_pixels = 12544 };
	char path[PATH_BYTES];
	text printed = { 0 };
	if (!join_path(path, sizeof path, folder, tree, err))
		return false;
	const struct fold_job job = { .data = &images, .linears = s->linears,
		.linear_count = s->count, .groups = &s->groups, .format = awq(), .tree = path,
		.target = "the target" };
	bool ok = run_folds(&job, &printed, err) &&
	          temp_folder_write(folder, name, printed.data, printed.length, err);
	text_free(&printed);
	return ok;
}

static void read_back(struct subject *s, const char *name)
{
	char path[PATH_BYTES];
	error err;
	if (!join_path(path, sizeof path, folder, name, &err) ||
	    !folds_read(&s->folds, path, awq(), s->linears, s->count, &err))
		fail_msg("%s", err.text);
}

static void begin(struct subject *s, const char *name)
{
	error err;
	*s = (struct subject){ 0 };
	if (!describe(s, &err) || !fold_into(s, "tree", name, &err))
		fail_msg("%s", err.text);
	read_back(s, name);
}

static void every_norm_before_a_group_is_found(void **state)
{
	struct subject s;
	int some = 0;
	(void)state;
	begin(&s, "all.json");
	/* Two of each of two text layers and two vision blocks. */
	assert_int_equal(s.folds.count, 8);
	for (int i = 0; i < s.folds.count; i++) {
		const struct fold *f = &s.folds.folds[i];
		some += f->choice.candidate > 0 || memcmp(f->before, f->after, 128 * 4) != 0;
		assert_int_equal(f->in, 128);
	}
	assert_true(some > 0);
	assert_non_null(find_fold(&s.folds, awq(), "visual.blocks.1.attn.qkv.quant_recipe"));
	assert_non_null(find_fold(&s.folds, awq(),
	                          "language_model.layers.0.mlp.gate_proj.quant_recipe"));
	assert_null(find_fold(&s.folds, awq(),
	                      "language_model.layers.0.self_attn.o_proj.quant_recipe"));
	assert_null(find_fold(&s.folds, format_find("int4", "group128_weight_only"),
	                      "visual.blocks.1.attn.qkv.quant_recipe"));
	forget(&s);
}

struct restricted {
	int cores;
	const char *tree, *name;
};

static int fold_restricted(void *argument)
{
	const struct restricted *r = argument;
	struct subject s = { 0 };
	cpu_set_t all, some;
	error err;
	int taken = 0;
	CPU_ZERO(&some);
	sched_getaffinity(0, sizeof all, &all);
	for (int cpu = 0; cpu < CPU_SETSIZE && taken < r->cores; cpu++)
		if (CPU_ISSET(cpu, &all) && ++taken)
			CPU_SET(cpu, &some);
	bool ok = sched_setaffinity(0, sizeof some, &some) == 0 && describe(&s, &err) &&
	          fold_into(&s, r->tree, r->name, &err);
	forget(&s);
	return ok ? taken : 100;
}

static void one_thread_and_two_give_the_same_bytes(void **state)
{
	struct restricted one = { 1, "tree1", "one.json" }, two = { 2, "tree2", "two.json" };
	cpu_set_t all;
	char paths[2][PATH_BYTES], *texts[2];
	size_t sizes[2];
	error err;
	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
	if (CPU_COUNT(&all) < 2) {
		printf("SKIP one_thread_and_two_give_the_same_bytes: a second core is absent\n");
		skip();
	}
	assert_int_equal(run_process(fold_restricted, &one), 1);
	assert_int_equal(run_process(fold_restricted, &two), 2);
	for (int i = 0; i < 2; i++)
		if (!join_path(paths[i], PATH_BYTES, folder, i ? two.name : one.name, &err) ||
		    !read_file(paths[i], 1 << 24, &texts[i], &sizes[i], &err))
			fail_msg("%s", err.text);
	assert_int_equal(sizes[0], sizes[1]);
	assert_memory_equal(texts[0], texts[1], sizes[0]);
	free(texts[0]);
	free(texts[1]);
}

/* ---- scored and shipped ---- */

static void compare_member(const struct subject *s, const struct variant_pair *pair, int m,
                           const struct safetensors *file, const struct safetensors *norms,
                           const struct quantised_model *q)
{
	const struct fold *fold = find_fold(&s->folds, awq(), pair->group);
	const struct tensor_source codes = tensors_of_file(file), after = tensors_of_file(norms);
	int linear = 0;
	struct packed_linear p;
	error err;
	while (strcmp(s->linears[linear].name, pair->members[m]) != 0)
		linear++;
	const struct linear_shape *shape = &s->linears[linear];
	size_t count = (size_t)shape->out * (size_t)shape->in;
	float *shipped = malloc(count * sizeof *shipped), *norm = calloc((size_t)shape->in, 4);
	assert_true(shipped && norm);
	if (!packed_find_weight(&p, awq(), PROFILE_UNIVERSAL, shape, 1, &codes, &err))
		fail_msg("%s", err.text);
	p.format->unpack(&p.weight, 0, shape->out, shipped);
	if (fold) {
		char hub[NAME_BYTES], name[NAME_BYTES + 8];
		name_to_hub(fold->norm, hub);
		snprintf(name, sizeof name, "%s.weight", hub);
		const struct tensor *t = after.find(after.self, name);
		assert_non_null(t);
		expand_values(norm, t->dtype, t->data, (size_t)shape->in);
	}
	for (size_t i = 0; i < count; i++) {
		size_t c = i % (size_t)shape->in;
		double there = (double)shipped[i] * (fold ? (double)norm[c] : 1);
		double scored = (double)q->linears[linear].values[i] *
		                (fold ? (double)fold->before[c] : 1);
		if (fabs(there - scored) > fabs(scored) * 0x1p-21)
			fail_msg("%s[%zu]: scored %g, shipped %g", shape->name, i, scored, there);
	}
	free(shipped);
	free(norm);
}

static void open_object(const char *tree, const struct output *o, struct safetensors *file)
{
	struct store store;
	char path[PATH_BYTES], top[PATH_BYTES];
	error err;
	if (!join_path(top, sizeof top, tree, "store", &err) || !store_open(&store, top, &err) ||
	    !store_object_path(&store, &o->digest, path, &err) ||
	    !safetensors_open(file, path, &err))
		fail_msg("%s", err.text);
}

/* norm x (Q(W s) / s) = (norm / s) x Q(W s): codes and folded norms of the pieces give the
 * products that scoring had. */
static void what_is_scored_is_shipped(void **state)
{
	struct subject s;
	struct checkpoint base;
	struct model model;
	struct quantised_model q;
	struct variant_set set;
	struct safetensors norms;
	char tree[PATH_BYTES];
	error err;
	(void)state;
	begin(&s, "shipped.json");
	if (!join_path(tree, sizeof tree, folder, "tree", &err) ||
	    !checkpoint_open(&base, model_folder, &err) ||
	    !model_open(&model, &base, &s.config, (size_t)1 << 30, &err) ||
	    !quantise_model(&q, &model, &s.groups, NULL, awq(), NUMERICS_QUERN, true, NULL,
	                    &s.folds, (size_t)1 << 30, &err))
		fail_msg("%s", err.text);
	const struct variant_job job = { .model = model_folder, .tree = tree, .target = "t",
		.format_name = "AWQ", .format = awq(), .folds = &s.folds, .skip_bad_shapes = true,
		.exclude = HEAD, .exclude_count = 1 };
	if (!make_variants(&set, &job, &err))
		fail_msg("%s", err.text);
	open_object(tree, &set.folded, &norms);
	for (int i = 0; i < set.count; i++) {
		struct safetensors file;
		if (!set.pairs[i].quantised.bytes)
			continue;
		open_object(tree, &set.pairs[i].quantised, &file);
		for (int m = 0; m < set.pairs[i].member_count; m++)
			compare_member(&s, &set.pairs[i], m, &file, &norms, &q);
		safetensors_close(&file);
	}
	safetensors_close(&norms);
	variants_free(&set);
	quantised_free(&q);
	model_close(&model);
	checkpoint_close(&base);
	forget(&s);
}

/* ---- the file ---- */

static void replace(char *in, const char *what, const char *by)
{
	char *at = strstr(in, what);
	assert_non_null(at);
	assert_int_equal(strlen(what), strlen(by));
	memcpy(at, by, strlen(by));
}

static void damaged_files_are_refused(void **state)
{
	static const struct {
		const char *what, *by, *where, *found;
	} cases[] = {
		{ "\"int4\"", "\"int8\"", "f.json:1", "expected channel scales of int4" },
		{ "group128_awq", "group128_gwq", "f.json:1", "found int4 group128_gwq" },
		{ "\"groups\"", "\"gruops\"", "groups", "" },
		{ "visual.blocks.0.attn.qkv.quant_recipe", "visual.blocks.9.attn.qkv.quant_recipe",
		  "visual.blocks.9", "no such group" },
		{ "\"visual.blocks.0.norm1\"", "\"visual.blocks.0.norm2\"", "visual.blocks.0",
		  "expected the norm before it" },
		{ "\"after\": \"3f", "\"after\": \"bf", "channel 0", "folded" },
		{ "\"after\": \"3f", "\"after\": \"zf", "after", "512 hexadecimal digits" },
		{ "\"after\": \"3f", "\"aftre\": \"3f", "after", "" },
	};
	struct subject s;
	char path[PATH_BYTES], *good;
	size_t size;
	error err;
	(void)state;
	begin(&s, "f.json");
	if (!join_path(path, sizeof path, folder, "f.json", &err) ||
	    !read_file(path, 1 << 24, &good, &size, &err))
		fail_msg("%s", err.text);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct folds folds = { 0 };
		char *bad = malloc(size + 1);
		memcpy(bad, good, size + 1);
		replace(bad, cases[i].what, cases[i].by);
		assert_true(temp_folder_write(folder, "f.json", bad, size, &err));
		if (folds_read(&folds, path, awq(), s.linears, s.count, &err))
			fail_msg("%s: was let pass", cases[i].by);
		expect_error(&err, EXIT_BAD_INPUT, "f.json", cases[i].where, cases[i].found, NULL);
		folds_free(&folds);
		free(bad);
	}
	free(good);
	forget(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(norms_hold_what_bf16_can),
		cmocka_unit_test(scales_are_those_of_the_rounded_norm),
		cmocka_unit_test(norms_that_are_none_are_noticed),
		cmocka_unit_test(columns_come_back),
		cmocka_unit_test(loud_channels_get_scales),
		cmocka_unit_test(flat_activations_stay),
		cmocka_unit_test(never_worse_than_none),
		cmocka_unit_test(norms_must_be_numbers),
		cmocka_unit_test(every_norm_before_a_group_is_found),
		cmocka_unit_test(one_thread_and_two_give_the_same_bytes),
		cmocka_unit_test(what_is_scored_is_shipped),
		cmocka_unit_test(damaged_files_are_refused),
	};
	return cmocka_run_group_tests(tests, make, clean);
}
