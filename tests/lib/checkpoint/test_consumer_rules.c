/* Single entries of the lists under each consumer's rules, which file it reads, and
 * what is refused. The expected answers are those of the programs' own matching
 * functions (versions in consumers.h). */
#include "lib/checkpoint/consumers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "lib/checkpoint/names.h"
#include "tests/support/consumer_rules.h"
#include "tests/support/decisions.h"
#include "tests/support/expect_error.h"

/* ---- Entries ---- */

/* Whether the list keeps the module out of FP8. */
static bool keeps(const char *config, enum consumer c, const char *module)
{
	struct consumer_rules *rules = rules_of(config);
	bool quantised = decision(rules, c, module);
	consumer_close(rules);
	return !quantised;
}

#define O11 "language_model.layers.11.self_attn.o_proj"

static void exclude_entries_mean_different_things(void **state)
{
	(void)state;
	static const struct {
		const char *config, *module;
		bool vllm, sglang, tensorrt;
	} cases[] = {
		{ MODELOPT("\"model.layers.11.self_attn.o_proj\""), O11, true, true, true },
		{ MODELOPT("\"model.language_model.layers.11.self_attn.o_proj\""), O11,
		  true, true, false },
		{ MODELOPT("\"model.layers.1\""), O11, true, false, false },
		{ MODELOPT("\"model.layers.11\""), O11, true, true, false },
		{ MODELOPT("\"model.layers.11.\""), O11, true, true, false },
		{ MODELOPT("\"o_proj\""), O11, true, true, false },
		{ MODELOPT("\"layers.11.self\""), O11, true, false, false },
		{ MODELOPT("\"yers.11.self_attn.o_proj\""), O11, true, false, false },
		{ MODELOPT("\"*layers.11.*\""), O11, true, true, true },
		{ MODELOPT("\"o*\""), O11, true, true, false },
		{ MODELOPT("\"\""), O11, true, false, false },
		{ MODELOPT(""), O11, false, false, false },
		{ MODELOPT("\"*\""), O11, true, true, true },
		{ MODELOPT("\"model.visual\""), "visual.blocks.0.attn.proj", false, false,
		  true },
		{ MODELOPT("\"model.visual.*\""), "visual.blocks.0.attn.proj", true, true,
		  true },
		{ MODELOPT("\"visual\""), "visual.merger.mlp.2", true, true, true },
		{ MODELOPT("\"visual.blocks.0.attn.qkv\""), "visual.blocks.0.attn.qkv", true,
		  true, true },
		{ MODELOPT("\"lm_head\""), "lm_head", true, true, true },
		{ MODELOPT("\"language_model.lm_head\""), "lm_head", true, true, false },
		{ MODELOPT("\"language_model\""), "lm_head", true, false, false },
		{ MODELOPT("\"visual\""), "lm_head", false, false, false },
		{ MODELOPT("\"model.layers.4.self_attn.q*\""),
		  "language_model.layers.4.self_attn.v_proj", true, true, true },
		{ MODELOPT("\"model.layers.4.self_attn.qkv_proj\""),
		  "language_model.layers.4.self_attn.v_proj", true, false, true },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const char *config = cases[i].config, *module = cases[i].module;
		if (keeps(config, CONSUMER_VLLM_MODELOPT, module) != cases[i].vllm ||
		    keeps(config, CONSUMER_SGLANG_MODELOPT, module) != cases[i].sglang ||
		    keeps(config, CONSUMER_TENSORRT_LLM, module) != cases[i].tensorrt)
			fail_msg("%s: %s", config, module);
	}
}

static void ignore_entries_mean_different_things(void **state)
{
	(void)state;
	static const struct {
		const char *config, *module;
		bool vllm, sglang, transformers;
	} cases[] = {
		/* Anchored at the start, not at the end; an alternative is anchored too. */
		{ COMPRESSED("\"re:.*layers\\\\.11\""), O11, true, true, true },
		{ COMPRESSED("\"re:layers\\\\.11\""), O11, false, false, false },
		{ COMPRESSED("\"re:.*layers\\\\.1\\\\.\""), O11, false, false, false },
		{ COMPRESSED("\"re:.*self_attn$\""), O11, false, false, false },
		{ COMPRESSED("\"re:x|.*o_proj\""), O11, true, true, true },
		{ COMPRESSED("\"re:x|o_proj\""), O11, false, false, false },
		{ COMPRESSED("\"re:model\\\\.l\""), O11, false, true, true },
		{ COMPRESSED("\"re:visual.*\""), "visual.merger.mlp.0", true, true, false },
		{ COMPRESSED("\"re:.*visual.*\""), "visual.merger.mlp.0", true, true, true },
		{ COMPRESSED("\"model.layers.11.self_attn.o_proj\""), O11, true, false,
		  false },
		{ COMPRESSED("\"model.language_model.layers.11.self_attn.o_proj\""), O11, true,
		  false, true },
		{ COMPRESSED("\"self_attn.o_proj\""), O11, false, true, false },
		{ COMPRESSED("\"f_attn.o_proj\""), O11, false, false, false },
		{ COMPRESSED("\"Linear\""), O11, false, false, true },
		{ COMPRESSED("\"re:.*attn.qkv$\""), "visual.blocks.0.attn.qkv", true, true,
		  true },
		{ COMPRESSED("\"re:.*attn\\\\.qkv$\""), "visual.blocks.0.attn.qkv", true,
		  false, true },
		{ COMPRESSED("\"lm_head\""), "lm_head", true, true, true },
		{ COMPRESSED(""), "lm_head", true, true, false },
		{ COMPRESSED("\"re:.*gate_up_proj$\""),
		  "language_model.layers.0.mlp.gate_proj", true, false, false },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const char *config = cases[i].config, *module = cases[i].module;
		if (keeps(config, CONSUMER_VLLM_COMPRESSED, module) != cases[i].vllm ||
		    keeps(config, CONSUMER_SGLANG_COMPRESSED, module) != cases[i].sglang ||
		    keeps(config, CONSUMER_TRANSFORMERS, module) != cases[i].transformers)
			fail_msg("%s: %s", config, module);
	}
}

static void nobody_quantises_the_patch_convolution(void **state)
{
	(void)state;
	struct config_files files;
	parse_json(&files.config, "config.json", "%s", COMPRESSED(""));
	parse_json(&files.hf_quant_config, "hf_quant_config.json",
	           "{\"quantization\": {\"quant_algo\": \"FP8\", \"exclude_modules\": []}}");
	struct consumer_rules *rules = open_rules(&files.config, &files.hf_quant_config);
	for (enum consumer c = 0; c < CONSUMER_COUNT; c++) {
		assert_true(consumer_reads(rules, c));
		assert_false(decision(rules, c, "visual.patch_embed.proj"));
		assert_int_equal(decision(rules, c, "visual.merger.mlp.0"),
		                 c != CONSUMER_TENSORRT_LLM);
		assert_true(decision(rules, c, O11));
	}
	consumer_close(rules);
	free_configs(&files);
}

static void expect_why(const char *config, enum consumer c, const char *module,
                       const char *expected)
{
	struct consumer_rules *rules = rules_of(config);
	const struct linear_form *form;
	text why = { 0 };
	error err;
	assert_true(consumer_decision(rules, c, module, &form, &why, &err));
	assert_string_equal(why.data, expected);
	text_free(&why);
	consumer_close(rules);
}

static void says_why(void **state)
{
	(void)state;
	expect_why(MODELOPT("\"visual.*\", \"model.layers.1*\""), CONSUMER_VLLM_MODELOPT, O11,
	           "vLLM (modelopt): \"model.layers.1*\" is a substring of "
	           "language_model.model.layers.11.self_attn.o_proj");
	expect_why(MODELOPT("\"visual.*\""), CONSUMER_SGLANG_MODELOPT, O11,
	           "SGLang (modelopt): no entry matches model.layers.11.self_attn.o_proj");
	expect_why(COMPRESSED("\"re:.*o_proj\""), CONSUMER_TRANSFORMERS, O11,
	           "transformers: \"re:.*o_proj\" matches "
	           "model.language_model.layers.11.self_attn.o_proj");
	expect_why(MODELOPT(""), CONSUMER_TENSORRT_LLM, "visual.merger.mlp.0",
	           "TensorRT-LLM: never quantises visual.merger.mlp.0");
}

/* ---- Files ---- */

/* hf_quant_config.json, with other words than config.json. */
static void reads_the_right_file(void **state)
{
	(void)state;
	static const char nested[] =
		"{\"quantization\": {\"quant_algo\": \"FP8\", \"kv_cache_quant_algo\": null, "
		"\"exclude_modules\": [\"*self_attn*\"]}}";
	static const struct {
		const char *config;
		bool vllm, tensorrt; /* whether they leave O11 alone */
	} cases[] = {
		{ "{}", true, true },
		{ MODELOPT(""), false, true },
		{ COMPRESSED(""), true, true },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		json_doc config, hf;
		parse_json(&config, "config.json", "%s", cases[i].config);
		parse_json(&hf, "hf_quant_config.json", "%s", nested);
		struct consumer_rules *rules = open_rules(&config, &hf);
		assert_int_equal(decision(rules, CONSUMER_VLLM_MODELOPT, O11), !cases[i].vllm);
		assert_int_equal(decision(rules, CONSUMER_TENSORRT_LLM, O11),
		                 !cases[i].tensorrt);
		consumer_close(rules);
		json_free(&config);
		json_free(&hf);
	}
}

static void says_who_finds_nothing(void **state)
{
	(void)state;
	struct consumer_rules *rules = rules_of(MODELOPT(""));
	const struct linear_form *form;
	int lost;
	error err;
	assert_false(consumer_reads(rules, CONSUMER_TRANSFORMERS));
	assert_false(consumer_decision(rules, CONSUMER_TRANSFORMERS, O11, &form, NULL,
	                               &err));
	expect_error(&err, EXIT_BAD_INPUT, "transformers", NULL);
	struct module_decision one = { "lm_head", true, NULL };
	assert_false(consumer_check(rules, CONSUMER_SGLANG_COMPRESSED, &one, 1, &lost, &err));
	expect_error(&err, EXIT_BAD_INPUT, "SGLang (compressed-tensors)", NULL);
	consumer_close(rules);
	consumer_close(NULL);
}

static void wants_quern_names(void **state)
{
	(void)state;
	static const char *const names[] = { "model.layers.0.mlp.up_proj", "visuals.x", "",
		"lm_head.x", "model.visual.merger.mlp.0" };
	struct consumer_rules *rules = rules_of(MODELOPT(""));
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		const struct linear_form *form;
		error err;
		assert_false(consumer_decision(rules, CONSUMER_VLLM_MODELOPT, names[i],
		                               &form, NULL, &err));
		expect_error(&err, EXIT_INTERNAL, names[i], NULL);
	}
	char longest[NAME_BYTES + 8] = "language_model.";
	memset(longest + 15, 'n', NAME_BYTES - 20);
	const struct linear_form *form;
	error err;
	assert_false(consumer_decision(rules, CONSUMER_VLLM_MODELOPT, longest, &form,
	                               NULL, &err));
	expect_error(&err, EXIT_INTERNAL, "language_model.nnn", NULL);
	consumer_close(rules);
}

static void expect_refusals(const char *const (*cases)[3], size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct consumer_rules *rules;
		json_doc doc;
		error err;
		parse_json(&doc, "some/config.json", "%s", cases[i][0]);
		if (consumer_open(&rules, &doc, NULL, &err))
			fail_msg("expected a refusal of %s", cases[i][0]);
		assert_null(rules);
		expect_error(&err, EXIT_BAD_INPUT, "some/config.json:1:", cases[i][1],
		             cases[i][2], NULL);
		json_free(&doc);
	}
}

#define BLOCK_OF(fields) "{\"quantization_config\": {" fields "}}"
#define GROUPS(groups) \
	BLOCK_OF("\"quant_method\": \"compressed-tensors\", \"format\": " \
	         "\"float-quantized\", \"quantization_status\": \"compressed\", \"ignore\": " \
	         "[], \"config_groups\": {" groups "}")
#define GROUP(targets, weights, inputs) \
	"\"g\": {\"targets\": " targets ", \"weights\": " weights \
	", \"input_activations\": " inputs "}"

static void refuses_other_formats(void **state)
{
	(void)state;
	static const char *const cases[][3] = {
		{ "{\"quantization_config\": 1}", "quantization_config", "an object" },
		{ BLOCK_OF("\"quant_algo\": \"FP8\""), "quantization_config", "quant_method" },
		{ BLOCK_OF("\"quant_method\": \"awq\""), "quant_method", "\"awq\"" },
		{ BLOCK_OF("\"quant_method\": \"modelopt\", \"quant_algo\": \"fp8\", "
		           "\"ignore\": []"), "quant_algo", "\"FP8\"" },
		{ BLOCK_OF("\"quant_method\": \"modelopt\", \"quant_algo\": "
		           "\"MIXED_PRECISION\", \"ignore\": []"), "quantization_config",
		  "quantized_layers" },
		{ BLOCK_OF("\"quant_method\": \"modelopt\", \"quant_algo\": "
		           "\"MIXED_PRECISION\", \"quantized_layers\": {}"), "quantized_layers",
		  "at least one layer" },
		{ BLOCK_OF("\"quant_method\": \"modelopt\", \"quant_algo\": "
		           "\"MIXED_PRECISION\", \"quantized_layers\": {\"a\": {}}"),
		  "quantized_layers.a", "quant_algo" },
		{ BLOCK_OF("\"quant_method\": \"modelopt\", \"quant_algo\": \"FP8\""),
		  "quantization_config", "ignore" },
	};
	expect_refusals(cases, sizeof cases / sizeof cases[0]);
}

static void refuses_entries_it_cannot_judge(void **state)
{
	(void)state;
	static const char *const cases[][3] = {
		{ MODELOPT("1"), "ignore[0]", "a module name" },
		{ MODELOPT("\"lm_head\", \"a?c\""), "ignore[1]", "a?c" },
		{ MODELOPT("\"a[bc]\""), "ignore[0]", "a[bc]" },
		{ COMPRESSED("{}"), "ignore[0]", "a module name" },
		{ COMPRESSED("\"re:(?i)visual\""), "ignore[0]", "re:(?i)visual" },
		{ COMPRESSED("\"re:.*?visual\""), "ignore[0]", "re:.*?visual" },
		{ COMPRESSED("\"re:\\\\dx\""), "ignore[0]", "re:" },
		{ COMPRESSED("\"re:*x\""), "ignore[0]", "re:*x" },
		{ COMPRESSED("\"re:x{2}\""), "ignore[0]", "re:x{2}" },
		{ COMPRESSED("\"re:[\\\\w]\""), "ignore[0]", "re:[" },
		{ COMPRESSED("\"re:x\\\\\""), "ignore[0]", "re:x" },
		{ COMPRESSED("\"re:(x\""), "ignore[0]", "re:(x" },
		{ COMPRESSED("\"re:x)|(y\""), "ignore[0]", "re:x)|(y" },
		{ COMPRESSED("\"re:[z-a]\""), "ignore[0]", "re:[z-a]" },
	};
	expect_refusals(cases, sizeof cases / sizeof cases[0]);
}

static void refuses_other_groups(void **state)
{
	(void)state;
	static const char *const cases[][3] = {
		{ GROUPS(""), "config_groups", "one group" },
		{ GROUPS(GROUP("[\"re:.*mlp\"]", FP8_TENSOR, FP8_TENSOR) ", \"h\": {}"),
		  "config_groups.h", "targets" },
		{ GROUPS(GROUP("[\"re:.*mlp\"]", FP8_TENSOR, FP8_TENSOR) ", \"h\": 1"),
		  "config_groups.h", "an object" },
		{ GROUPS(GROUP("[]", FP8_TENSOR, FP8_TENSOR)), "targets", "Linear" },
		{ GROUPS(GROUP("[\"Linear\"]", FP8_TENSOR, FP8_TENSOR) ", \"h\": {\"targets\": "
		         "[\"re:x\"], \"weights\": " FP8_TENSOR ", \"input_activations\": null}"),
		  "targets", "Linear" },
		{ GROUPS(GROUP("[\"Linear\", \"x\"]", FP8_TENSOR, FP8_TENSOR)), "targets",
		  "Linear" },
		{ GROUPS(GROUP("[\"Linear\"]", "{\"num_bits\": 0}", FP8_TENSOR)), "num_bits",
		  "0" },
		{ GROUPS(GROUP("[\"Linear\"]", "{\"num_bits\": 8, \"type\": \"ternary\"}",
		               FP8_TENSOR)), "type", "\"ternary\"" },
		{ GROUPS(GROUP("[\"Linear\"]", FP8_TENSOR, "{\"num_bits\": 8, \"type\": "
		               "\"float\", \"strategy\": \"block\"}")), "strategy", "\"block\"" },
		{ GROUPS(GROUP("[\"Linear\"]", FP8_TENSOR, "{\"num_bits\": 8, \"type\": "
		               "\"float\", \"strategy\": \"tensor\", \"dynamic\": \"now\"}")),
		  "dynamic", "\"now\"" },
		{ GROUPS(GROUP("[\"Linear\"]", FP8_TENSOR, "{\"num_bits\": 8, \"type\": "
		               "\"float\", \"strategy\": \"tensor\", \"dynamic\": false, "
		               "\"symmetric\": false}")), "input_activations", "symmetric" },
		{ GROUPS(GROUP("[\"Linear\"]", FP8_TENSOR, "1")), "input_activations",
		  "an object" },
		{ GROUPS(GROUP("[\"Linear\"]", "null", FP8_TENSOR)), "config_groups.g",
		  "quantised weights" },
	};
	expect_refusals(cases, sizeof cases / sizeof cases[0]);
}

static void refuses_other_hf_quant_configs(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
		{ "[]", "an object" },
		{ "{}", "quant_algo" },
		{ "{\"quantization\": []}", "an object" },
		{ "{\"quantization\": {\"quant_algo\": null}}", "a text" },
		{ "{\"quantization\": {\"quant_algo\": \"FP8\"}}", "exclude_modules" },
		{ "{\"quantization\": {\"quant_algo\": \"FP8\", \"exclude_modules\": {}}}",
		  "an array" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct consumer_rules *rules;
		json_doc config, hf;
		error err;
		parse_json(&config, "config.json", "{}");
		parse_json(&hf, "hf_quant_config.json", "%s", cases[i][0]);
		assert_false(consumer_open(&rules, &config, &hf, &err));
		expect_error(&err, EXIT_BAD_INPUT, "hf_quant_config.json:1:", cases[i][1],
		             NULL);
		json_free(&config);
		json_free(&hf);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exclude_entries_mean_different_things),
		cmocka_unit_test(ignore_entries_mean_different_things),
		cmocka_unit_test(nobody_quantises_the_patch_convolution),
		cmocka_unit_test(says_why),
		cmocka_unit_test(reads_the_right_file),
		cmocka_unit_test(says_who_finds_nothing),
		cmocka_unit_test(wants_quern_names),
		cmocka_unit_test(refuses_other_formats),
		cmocka_unit_test(refuses_entries_it_cannot_judge),
		cmocka_unit_test(refuses_other_groups),
		cmocka_unit_test(refuses_other_hf_quant_configs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
