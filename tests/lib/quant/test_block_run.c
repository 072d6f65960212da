/* Running blocks: the same bytes whatever the number of threads and of parts; only
 * what the store lacks is measured; what goes wrong is told and nothing is stored. */
#include "lib/quant/block_run.h"

#include <math.h>
#include <sched.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/matmul.h"
#include "lib/quant/taps.h"
#include "tests/support/expect_error.h"
#include "tests/support/processes.h"
#include "tests/support/random_model.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tool_digest.h"

#include <cmocka.h>

/* 7 blocks of 6 samples and one of 3. */
enum { SAMPLES = 45, BLOCK_SAMPLES = 6, BLOCKS = 8, MAX_PART_BYTES = 1 << 24 };

static char folder[PATH_BYTES], model_folder[PATH_BYTES], other_folder[PATH_BYTES];

static bool make_model(char path[PATH_BYTES], const char *name, uint64_t seed, error *err)
{
	struct random_model shape = random_model_tiny();
	shape.seed = seed;
	return join_path(path, PATH_BYTES, folder, name, err) && make_folders(path, err) &&
	       random_model_write(&shape, path, err);
}

static int make(void **state)
{
	(void)state;
	error err;
	matmul_threads(1);
	if (tool_digest_make() && temp_folder_make(folder, &err) &&
	    make_model(model_folder, "model", 1, &err) &&
	    make_model(other_folder, "other", 2, &err))
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

/* folder/name in one of a few buffers that later calls overwrite. */
static const char *path_of(const char *name)
{
	static char paths[4][PATH_BYTES];
	static int next;
	error err;
	char *path = paths[next++ % 4];
	assert_true(join_path(path, PATH_BYTES, folder, name, &err));
	return path;
}

/* ---- a measurement that counts what it is asked for ---- */

/* The gradient score of all text groups; what the tests want to go wrong goes wrong. */
struct probe {
	atomic_int threads, measured;
	int prepared, keys;
	int swap_at_key; /* at this call of add_key the model's weights are replaced */
	double poison;   /* if not 0: what one linear of the first sample measures */
	bool failing;
	const struct sample *slow; /* if not NULL every sample fails, this one last */
	struct group_list groups;
	struct quantised_model quantised;
	arena memory;
};

static bool add_key(void *self, struct key *key, error *err)
{
	struct probe *p = self;
	char from[PATH_BYTES], to[PATH_BYTES];
	key_add(key, "amax", "10 everywhere");
	if (++p->keys != p->swap_at_key)
		return true;
	return join_path(from, sizeof from, other_folder, "model.safetensors", err) &&
	       join_path(to, sizeof to, model_folder, "model.safetensors", err) &&
	       (rename(from, to) == 0 || fail_errno(err, 0, "cannot swap the weights"));
}

static bool prepare(void *self, const struct model *model, error *err)
{
	static const char *const exclude[] = { "visual.*", "lm_head" };
	struct probe *p = self;
	struct linear_shape *linears;
	int count;
	p->prepared++;
	float *amax = arena_alloc(&p->memory, (size_t)model->linear_count, sizeof *amax, err);
	for (int i = 0; amax && i < model->linear_count; i++)
		amax[i] = 10;
	return amax && list_linears(&model->config, &p->memory, &linears, &count, err) &&
	       make_groups(linears, count, exclude, 2, &p->memory, &p->groups, err) &&
	       quantise_model(&p->quantised, model, &p->groups, NULL,
	                      format_find("fp8_e4m3", "tensor"), NUMERICS_QUERN, true, amax,
	                      NULL, 1 << 20, err);
}

static bool measures(void *self, const struct model *model, int linear)
{
	(void)model;
	return ((struct probe *)self)->quantised.linears[linear].format != NULL;
}

static void *begin_thread(void *self, error *err)
{
	struct probe *p = self;
	p->threads++;
	return perturbation_new(&p->quantised, err);
}

static void end_thread(void *self, void *state)
{
	(void)self;
	perturbation_free(state);
}

static bool measure(void *self, void *state, const struct model *model,
                    struct workspace *w, const struct sample *s, double *values,
                    double *loss, error *err)
{
	struct probe *p = self;
	struct tap tap = perturbation_tap(state, values);
	struct outcome outcome;
	bool first = p->measured++ == 0;
	if (p->slow) {
		bool slow = s->tokens == p->slow->tokens &&
		            memcmp(s->ids, p->slow->ids, (size_t)s->tokens * sizeof *s->ids) == 0;
		sleep_milliseconds(slow ? 20 : 0);
		return fail_memory(err, slow ? "the first sample" : "a later sample", 1);
	}
	if (p->failing)
		return fail_memory(err, "nothing at all", 1);
	if (!model_gradient(model, w, s, &tap, &outcome, err))
		return false;
	*loss = outcome.loss;
	if (first && p->poison != 0)
		values[model->linear_count - 2] = p->poison;
	return true;
}

static struct source_settings text_settings(void)
{
	return (struct source_settings){ .model = model_folder,
		.captions = "demo/demo_captions.txt", .prompt = "text", .on_bad_sample = "stop",
		.samples = SAMPLES, .block_samples = BLOCK_SAMPLES };
}

/* Runs a part into folder/out with the store in folder/tree. */
static bool run_probe(struct probe *p, const struct source_settings *settings,
                      const char *tree, int part, int parts, const char *out, error *err)
{
	const struct measurement m = { .self = p, .tool = "probe", .kind = BLOCK_GRADIENT,
		.add_key = add_key, .prepare = prepare, .measures = measures,
		.begin_thread = begin_thread, .end_thread = end_thread, .measure = measure };
	const struct device_choice cpu = { .gpu = false };
	bool ok = run_blocks(settings, &m, &cpu, path_of(tree), part, parts, path_of(out), err);
	quantised_free(&p->quantised);
	arena_free(&p->memory);
	return ok;
}

static void expect_run(struct probe *p, const struct source_settings *settings,
                       const char *tree, int part, int parts, const char *out)
{
	error err;
	if (!run_probe(p, settings, tree, part, parts, out, &err))
		fail_msg("%s", err.text);
}

static text read_text(const char *name)
{
	text out = { 0 };
	char *data;
	size_t size;
	error err;
	if (!read_file(path_of(name), MAX_PART_BYTES, &data, &size, &err))
		fail_msg("%s", err.text);
	text_add(&out, data, size);
	free(data);
	return out;
}

static void expect_same_file(const char *one, const char *other)
{
	text a = read_text(one), b = read_text(other);
	assert_int_equal(a.length, b.length);
	assert_memory_equal(a.data, b.data, a.length);
	text_free(&a);
	text_free(&b);
}

/* ---- threads ---- */

/* In a child process that may use so many cores; exits with the number of threads
 * that measured, or 100. */
struct restricted {
	int cores;
	const char *tree, *out;
};

static int run_restricted(void *argument)
{
	const struct restricted *r = argument;
	struct source_settings settings = text_settings();
	struct probe p = { 0 };
	cpu_set_t all, some;
	error err;
	int taken = 0;
	CPU_ZERO(&some);
	if (sched_getaffinity(0, sizeof all, &all) != 0)
		return 100;
	for (int cpu = 0; cpu < CPU_SETSIZE && taken < r->cores; cpu++)
		if (CPU_ISSET(cpu, &all) && ++taken)
			CPU_SET(cpu, &some);
	if (sched_setaffinity(0, sizeof some, &some) != 0 ||
	    !run_probe(&p, &settings, r->tree, 0, 1, r->out, &err))
		return 100;
	return p.threads;
}

static void one_thread_and_two_give_the_same_bytes(void **state)
{
	(void)state;
	cpu_set_t all;
	struct restricted one = { 1, "tree1", "one.json" }, two = { 2, "tree2", "two.json" };
	assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
	assert_int_equal(run_process(run_restricted, &one), 1);
	if (CPU_COUNT(&all) < 2) {
		printf("SKIP one_thread_and_two_give_the_same_bytes: a second core is absent\n");
		skip();
	}
	assert_int_equal(run_process(run_restricted, &two), 2);
	expect_same_file("one.json", "two.json");
}

/* ---- the store ---- */

static void measures_only_what_the_store_lacks(void **state)
{
	(void)state;
	struct source_settings settings = text_settings();
	struct probe p = { 0 };
	settings.samples = 20; /* three blocks and two samples of the fourth */
	expect_run(&p, &settings, "tree", 0, 1, "first.json");
	assert_int_equal(p.measured, 20);
	assert_int_equal(p.prepared, 1);
	p = (struct probe){ 0 };
	expect_run(&p, &settings, "tree", 0, 1, "again.json");
	assert_int_equal(p.measured, 0);
	assert_int_equal(p.prepared, 0);
	expect_same_file("first.json", "again.json");
	p = (struct probe){ 0 };
	settings.samples = SAMPLES; /* the fourth block grows, the others stay */
	expect_run(&p, &settings, "tree", 0, 1, "more.json");
	assert_int_equal(p.measured, SAMPLES - 18);
	p = (struct probe){ 0 };
	settings.max_tokens = 12; /* another way to make samples */
	expect_run(&p, &settings, "tree", 0, 1, "cut.json");
	assert_int_equal(p.measured, SAMPLES);
}

/* All parts' blocks merged, as the text of one block. */
static void merge_parts(const char *const *names, int count, text *out)
{
	const char *paths[BLOCKS + 1];
	char copies[BLOCKS + 1][PATH_BYTES];
	struct block_list list;
	struct block merged;
	error err;
	for (int i = 0; i < count; i++) {
		snprintf(copies[i], PATH_BYTES, "%s", path_of(names[i]));
		paths[i] = copies[i];
	}
	if (!read_parts(&list, paths, count, BLOCK_GRADIENT, &err) ||
	    !merge_blocks(&list, BLOCK_GRADIENT, &merged, &err) ||
	    !print_block(&merged, BLOCK_GRADIENT, out, &err))
		fail_msg("%s", err.text);
	assert_int_equal(merged.samples, SAMPLES);
	block_list_free(&list);
}

/* More parts than blocks, too: then some are empty. */
static void parts_come_together(void **state)
{
	(void)state;
	static const int counts[] = { 1, 3, BLOCKS + 1 };
	struct source_settings settings = text_settings();
	text first = { 0 };
	for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
		char names[BLOCKS + 1][32];
		const char *list[BLOCKS + 1];
		text merged = { 0 };
		for (int i = 0; i < counts[c]; i++) {
			struct probe p = { 0 };
			snprintf(names[i], sizeof names[i], "part.%d.json", i);
			list[i] = names[i];
			expect_run(&p, &settings, c ? "tree-parts" : "tree-whole", i, counts[c],
			           names[i]);
		}
		merge_parts(list, counts[c], &merged);
		if (!c)
			first = merged;
		assert_int_equal(first.length, merged.length);
		assert_memory_equal(first.data, merged.data, merged.length);
		if (c)
			text_free(&merged);
	}
	text_free(&first);
}

/* ---- what goes wrong ---- */

static void expect_failure(struct probe *p, const struct source_settings *settings,
                           enum exit_code code, const char *says)
{
	error err;
	assert_false(run_probe(p, settings, "tree-bad", 0, 1, "bad.json", &err));
	expect_error(&err, code, says, NULL);
	assert_false(file_exists(path_of("bad.json")));
}

static void tells_of_numbers_that_are_none(void **state)
{
	(void)state;
	static const double poisons[] = { NAN, INFINITY };
	struct source_settings settings = text_settings();
	for (int i = 0; i < 2; i++) {
		struct probe p = { .poison = poisons[i] };
		expect_failure(&p, &settings, EXIT_BAD_INPUT,
		               "language_model.layers.1.mlp.down_proj: expected a finite number");
	}
	struct probe p = { 0 }; /* and nothing of it was stored */
	expect_run(&p, &settings, "tree-bad", 0, 1, "good.json");
	assert_int_equal(p.measured, SAMPLES);
}

static void passes_on_what_a_measurement_says(void **state)
{
	(void)state;
	struct source_settings settings = text_settings();
	struct probe p = { .failing = true };
	settings.max_tokens = 11;
	expect_failure(&p, &settings, EXIT_ENVIRONMENT, "nothing at all");
}

/* Also where another thread comes to a bad sample sooner. */
static void tells_of_the_first_sample_that_fails(void **state)
{
	(void)state;
	struct source_settings settings = text_settings();
	struct source source;
	struct sample first;
	bool unreadable;
	error err;
	settings.max_tokens = 13; /* nothing is stored of that yet */
	assert_true(source_open(&source, &settings, &err));
	assert_true(source_sample(&source, 0, &first, &unreadable, &err));
	for (int i = 0; i < 5; i++) {
		struct probe p = { .slow = &first };
		expect_failure(&p, &settings, EXIT_ENVIRONMENT, "the first sample");
	}
	sample_free(&first);
	source_close(&source);
}

/* Keys are asked for before a block is measured and again after it; the weights are
 * replaced between two blocks, when the old ones are in memory already. */
static void notices_weights_that_were_replaced(void **state)
{
	(void)state;
	struct source_settings settings = text_settings();
	struct probe p = { .swap_at_key = 3 };
	settings.max_tokens = 10;
	expect_failure(&p, &settings, EXIT_BAD_INPUT, "changed while it was in use");
	assert_int_equal(p.measured, 2 * BLOCK_SAMPLES);
	p = (struct probe){ 0 }; /* the block before is the old weights', it does not count */
	expect_run(&p, &settings, "tree-bad", 0, 1, "replaced.json");
	assert_int_equal(p.measured, SAMPLES);
}

static void refuses_senseless_settings(void **state)
{
	(void)state;
	const struct source_settings good = text_settings();
	struct {
		struct source_settings settings;
		const char *says;
	} cases[] = {
		{ good, "--captions or --calib-db, found both" },
		{ good, "--captions or --calib-db, found neither" },
		{ good, "--image-root" },
		{ good, "--prompt" }, { good, "--prompt" }, { good, "--on-bad-sample" },
		{ good, "--samples" }, { good, "--block-samples" }, { good, "--block-samples" },
		{ good, "--max-tokens" }, { good, "--max-pixels" },
	};
	cases[0].settings.calib_db = "x.db";
	cases[1].settings.captions = NULL;
	cases[2].settings.captions = NULL;
	cases[2].settings.calib_db = "x.db";
	cases[3].settings.prompt = "ask";
	cases[4].settings.prompt = "";
	cases[5].settings.on_bad_sample = "shrug";
	cases[6].settings.samples = 0;
	cases[7].settings.block_samples = 0;
	cases[8].settings.block_samples = INT64_MAX;
	cases[9].settings.max_tokens = (int64_t)1 << 32;
	cases[10].settings.max_pixels = INT64_MAX;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct probe p = { 0 };
		expect_failure(&p, &cases[i].settings, EXIT_USAGE, cases[i].says);
	}
	struct probe p = { 0 };
	struct source_settings missing = good;
	missing.model = "no/such/model";
	expect_failure(&p, &missing, EXIT_BAD_INPUT, "no/such/model");
	missing = good;
	missing.captions = "no/such/captions.txt";
	expect_failure(&p, &missing, EXIT_BAD_INPUT, "no/such/captions.txt");
}

/* ---- bad samples ---- */

/* A DB of the demo's images in which every image with a number that `missing`
 * divides is absent. */
static const char *make_db(const char *name, int missing)
{
	const char *path = path_of(name);
	char sql[512], *message;
	sqlite3 *db;
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	snprintf(sql, sizeof sql,
	         "CREATE TABLE vlm_calib_samples (id INTEGER PRIMARY KEY, image_relpath TEXT, "
	         "caption TEXT); WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n "
	         "WHERE i < 4) INSERT INTO vlm_calib_samples SELECT i, CASE i %% %d WHEN 0 THEN "
	         "'images/gone_' || i || '.jpg' ELSE 'images/scene_00' || i || '.jpg' END, "
	         "'Some shape.' FROM n", missing);
	if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
		fail_msg("%s", message);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	return path;
}

static struct source_settings image_settings(const char *db)
{
	struct source_settings settings = text_settings();
	settings.captions = NULL;
	settings.calib_db = db;
	settings.image_root = "demo";
	settings.prompt = "answer";
	settings.max_pixels = 56 * 56;
	return settings;
}

static void stops_at_an_image_that_is_missing(void **state)
{
	(void)state;
	struct source_settings settings = image_settings(make_db("stop.db", 3));
	struct probe p = { 0 };
	expect_failure(&p, &settings, EXIT_BAD_INPUT, "images/gone_0.jpg");
}

static void skips_images_that_are_missing(void **state)
{
	(void)state;
	struct source_settings settings = image_settings(make_db("skip.db", 3));
	struct probe p = { 0 };
	struct block_list list;
	struct block merged;
	char path[PATH_BYTES];
	const char *paths[] = { path };
	error err;
	settings.on_bad_sample = "skip";
	expect_run(&p, &settings, "tree", 0, 1, "skipped.json");
	assert_int_equal(p.measured, 3);
	snprintf(path, sizeof path, "%s", path_of("skipped.json"));
	assert_true(read_parts(&list, paths, 1, BLOCK_GRADIENT, &err));
	assert_true(merge_blocks(&list, BLOCK_GRADIENT, &merged, &err));
	assert_int_equal(merged.samples, 3);
	assert_int_equal(merged.skipped_count, 2);
	assert_string_equal(merged.skipped[0], "images/gone_0.jpg");
	assert_string_equal(merged.skipped[1], "images/gone_3.jpg");
	block_list_free(&list);
}

static void nothing_but_skipped_samples_is_nothing(void **state)
{
	(void)state;
	struct source_settings settings = image_settings(make_db("none.db", 1));
	struct probe p = { 0 };
	struct block_list list;
	struct block merged;
	char path[PATH_BYTES];
	const char *paths[] = { path };
	error err;
	settings.on_bad_sample = "skip";
	expect_run(&p, &settings, "tree", 0, 1, "none.json");
	snprintf(path, sizeof path, "%s", path_of("none.json"));
	assert_true(read_parts(&list, paths, 1, BLOCK_GRADIENT, &err));
	assert_false(merge_blocks(&list, BLOCK_GRADIENT, &merged, &err));
	expect_error(&err, EXIT_BAD_INPUT, "5 skipped", NULL);
	block_list_free(&list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_thread_and_two_give_the_same_bytes),
		cmocka_unit_test(measures_only_what_the_store_lacks),
		cmocka_unit_test(parts_come_together),
		cmocka_unit_test(tells_of_numbers_that_are_none),
		cmocka_unit_test(passes_on_what_a_measurement_says),
		cmocka_unit_test(tells_of_the_first_sample_that_fails),
		cmocka_unit_test(notices_weights_that_were_replaced),
		cmocka_unit_test(refuses_senseless_settings),
		cmocka_unit_test(stops_at_an_image_that_is_missing),
		cmocka_unit_test(skips_images_that_are_missing),
		cmocka_unit_test(nothing_but_skipped_samples_is_nothing),
	};
	return cmocka_run_group_tests(tests, make, clean);
}
