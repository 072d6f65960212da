/* The whole chain on a model that is not the demo's: a head of its own, other head
 * counts and widths, other windows and blocks with full attention, three shards. What
 * the 7B has and the demo has not, at a size for tests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/checkpoint/safetensors.h"
#include "lib/quant/groups.h"
#include "lib/quant/served_model.h"
#include "tests/support/build_tree.h"
#include "tests/support/random_model.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

#define QUANTIZED "models/sevenish/quantized"

struct chain {
	char folder[PATH_BYTES], model[PATH_BYTES];
	struct random_model shape;
	struct linear_shape *linears;
	int linear_count;
	struct group_list groups;
	arena memory;
};

/* GQA of 6 heads on 2, M-RoPE over 8 frequencies, windows of 2 x 2 cells, full attention
 * in the first and the fourth of five vision blocks. */
static struct random_model sevenish(void)
{
	struct random_model m = random_model_tiny();
	struct vision_config *v = &m.config.vision;
	struct text_config *t = &m.config.text;
	v->depth = 5;
	v->hidden = 48;
	v->heads = 3;
	v->intermediate = 52;
	v->window = 56;
	memset(v->full_attention, 0, sizeof v->full_attention);
	v->full_attention[0] = v->full_attention[3] = true;
	t->layers = 4;
	t->hidden = 96;
	t->heads = 6;
	t->kv_heads = 2;
	t->intermediate = 144;
	t->vocab = 4300;
	t->tied_head = false;
	m.shards = 3;
	m.seed = 7;
	return m;
}

static int build_chain(void **state)
{
	struct chain *c = calloc(1, sizeof *c);
	char arguments[2 * PATH_BYTES];
	error err;
	*state = c;
	assert_non_null(c);
	assert_true(temp_folder_make(c->folder, &err));
	assert_true(join_path(c->model, sizeof c->model, c->folder, "Sevenish", &err));
	assert_true(make_folders(c->model, &err));
	c->shape = sevenish();
	if (!random_model_write(&c->shape, c->model, &err))
		fail_msg("%s", err.text);
	snprintf(arguments, sizeof arguments, "--model %s --workers 2 "
	         "--set calibrations.coco2017_vlm.calib_samples=4 "
	         "--set calibrations.coco2017_vlm.score_samples=4 "
	         "--set calibrations.coco2017_vlm.block_samples=2 "
	         "--set calibrations.coco2017_vlm.max_pixels=20000 "
	         "--set calibrations.coco2017_captions.calib_samples=8 "
	         "--set calibrations.coco2017_captions.score_samples=8", c->model);
	build_tree(c->folder, arguments, "all");
	assert_true(list_linears(&c->shape.config, &c->memory, &c->linears, &c->linear_count,
	                         &err));
	assert_true(make_groups(c->linears, c->linear_count, NULL, 0, &c->memory, &c->groups,
	                        &err));
	return 0;
}

static int remove_chain(void **state)
{
	struct chain *c = *state;
	temp_folder_remove(c->folder);
	arena_free(&c->memory);
	free(c);
	return 0;
}

static void scheme_folder(char path[PATH_BYTES], const struct chain *c, const char *scheme)
{
	char below[PATH_BYTES];
	snprintf(below, sizeof below, QUANTIZED "/%s", scheme);
	built_path(path, c->folder, below);
}

/* patch_embed, 5 blocks of 4, the merger's 2; 4 layers of 4: 39, and the head. */
static void the_plan_knows_the_shape(void **state)
{
	const struct chain *c = *state;
	char path[PATH_BYTES], *plan;
	size_t size;
	assert_int_equal(c->groups.count, 40);
	error err;
	assert_true(join_path(path, sizeof path, c->folder, "tree/configured.txt", &err));
	assert_true(read_file(path, 1 << 20, &plan, &size, &err));
	assert_non_null(strstr(plan, "groups     39 in FP8_ALL_LAYERS_CFG"));
	assert_non_null(strstr(plan, "groups     16 in FP8_DEFAULT_CFG"));
	assert_non_null(strstr(plan, "no multiple of 16"));
	assert_null(strstr(plan, "a STAND-IN for a real model"));
	free(plan);
}

/* Verification ran on all of them as part of the build; here its word for it. */
static void every_scheme_is_verified(void **state)
{
	const struct chain *c = *state;
	static const char *const families[] = { "fp8_autoquant_all_layers_top",
		"fp8_autoquant_top" };
	for (int f = 0; f < 2; f++)
		for (int percent = 10; percent <= 100; percent += 10) {
			char below[PATH_BYTES], path[PATH_BYTES], *report;
			size_t size;
			error err;
			snprintf(below, sizeof below, "work/sevenish/schemes/%s%d_coco2017/verify.json",
			         families[f], percent);
			built_path(path, c->folder, below);
			if (!read_file(path, 1 << 20, &report, &size, &err))
				fail_msg("%s", err.text);
			assert_non_null(strstr(report, "\"verified\": true"));
			free(report);
		}
}

static void three_shards_were_read(void **state)
{
	const struct chain *c = *state;
	struct checkpoint base;
	error err;
	if (!checkpoint_open(&base, c->model, &err))
		fail_msg("%s", err.text);
	assert_int_equal(base.file_count, 3);
	checkpoint_close(&base);
}

/* The untied head is nobody's group and stays as it was; every other linear but the
 * patch convolution is in FP8 in the scheme of 100 %. */
static void the_head_stays_and_the_rest_goes(void **state)
{
	const struct chain *c = *state;
	char folder[PATH_BYTES];
	struct checkpoint base, published;
	error err;
	scheme_folder(folder, c, "fp8_autoquant_all_layers_top100_coco2017");
	assert_true(checkpoint_open(&base, c->model, &err));
	if (!checkpoint_open(&published, folder, &err))
		fail_msg("%s", err.text);
	for (int i = 0; i < c->linear_count; i++) {
		char hub[NAME_BYTES], name[NAME_BYTES + 8];
		name_to_hub(c->linears[i].name, hub);
		snprintf(name, sizeof name, "%s.weight", hub);
		const struct tensor *was = checkpoint_find(&base, name);
		const struct tensor *is = checkpoint_find(&published, name);
		assert_non_null(was);
		assert_non_null(is);
		bool stays = i == 0 || i == c->linear_count - 1;
		assert_int_equal(is->dtype, stays ? DTYPE_BF16 : DTYPE_F8_E4M3);
		if (stays)
			assert_memory_equal(is->data, was->data, was->bytes);
	}
	checkpoint_close(&base);
	checkpoint_close(&published);
}

/* It opens to be served: every FP8 linear with both steps. */
static void the_checkpoint_opens(void **state)
{
	const struct chain *c = *state;
	char folder[PATH_BYTES];
	struct served_model served;
	error err;
	scheme_folder(folder, c, "fp8_autoquant_all_layers_top50_coco2017");
	if (!served_model_open(&served, folder, &err))
		fail_msg("%s", err.text);
	int members = 0;
	for (int i = 0; i < c->linear_count; i++)
		members += served.quantised.linears[i].format != NULL;
	assert_int_equal(served.quantised_linears, members);
	assert_in_range(members, 20, 38);
	served_model_close(&served);
}

/* Random weights say nothing, but what they say must come out. */
static void generate_answers(void **state)
{
	const struct chain *c = *state;
	char folder[PATH_BYTES], command[3 * PATH_BYTES], said[4096];
	scheme_folder(folder, c, "fp8_autoquant_all_layers_top50_coco2017");
	snprintf(command, sizeof command, "generate --max-new 4 --max-pixels 20000 --image "
	         "demo/images/scene_001.jpg '%s'", folder);
	assert_int_equal(run_tool(command, said, sizeof said), 0);
	assert_string_equal(said, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_plan_knows_the_shape),
		cmocka_unit_test(every_scheme_is_verified),
		cmocka_unit_test(three_shards_were_read),
		cmocka_unit_test(the_head_stays_and_the_rest_goes),
		cmocka_unit_test(the_checkpoint_opens),
		cmocka_unit_test(generate_answers),
	};
	return cmocka_run_group_tests(tests, build_chain, remove_chain);
}
