/* The plan: what the demo's comes to, and everything that is told before any heavy edge
 * could trip over it. */
#include "lib/graph/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/checkpoint/safetensors.h"
#include "tests/support/expect_error.h"
#include "tests/support/random_model.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

#define DEMO_MODEL "demo/tiny-qwen2_5-vl"

enum { MAX_FILE_BYTES = 1 << 26 };

static char folder[PATH_BYTES];

static int make(void **state)
{
	(void)state;
	error err;
	return temp_folder_make(folder, &err) ? 0 : -1;
}

static int clean(void **state)
{
	(void)state;
	temp_folder_remove(folder);
	return 0;
}

/* ---- the demo ---- */

static void load_demo(struct catalog *catalog, struct plan *plan,
                      const struct catalog_overrides *overrides)
{
	error err;
	if (!catalog_load(catalog, "schemes.json", overrides, &err) ||
	    !plan_build(plan, catalog, &err))
		fail_msg("%s", err.text);
}

/* Linears of the exportable groups with a side that 16 does not divide, counted from
 * the tensors themselves. */
static int count_misaligned(const struct group_list *groups, const struct checkpoint *ckpt)
{
	int count = 0;
	for (size_t i = 0; i < ckpt->count; i++) {
		const struct tensor *t = ckpt->by_name[i];
		const char *suffix = strstr(t->name, ".weight");
		if (!suffix || t->rank != 2 || strstr(t->name, "embed_tokens"))
			continue;
		bool vision = strncmp(t->name, "visual.", 7) == 0;
		if (vision && !groups->groups[0].vision)
			continue;
		count += t->shape[0] % 16 || t->shape[1] % 16;
	}
	return count;
}

static void plans_the_demo(void **state)
{
	(void)state;
	const struct catalog_overrides none = { 0 };
	struct catalog catalog;
	struct plan plan;
	struct checkpoint ckpt;
	int64_t bytes = 0, text_weights = 0;
	error err;
	load_demo(&catalog, &plan, &none);
	assert_true(checkpoint_open(&ckpt, DEMO_MODEL, &err));
	for (size_t i = 0; i < ckpt.count; i++) {
		const struct tensor *t = ckpt.by_name[i];
		bytes += (int64_t)t->bytes;
		if (strstr(t->name, "_proj.weight") && strncmp(t->name, "model.", 6) == 0)
			text_weights += t->elements;
	}
	const struct planned_baseline *all = &plan.baselines[0], *text = &plan.baselines[1];
	assert_int_equal(all->groups.count, 43);
	assert_int_equal(text->groups.count, 24);
	assert_int_equal(all->calib_samples, 64); /* all rows of the DB */
	assert_int_equal(all->score_samples, 64);
	assert_int_equal(text->calib_samples, 512);
	assert_int_equal(text->score_samples, 128);
	assert_int_equal(all->model_bytes, bytes);
	assert_int_equal(text->quantised_bytes, text_weights);
	assert_true(all->quantised_bytes > text_weights);
	assert_int_equal(all->misaligned, count_misaligned(&all->groups, &ckpt));
	assert_int_equal(text->misaligned, count_misaligned(&text->groups, &ckpt));
	assert_true(all->misaligned > 0); /* its vision MLP is 340 wide */
	checkpoint_close(&ckpt);
	plan_free(&plan);
	catalog_free(&catalog);
}

/* ---- what is wrong ---- */

static const char *path_of(const char *name)
{
	static char paths[4][PATH_BYTES];
	static int next;
	char *path = paths[next++ % 4];
	error err;
	assert_true(join_path(path, PATH_BYTES, folder, name, &err));
	return path;
}

/* A new random model in folder/model. */
static const char *make_model(bool tied)
{
	static char path[PATH_BYTES];
	struct random_model shape = random_model_tiny();
	error err;
	shape.config.text.tied_head = tied;
	snprintf(path, sizeof path, "%s", path_of("model"));
	temp_folder_remove(path);
	if (!make_folders(path, &err) || !random_model_write(&shape, path, &err))
		fail_msg("%s", err.text);
	return path;
}

/* Replaces `from` by `to` after the first `after` in a file of the model. */
static void change(const char *file, const char *after, const char *from, const char *to)
{
	char path[PATH_BYTES], *data;
	size_t size;
	text changed = { 0 };
	error err;
	assert_true(join_path(path, sizeof path, path_of("model"), file, &err));
	assert_true(read_file(path, MAX_FILE_BYTES, &data, &size, &err));
	char *place = memmem(data, size, after, strlen(after));
	assert_non_null(place);
	char *at = memmem(place, size - (size_t)(place - data), from, strlen(from));
	assert_non_null(at);
	text_add(&changed, data, (size_t)(at - data));
	text_puts(&changed, to);
	text_add(&changed, at + strlen(from), size - (size_t)(at - data) - strlen(from));
	assert_true(temp_folder_write(path_of("model"), file, changed.data, changed.length,
	                              &err));
	text_free(&changed);
	free(data);
}

/* A catalog of one baseline over folder/model; the rest as the arguments say. */
static void expect_refused(const char *source, const char *exclude, enum exit_code code,
                           const char *one, const char *other)
{
	const struct catalog_overrides none = { 0 };
	text content = { 0 };
	struct catalog catalog;
	struct plan plan;
	error err;
	text_printf(&content, "{\"models\": {\"m\": {\"path\": \"%s\", \"kind\": "
	            "\"qwen2_5_vl\"}}, \"calibrations\": {\"k\": {\"data\": \"D\", %s}}, "
	            "\"formats\": {\"F\": {\"element\": \"fp8_e4m3\", \"granularity\": "
	            "\"tensor\", \"exclude\": [%s]}}, \"baselines\": {\"b\": {\"model\": "
	            "\"m\", \"calibration\": \"k\", \"formats\": [\"F\"]}}, \"families\": {}, "
	            "\"schemes\": {}}", path_of("model"), source, exclude);
	assert_true(temp_folder_write(folder, "c.json", content.data, content.length, &err));
	if (!catalog_load(&catalog, path_of("c.json"), &none, &err))
		fail_msg("%s", err.text);
	bool passed = plan_build(&plan, &catalog, &err);
	if (passed)
		plan_free(&plan);
	catalog_free(&catalog);
	text_free(&content);
	if (passed)
		fail_msg("planned: %s, %s", source, exclude);
	expect_error(&err, code, one, other, NULL);
}

#define CAPTIONS "\"captions\": \"demo/demo_captions.txt\", \"prompt_form\": \"text\""
#define DB "\"calib_db\": \"demo/demo_vlm_calib.db\", \"image_root\": \"demo\""

static void refuses_a_model_that_is_not_whole(void **state)
{
	(void)state;
	temp_folder_remove(path_of("model"));
	expect_refused(CAPTIONS, "\"lm_head\"", EXIT_BAD_INPUT, "/model", "cannot open");
	make_model(true);
	unlink(path_of("model/config.json"));
	expect_refused(CAPTIONS, "\"lm_head\"", EXIT_BAD_INPUT, "config.json", "cannot open");
	make_model(true);
	unlink(path_of("model/model.safetensors"));
	expect_refused(CAPTIONS, "\"lm_head\"", EXIT_BAD_INPUT, "model.safetensors", "");
	make_model(true);
	change("config.json", "{", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3");
	expect_refused(CAPTIONS, "\"lm_head\"", EXIT_BAD_INPUT, "/model",
	               "expected tensor model.layers.2.self_attn.q_proj.weight, found none");
	make_model(true); /* an untied head has a tensor of its own */
	change("config.json", "{", "\"tie_word_embeddings\": true",
	       "\"tie_word_embeddings\": false");
	expect_refused(CAPTIONS, "\"lm_head\"", EXIT_BAD_INPUT, "/model",
	               "expected tensor lm_head.weight, found none");
}

static void refuses_tensors_of_another_shape_or_dtype(void **state)
{
	(void)state;
	make_model(true);
	change("config.json", "{", "\"intermediate_size\": 48", "\"intermediate_size\": 64");
	expect_refused(CAPTIONS, "\"lm_head\"", EXIT_BAD_INPUT, "model.safetensors",
	               "mlp.gate_proj.weight: expected shape [64, 32], found 1536 elements");
	make_model(true); /* as many elements, the other way round */
	change("model.safetensors", "layers.0.mlp.gate_proj.weight", "[48,32]", "[32,48]");
	expect_refused(CAPTIONS, "\"lm_head\"", EXIT_BAD_INPUT, "model.safetensors",
	               "expected shape [48, 32], found 1536 elements with first side 32");
	make_model(true);
	change("model.safetensors", "layers.1.mlp.up_proj.weight", "\"dtype\":\"BF16\"",
	       "\"dtype\": \"I16\"");
	expect_refused(CAPTIONS, "\"lm_head\"", EXIT_BAD_INPUT,
	               "model.layers.1.mlp.up_proj.weight", "BF16, F16 or F32, found I16");
}

static void refuses_formats_that_cannot_be_exported(void **state)
{
	(void)state;
	for (int tied = 0; tied < 2; tied++) {
		make_model(tied);
		expect_refused(CAPTIONS, "\"visual.*\"", EXIT_BAD_INPUT, "c.json: format F",
		               "lm_head cannot be exported in FP8");
	}
	expect_refused(CAPTIONS, "\"*\"", EXIT_BAD_INPUT, "c.json: format F",
	               "excludes every linear");
}

static void refuses_data_that_is_missing(void **state)
{
	(void)state;
	error err;
	make_model(true);
	assert_true(temp_folder_write(folder, "empty.txt", "\n\n", 2, &err));
	expect_refused("\"captions\": \"no/captions.txt\", \"prompt_form\": \"text\"",
	               "\"lm_head\"", EXIT_BAD_INPUT, "no/captions.txt", "cannot open");
	expect_refused("\"calib_db\": \"no/calib.db\", \"image_root\": \"demo\"",
	               "\"lm_head\"", EXIT_BAD_INPUT, "no/calib.db", "cannot open");
	expect_refused("\"calib_db\": \"demo/demo_vlm_calib.db\", \"image_root\": \"no/root\"",
	               "\"lm_head\"", EXIT_BAD_INPUT, "no/root", "calibration k");
	expect_refused("\"calib_db\": \"demo/demo_captions.txt\", \"image_root\": \"demo\"",
	               "\"lm_head\"", EXIT_BAD_INPUT, "demo/demo_captions.txt", "");
	char source[PATH_BYTES + 64];
	snprintf(source, sizeof source, "\"captions\": \"%s\", \"prompt_form\": \"text\"",
	         path_of("empty.txt"));
	expect_refused(source, "\"lm_head\"", EXIT_BAD_INPUT, "empty.txt", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plans_the_demo),
		cmocka_unit_test(refuses_a_model_that_is_not_whole),
		cmocka_unit_test(refuses_tensors_of_another_shape_or_dtype),
		cmocka_unit_test(refuses_formats_that_cannot_be_exported),
		cmocka_unit_test(refuses_data_that_is_missing),
	};
	return cmocka_run_group_tests(tests, make, clean);
}
