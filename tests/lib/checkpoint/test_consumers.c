/* What every program that loads a checkpoint makes of whole configs: of ModelOpt's
 * own exports, of the lists that are known to go wrong, and of the configs that
 * profile.c writes. The counts of the known bad lists are from runs of vLLM 0.32.0
 * and SGLang 0.5.23. Single entries: test_consumer_rules.c. */
#include "lib/checkpoint/consumers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/checkpoint/fused.h"
#include "lib/checkpoint/names.h"
#include "tests/support/consumer_rules.h"
#include "tests/support/decisions.h"
#include "tests/support/expect_error.h"
#include "tests/support/shared_data.h"

enum { TINY_BLOCKS = 4, TINY_LAYERS = 6, BLOCKS = 32, LAYERS_3B = 36, LAYERS_7B = 28 };

static int fp8_modules_lost(enum consumer c, const struct decisions *d)
{
	int lost = 0;
	for (int i = 0; i < d->count; i++)
		lost += d->modules[i].quantised && !consumer_takes_codes(c, d->modules[i].name);
	return lost;
}

/* Every consumer that finds its language decides as told about every linear. */
static void assert_agree(const struct consumer_rules *rules, const struct decisions *d)
{
	for (enum consumer c = 0; c < CONSUMER_COUNT; c++) {
		int lost;
		error err;
		if (!consumer_reads(rules, c))
			continue;
		if (!consumer_check(rules, c, d->modules, d->count, &lost, &err))
			fail_msg("%s", err.text);
		assert_int_equal(lost, fp8_modules_lost(c, d));
	}
}

/* ---- ModelOpt's exports ---- */

/* What the tensors of an export say: FP8 is what has a weight_scale. */
static void decide_as_tensors(struct decisions *d, const cJSON *tensors)
{
	for (int i = 0; i < d->count; i++) {
		char hub[NAME_BYTES], scale[NAME_BYTES + 16];
		name_to_hub(d->modules[i].name, hub);
		snprintf(scale, sizeof scale, "%s.weight_scale", hub);
		d->modules[i].quantised = cJSON_GetObjectItemCaseSensitive(tensors, scale) != NULL;
	}
}

static void copy_block(json_doc *doc, const char *name, const char *format,
                       const cJSON *block)
{
	text printed = { 0 };
	error err;
	if (!json_print(block, &printed, &err))
		fail_msg("%s", err.text);
	parse_json(doc, name, format, printed.data);
	text_free(&printed);
}

static void load_export(const char *path, struct config_files *files,
                        struct decisions *d)
{
	json_doc golden;
	error err;
	if (!json_load(&golden, path, 1 << 22, &err))
		fail_msg("%s", err.text);
	decisions_make(d, TINY_BLOCKS, TINY_LAYERS);
	decide_as_tensors(d, cJSON_GetObjectItem(golden.root, "tensors"));
	copy_block(&files->config, "config.json", "{\"quantization_config\": %s}",
	           cJSON_GetObjectItem(golden.root, "quantization_config"));
	copy_block(&files->hf_quant_config, "hf_quant_config.json", "%s",
	           cJSON_GetObjectItem(golden.root, "hf_quant_config"));
	json_free(&golden);
}

/* The decisions of the export under its own configs and under ours. */
static void check_export(const char *path)
{
	struct config_files files;
	struct decisions d;
	load_export(path, &files, &d);
	struct consumer_rules *rules = open_rules(&files.config, &files.hf_quant_config);
	for (enum consumer c = 0; c < CONSUMER_COUNT; c++)
		assert_int_equal(consumer_reads(rules, c), c == CONSUMER_VLLM_MODELOPT ||
		                 c == CONSUMER_SGLANG_MODELOPT || c == CONSUMER_TENSORRT_LLM);
	assert_agree(rules, &d);
	consumer_close(rules);
	free_configs(&files);
	for (enum profile p = PROFILE_UNIVERSAL; p <= PROFILE_MODELOPT; p++) {
		write_configs(&files, p, &d);
		rules = open_rules(&files.config, &files.hf_quant_config);
		assert_agree(rules, &d);
		consumer_close(rules);
		free_configs(&files);
	}
	decisions_free(&d);
}

static void agree_about_the_demos_exports(void **state)
{
	(void)state;
	check_export("tests/golden/demo/export.top50.float32.cpu.json");
	check_export("tests/golden/demo/export.top100.float32.cpu.json");
}

static void agree_about_cocos_exports(void **state)
{
	(void)state;
	static const char *const names[] = { "top50.float32.cpu", "top100.float32.cpu",
		"top50.float32.cuda", "top100.float32.cuda", "top50.bfloat16.cuda",
		"top100.bfloat16.cuda" };
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		char relative[128], path[PATH_BYTES];
		snprintf(relative, sizeof relative, "golden/coco/export.%s.json", names[i]);
		if (!find_shared(path, relative, "agree_about_cocos_exports"))
			skip();
		check_export(path);
	}
}

/* ---- Our configs ---- */

static void assert_profiles_agree(const struct decisions *d)
{
	for (enum profile p = PROFILE_UNIVERSAL; p <= PROFILE_MODELOPT; p++) {
		struct config_files files;
		write_configs(&files, p, d);
		struct consumer_rules *rules = open_rules(&files.config,
		                                          &files.hf_quant_config);
		for (enum consumer c = 0; c < CONSUMER_COUNT; c++)
			assert_int_equal(consumer_reads(rules, c),
			                 p == PROFILE_UNIVERSAL || c == CONSUMER_VLLM_MODELOPT ||
			                 c == CONSUMER_SGLANG_MODELOPT || c == CONSUMER_TENSORRT_LLM);
		assert_agree(rules, d);
		consumer_close(rules);
		free_configs(&files);
	}
}

static const char *const KINDS[] = {
	"*", "visual.*", "language_model.*", "*.[gu]*_proj", "*.down_proj", "*.o_proj",
	"visual.*.qkv", "visual.*.proj", "visual.merger.*", "*.self_attn.[qkv]_proj",
	"visual.*.[gu]*_proj", "language_model.*.down_proj", "*layers.1.*", "*blocks.3.*",
	"*layers.1.*.[qkv]_proj", "*layers.2.mlp.[gu]*", "*blocks.1.attn.qkv",
	"*blocks.2.mlp.down_proj", "visual.merger.mlp.0", "visual.merger.mlp.2",
};

/* Only this kind, and all but this kind. */
static void agree_about_kinds(void **state)
{
	(void)state;
	static const int sizes[][2] = { { BLOCKS, LAYERS_3B }, { BLOCKS, LAYERS_7B },
		{ TINY_BLOCKS, TINY_LAYERS } };
	for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
		struct decisions d;
		decisions_make(&d, sizes[s][0], sizes[s][1]);
		assert_profiles_agree(&d);
		for (size_t k = 0; k < sizeof KINDS / sizeof KINDS[0]; k++) {
			decide(&d, "*", false);
			decide(&d, KINDS[k], true);
			assert_profiles_agree(&d);
			decide(&d, "*", true);
			decide(&d, KINDS[k], false);
			assert_profiles_agree(&d);
		}
		decisions_free(&d);
	}
}

/* Layer 1 is BF16, layers 10 to 19 are FP8; and the other way round. */
static void agree_about_numbers_that_begin_alike(void **state)
{
	(void)state;
	struct decisions d;
	decisions_make(&d, BLOCKS, LAYERS_3B);
	decide(&d, "*", true);
	decide(&d, "language_model.layers.1.*", false);
	decide(&d, "visual.blocks.3.*", false);
	assert_profiles_agree(&d);
	decide(&d, "*", false);
	decide(&d, "language_model.layers.1.*", true);
	decide(&d, "visual.blocks.3.*", true);
	assert_profiles_agree(&d);
	decide(&d, "*layers.1[0-9].*", true);
	decide(&d, "*layers.1.*", false);
	assert_profiles_agree(&d);
	decisions_free(&d);
}

static void agree_about_any_subset(void **state)
{
	(void)state;
	static const int percents[] = { 2, 10, 50, 90, 98 };
	for (uint32_t seed = 0; seed < 20; seed++) {
		struct decisions d;
		decisions_make(&d, BLOCKS, seed % 2 ? LAYERS_3B : LAYERS_7B);
		decide_by_chance(&d, percents[seed % 5], seed);
		if (seed % 3 == 0)
			decide(&d, "visual.*", false);
		assert_profiles_agree(&d);
		decisions_free(&d);
	}
}

/* ---- Lists known to go wrong ---- */

/* How many of the modules that the server builds (a fused layer is one, the patch
 * convolution is none) it decides about as told. SGLang builds no lm_head for a tied
 * model; vLLM does. */
static void assert_matched(enum consumer c, const struct consumer_rules *rules,
                           const struct decisions *d, int expected, int expected_of)
{
	bool has_head = c == CONSUMER_VLLM_MODELOPT || c == CONSUMER_VLLM_COMPRESSED;
	int matched = 0, count = 0;
	for (int i = 1; i < d->count - !has_head; i++) {
		const struct module_decision *m = &d->modules[i];
		if (modules_fuse(d->modules[i - 1].name, m->name))
			continue;
		matched += decision(rules, c, m->name) == m->quantised;
		count++;
	}
	assert_int_equal(count, expected_of);
	assert_int_equal(matched, expected);
}

static void assert_list_matches(const char *config, const struct decisions *d,
                                enum consumer c, int expected, int expected_of)
{
	struct consumer_rules *rules = rules_of(config);
	assert_matched(c, rules, d, expected, expected_of);
	consumer_close(rules);
}

#define LAYER(n, leaf) "\"model.layers." n "." leaf "\""
#define BLOCK(n, leaf) "\"visual.blocks." n "." leaf "\""
#define WHOLE_LAYER(n) \
	LAYER(n, "self_attn.q_proj") ", " LAYER(n, "self_attn.k_proj") ", " \
	LAYER(n, "self_attn.v_proj") ", " LAYER(n, "self_attn.o_proj") ", " \
	LAYER(n, "mlp.gate_proj") ", " LAYER(n, "mlp.up_proj") ", " \
	LAYER(n, "mlp.down_proj")
#define WHOLE_BLOCK(n) \
	BLOCK(n, "attn.qkv") ", " BLOCK(n, "attn.proj") ", " \
	BLOCK(n, "mlp.gate_proj") ", " BLOCK(n, "mlp.up_proj") ", " \
	BLOCK(n, "mlp.down_proj")

/* 48 modules go wrong: 4 in each of layers 10 to 19 and of blocks 30 and 31. */
static void a_bare_star_hits_other_layers(void **state)
{
	(void)state;
	static const char bare[] = MODELOPT(
		"\"lm_head\", \"model.layers.1*\", \"visual.blocks.3*\"");
	static const char dotted[] = MODELOPT(
		"\"lm_head\", \"model.layers.1.*\", \"visual.blocks.3.*\"");
	static const char full[] = MODELOPT("\"lm_head\", " WHOLE_LAYER("1") ", "
	                                    WHOLE_BLOCK("3"));
	struct decisions d;
	decisions_make(&d, BLOCKS, LAYERS_7B);
	decide(&d, "*", true);
	decide(&d, "*layers.1.*", false);
	decide(&d, "*blocks.3.*", false);
	assert_list_matches(bare, &d, CONSUMER_VLLM_MODELOPT, 195, 243);
	assert_list_matches(bare, &d, CONSUMER_SGLANG_MODELOPT, 194, 242);
	assert_list_matches(dotted, &d, CONSUMER_VLLM_MODELOPT, 243, 243);
	assert_list_matches(dotted, &d, CONSUMER_SGLANG_MODELOPT, 242, 242);
	assert_list_matches(full, &d, CONSUMER_VLLM_MODELOPT, 243, 243);
	assert_list_matches(full, &d, CONSUMER_SGLANG_MODELOPT, 242, 242);

	struct consumer_rules *rules = rules_of(bare);
	for (enum consumer c = 0; c < CONSUMER_COUNT; c++) {
		int lost;
		error err;
		if (!consumer_reads(rules, c))
			continue;
		assert_false(consumer_check(rules, c, d.modules, d.count, &lost, &err));
		expect_error(&err, EXIT_BAD_INPUT, consumer_name(c), "expected FP8, found BF16",
		             "*\" ", NULL);
	}
	consumer_close(rules);
	decisions_free(&d);
}

#define SHARDS(n) \
	"\"re:.*layers\\\\." n "\\\\.self_attn\\\\.q_proj$\", " \
	"\"re:.*layers\\\\." n "\\\\.self_attn\\\\.k_proj$\", " \
	"\"re:.*layers\\\\." n "\\\\.self_attn\\\\.v_proj$\""
#define FUSED(n) "\"re:.*layers\\\\." n "\\\\.self_attn\\\\.qkv_proj$\""
#define VISION_GATE_UP \
	"\"re:.*blocks\\\\.0\\\\.mlp\\\\.gate_proj$\", " \
	"\"re:.*blocks\\\\.0\\\\.mlp\\\\.up_proj$\""
#define VISION_QKV "\"re:.*blocks\\\\.0\\\\.attn\\\\.qkv$\""
#define VISION_ALIAS "\"re:.*blocks\\\\.0\\\\.attn\\\\.qkv_proj$\""

static void sglang_needs_aliases(void **state)
{
	(void)state;
	static const char without[] = COMPRESSED(
		"\"lm_head\", " SHARDS("0") ", " VISION_GATE_UP ", " VISION_QKV);
	static const char with[] = COMPRESSED(
		"\"lm_head\", " SHARDS("0") ", " VISION_GATE_UP ", " VISION_QKV ", " FUSED("0")
		", " VISION_ALIAS);
	struct decisions d;
	decisions_make(&d, 2, 2);
	decide(&d, "*", true);
	decide(&d, "*layers.0.self_attn.[qkv]_proj", false);
	decide(&d, "*blocks.0.attn.qkv", false);
	decide(&d, "*blocks.0.mlp.[gu]*_proj", false);
	assert_list_matches(without, &d, CONSUMER_SGLANG_COMPRESSED, 16, 18);
	assert_list_matches(without, &d, CONSUMER_VLLM_COMPRESSED, 19, 19);
	assert_list_matches(with, &d, CONSUMER_SGLANG_COMPRESSED, 18, 18);
	assert_list_matches(with, &d, CONSUMER_VLLM_COMPRESSED, 19, 19);
	decisions_free(&d);
}

/* The demo's top 50 %: in all six layers q, k and v stay BF16. */
static void sglang_needs_aliases_in_the_demo(void **state)
{
	(void)state;
	static const char list[] = COMPRESSED(
		"\"lm_head\", " SHARDS("[0-5]") ", "
		"\"re:.*layers\\\\.(0|2)\\\\.self_attn\\\\.o_proj$\", "
		"\"re:.*layers\\\\.[0-5]\\\\.mlp\\\\.\"");
	struct config_files files;
	struct decisions d;
	load_export("tests/golden/demo/export.top50.float32.cpu.json", &files, &d);
	assert_list_matches(list, &d, CONSUMER_VLLM_COMPRESSED, 43, 43);
	assert_list_matches(list, &d, CONSUMER_SGLANG_COMPRESSED, 36, 42);
	free_configs(&files);
	decisions_free(&d);
}

static void expect_split(const char *config, enum consumer c, const char *module,
                         const char *built)
{
	struct consumer_rules *rules = rules_of(config);
	const struct linear_form *form;
	error err;
	assert_false(consumer_decision(rules, c, module, &form, NULL, &err));
	expect_error(&err, EXIT_BAD_INPUT, consumer_name(c), built, "all or none", NULL);
	consumer_close(rules);
}

static void servers_refuse_split_layers(void **state)
{
	(void)state;
	static const char q[] = "language_model.layers.0.self_attn.q_proj";
	static const char v[] = "language_model.layers.0.self_attn.v_proj";
	static const char up[] = "visual.blocks.1.mlp.up_proj";
	static const char modelopt[] = MODELOPT(LAYER("0", "self_attn.q_proj") ", "
	                                        BLOCK("1", "mlp.gate_proj"));
	static const char compressed[] = COMPRESSED(
		"\"re:.*layers\\\\.0\\\\.self_attn\\\\.[qk]_proj$\", "
		"\"re:.*blocks\\\\.1\\\\.mlp\\\\.up_proj$\"");
	expect_split(modelopt, CONSUMER_VLLM_MODELOPT, v,
	             "language_model.model.layers.0.self_attn.qkv_proj");
	expect_split(modelopt, CONSUMER_SGLANG_MODELOPT, q,
	             "model.layers.0.self_attn.qkv_proj");
	expect_split(modelopt, CONSUMER_VLLM_MODELOPT, up,
	             "visual.blocks.1.mlp.gate_up_proj");
	expect_split(compressed, CONSUMER_VLLM_COMPRESSED, q,
	             "language_model.model.layers.0.self_attn.qkv_proj");
	expect_split(compressed, CONSUMER_SGLANG_COMPRESSED, up,
	             "visual.blocks.1.mlp.gate_up_proj");
	/* SGLang does not know that q, k and v belong together there, transformers fuses
	 * nothing, and TensorRT-LLM takes one excluded shard for all. */
	struct consumer_rules *rules = rules_of(compressed);
	assert_true(decision(rules, CONSUMER_SGLANG_COMPRESSED, q));
	assert_false(decision(rules, CONSUMER_TRANSFORMERS, q));
	assert_true(decision(rules, CONSUMER_TRANSFORMERS, v));
	consumer_close(rules);
	rules = rules_of(modelopt);
	assert_false(decision(rules, CONSUMER_TENSORRT_LLM, v));
	consumer_close(rules);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agree_about_the_demos_exports),
		cmocka_unit_test(agree_about_cocos_exports),
		cmocka_unit_test(agree_about_kinds),
		cmocka_unit_test(agree_about_numbers_that_begin_alike),
		cmocka_unit_test(agree_about_any_subset),
		cmocka_unit_test(a_bare_star_hits_other_layers),
		cmocka_unit_test(sglang_needs_aliases),
		cmocka_unit_test(sglang_needs_aliases_in_the_demo),
		cmocka_unit_test(servers_refuse_split_layers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
