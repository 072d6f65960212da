/* Configs of every format, alone and mixed: what they say in either language, that their
 * readers take every linear for what it is, and what no reader could make sense of. */
#include "lib/checkpoint/consumers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include "lib/checkpoint/fused.h"
#include "lib/quant/formats/format.h"

#include <cmocka.h>

#include "tests/support/consumer_rules.h"
#include "tests/support/decisions.h"
#include "tests/support/expect_error.h"

enum { BLOCKS = 12, LAYERS = 23 };

static const cJSON *field(const cJSON *object, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(object, name);
}

static void expect_json(const cJSON *found, const char *expected)
{
	json_doc doc;
	parse_json(&doc, "expected", "%s", expected);
	text a = { 0 }, b = { 0 };
	error err;
	assert_true(json_print(found, &a, &err) && json_print(doc.root, &b, &err));
	assert_string_equal(a.data, b.data);
	text_free(&a);
	text_free(&b);
	json_free(&doc);
}

/* ---- readers ---- */

static void check_readers(const struct decisions *d, enum profile p)
{
	struct config_files files;
	write_configs(&files, p, d);
	struct consumer_rules *rules = open_rules(&files.config, &files.hf_quant_config);
	for (enum consumer c = 0; c < CONSUMER_COUNT; c++) {
		int lost;
		error err;
		if (consumer_reads(rules, c) &&
		    !consumer_check(rules, c, d->modules, d->count, &lost, &err))
			fail_msg("%s", err.text);
	}
	assert_int_equal(consumer_reads(rules, CONSUMER_TRANSFORMERS), p == PROFILE_UNIVERSAL);
	assert_int_equal(consumer_reads(rules, CONSUMER_SGLANG_COMPRESSED),
	                 p == PROFILE_UNIVERSAL);
	if (p == PROFILE_MODELOPT)
		assert_true(consumer_reads(rules, CONSUMER_TENSORRT_LLM));
	consumer_close(rules);
	free_configs(&files);
}

/* Each format by itself in any part of the model. */
static void agree_about_one_format(void **state)
{
	(void)state;
	for (int k = 0; format_at(k); k++)
		for (int percent = 10; percent <= 100; percent += 30) {
			struct decisions d;
			decisions_make(&d, BLOCKS, LAYERS);
			for (int i = 0; i < d.count; i++)
				d.modules[i].form = &format_at(k)->form;
			decide_by_chance(&d, percent, (uint32_t)(percent + k));
			check_readers(&d, PROFILE_UNIVERSAL);
			check_readers(&d, PROFILE_MODELOPT);
			decisions_free(&d);
		}
}

/* Each fused layer and each other linear in any format, or in none. */
static void mix_by_chance(struct decisions *d, uint32_t seed)
{
	uint32_t state = seed * 2654435761u + 1;
	const struct linear_form *form = NULL;
	int count = 0;
	while (format_at(count))
		count++;
	decide_by_chance(d, 70, seed);
	for (int i = 0; i < d->count; i++) {
		if (i == 0 || !modules_fuse(d->modules[i - 1].name, d->modules[i].name)) {
			state = state * 1664525u + 1013904223u;
			form = &format_at((int)((state >> 16) % (uint32_t)count))->form;
		}
		d->modules[i].form = form;
	}
}

static void agree_about_mixed_formats(void **state)
{
	(void)state;
	for (uint32_t seed = 0; seed < 20; seed++) {
		struct decisions d;
		decisions_make(&d, BLOCKS, LAYERS);
		mix_by_chance(&d, seed);
		check_readers(&d, PROFILE_UNIVERSAL);
		check_readers(&d, PROFILE_MODELOPT);
		decisions_free(&d);
	}
}

/* Which reader of ModelOpt's language knows what. */
static void know_their_algorithms(void **state)
{
	static const struct {
		const char *element, *granularity;
		bool vllm, sglang;
	} cases[] = {
		{ "fp8_e4m3", "tensor", true, true },
		{ "fp8_e4m3", "channel_token", true, false },
		{ "int8", "channel", false, false },
		{ "int4", "group128_weight_only", false, false },
		{ "nvfp4", "block16", true, true },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct decisions d;
		struct config_files files;
		decisions_make(&d, 2, 2);
		decide_form(&d, "*", cases[i].element, cases[i].granularity);
		write_configs(&files, PROFILE_MODELOPT, &d);
		struct consumer_rules *rules = open_rules(&files.config, &files.hf_quant_config);
		assert_int_equal(consumer_reads(rules, CONSUMER_VLLM_MODELOPT), cases[i].vllm);
		assert_int_equal(consumer_reads(rules, CONSUMER_SGLANG_MODELOPT),
		                 cases[i].sglang);
		consumer_close(rules);
		free_configs(&files);
		decisions_free(&d);
	}
}

/* A config that says another number form than the tensors have. */
static void notice_another_form(void **state)
{
	(void)state;
	struct decisions d;
	struct config_files files;
	error err;
	int lost;
	decisions_make(&d, 2, 2);
	decide_form(&d, "*", "int8", "channel");
	write_configs(&files, PROFILE_UNIVERSAL, &d);
	struct consumer_rules *rules = open_rules(&files.config, &files.hf_quant_config);
	decide_form(&d, "language_model.layers.1.mlp.down_proj", "fp8_e4m3", "channel_token");
	assert_false(consumer_check(rules, CONSUMER_TRANSFORMERS, d.modules, d.count, &lost,
	                            &err));
	expect_error(&err, EXIT_BAD_INPUT, "language_model.layers.1.mlp.down_proj",
	             "expected FP8 by channel, found INT8 by channel", NULL);
	consumer_close(rules);
	free_configs(&files);
	decisions_free(&d);
}

/* ---- words ---- */

static void word_compressed_tensors(void **state)
{
	static const struct {
		const char *element, *granularity, *format, *weights, *inputs;
	} cases[] = {
		{ "fp8_e4m3", "channel_token", "\"float-quantized\"",
		  "{\"dynamic\": false, \"num_bits\": 8, \"type\": \"float\", \"strategy\": "
		  "\"channel\", \"symmetric\": true}",
		  "{\"dynamic\": true, \"num_bits\": 8, \"type\": \"float\", \"strategy\": "
		  "\"token\", \"symmetric\": true}" },
		{ "int8", "channel", "\"int-quantized\"",
		  "{\"dynamic\": false, \"num_bits\": 8, \"type\": \"int\", \"strategy\": "
		  "\"channel\", \"symmetric\": true}",
		  "{\"dynamic\": false, \"num_bits\": 8, \"type\": \"int\", \"strategy\": "
		  "\"tensor\", \"symmetric\": true}" },
		{ "int4", "group128_weight_only", "\"pack-quantized\"",
		  "{\"dynamic\": false, \"num_bits\": 4, \"type\": \"int\", \"group_size\": 128, "
		  "\"strategy\": \"group\", \"symmetric\": true}", "null" },
		{ "nvfp4", "block16", "\"nvfp4-pack-quantized\"",
		  "{\"dynamic\": false, \"num_bits\": 4, \"type\": \"float\", \"group_size\": 16, "
		  "\"scale_dtype\": \"torch.float8_e4m3fn\", \"strategy\": \"tensor_group\", "
		  "\"symmetric\": true}",
		  "{\"dynamic\": \"local\", \"num_bits\": 4, \"type\": \"float\", \"group_size\": "
		  "16, \"scale_dtype\": \"torch.float8_e4m3fn\", \"strategy\": \"tensor_group\", "
		  "\"symmetric\": true}" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct decisions d;
		struct config_files files;
		decisions_make(&d, 2, 2);
		decide_form(&d, "*", cases[i].element, cases[i].granularity);
		write_configs(&files, PROFILE_UNIVERSAL, &d);
		const cJSON *block = field(files.config.root, "quantization_config");
		const cJSON *group = field(field(block, "config_groups"), "group_0");
		assert_null(files.hf_quant_config.root); /* its tensors are others */
		expect_json(field(block, "format"), cases[i].format);
		expect_json(field(group, "weights"), cases[i].weights);
		expect_json(field(group, "input_activations"), cases[i].inputs);
		expect_json(field(group, "targets"), "[\"Linear\"]");
		free_configs(&files);
		decisions_free(&d);
	}
}

static void word_modelopt(void **state)
{
	static const struct {
		const char *element, *granularity, *nested, *groups;
	} cases[] = {
		{ "fp8_e4m3", "channel_token",
		  "{\"quant_algo\": \"FP8_PER_CHANNEL_PER_TOKEN\", \"kv_cache_quant_algo\": null, "
		  "\"exclude_modules\": [\"visual\", \"visual.*\", \"lm_head\"]}", NULL },
		{ "int8", "channel",
		  "{\"quant_algo\": \"W8A8_SQ_PER_CHANNEL\", \"kv_cache_quant_algo\": null, "
		  "\"exclude_modules\": [\"visual\", \"visual.*\", \"lm_head\"]}", NULL },
		{ "int4", "group128_weight_only",
		  "{\"quant_algo\": \"W4A16_AWQ\", \"group_size\": 128, \"has_zero_point\": false, "
		  "\"pre_quant_scale\": false, \"kv_cache_quant_algo\": null, "
		  "\"exclude_modules\": [\"visual\", \"visual.*\", \"lm_head\"]}", NULL },
		{ "nvfp4", "block16",
		  "{\"quant_algo\": \"NVFP4\", \"group_size\": 16, \"kv_cache_quant_algo\": null, "
		  "\"exclude_modules\": [\"visual\", \"visual.*\", \"lm_head\"]}",
		  "{\"group_0\": {\"input_activations\": {\"dynamic\": false, \"num_bits\": 4, "
		  "\"type\": \"float\", \"group_size\": 16}, \"weights\": {\"dynamic\": false, "
		  "\"num_bits\": 4, \"type\": \"float\", \"group_size\": 16}, "
		  "\"targets\": [\"Linear\"]}}" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct decisions d;
		struct config_files files;
		decisions_make(&d, 2, 2);
		decide_form(&d, "language_model.*", cases[i].element, cases[i].granularity);
		write_configs(&files, PROFILE_MODELOPT, &d);
		expect_json(field(files.hf_quant_config.root, "quantization"), cases[i].nested);
		const cJSON *groups = field(field(files.config.root, "quantization_config"),
		                            "config_groups");
		assert_int_equal(groups != NULL, cases[i].groups != NULL);
		if (groups)
			expect_json(groups, cases[i].groups);
		free_configs(&files);
		decisions_free(&d);
	}
}

/* One layer: its attention in FP8, its MLP in NVFP4. */
static void decide_mixed(struct decisions *d)
{
	decisions_make(d, 1, 1);
	decide_form(d, "language_model.layers.0.self_attn.*", "fp8_e4m3", "tensor");
	decide_form(d, "language_model.layers.0.mlp.*", "nvfp4", "block16");
}

static void word_mixed_compressed_tensors(void **state)
{
	struct decisions d;
	struct config_files files;
	(void)state;
	decide_mixed(&d);
	write_configs(&files, PROFILE_UNIVERSAL, &d);
	assert_null(files.hf_quant_config.root);
	const cJSON *block = field(files.config.root, "quantization_config");
	const cJSON *first = field(field(block, "config_groups"), "group_0");
	const cJSON *second = field(field(block, "config_groups"), "group_1");
	expect_json(field(block, "format"), "\"mixed-precision\"");
	expect_json(field(block, "ignore"), "[\"re:.*visual\\\\..*\", \"lm_head\"]");
	expect_json(field(first, "format"), "\"float-quantized\"");
	expect_json(field(first, "targets"),
	            "[\"re:.*layers\\\\.(0)\\\\.self_attn\\\\.(q|k|v|qkv)_proj$\", "
	            "\"re:.*layers\\\\.(0)\\\\.self_attn\\\\.o_proj$\"]");
	expect_json(field(second, "format"), "\"nvfp4-pack-quantized\"");
	expect_json(field(second, "targets"),
	            "[\"re:.*layers\\\\.(0)\\\\.mlp\\\\.(gate|up|gate_up)_proj$\", "
	            "\"re:.*layers\\\\.(0)\\\\.mlp\\\\.down_proj$\"]");
	free_configs(&files);
	decisions_free(&d);
}

static void word_mixed_modelopt(void **state)
{
	static const char layers[] =
		"{\"model.layers.0.self_attn.q_proj\": {\"quant_algo\": \"FP8\"}, "
		"\"model.layers.0.self_attn.k_proj\": {\"quant_algo\": \"FP8\"}, "
		"\"model.layers.0.self_attn.v_proj\": {\"quant_algo\": \"FP8\"}, "
		"\"model.layers.0.self_attn.o_proj\": {\"quant_algo\": \"FP8\"}, "
		"\"model.layers.0.mlp.gate_proj\": {\"quant_algo\": \"NVFP4\", \"group_size\": 16}, "
		"\"model.layers.0.mlp.up_proj\": {\"quant_algo\": \"NVFP4\", \"group_size\": 16}, "
		"\"model.layers.0.mlp.down_proj\": {\"quant_algo\": \"NVFP4\", \"group_size\": 16}}";
	struct decisions d;
	struct config_files files;
	(void)state;
	decide_mixed(&d);
	write_configs(&files, PROFILE_MODELOPT, &d);
	const cJSON *nested = field(files.hf_quant_config.root, "quantization");
	const cJSON *block = field(files.config.root, "quantization_config");
	expect_json(field(nested, "quant_algo"), "\"MIXED_PRECISION\"");
	expect_json(field(nested, "quantized_layers"), layers);
	assert_null(field(nested, "exclude_modules"));
	expect_json(field(block, "quantized_layers"), layers);
	expect_json(field(block, "ignore"), "[]");
	expect_json(field(field(field(block, "config_groups"), "group_1"), "targets"),
	            "[\"model.layers.0.mlp.gate_proj\", \"model.layers.0.mlp.up_proj\", "
	            "\"model.layers.0.mlp.down_proj\"]");
	free_configs(&files);
	decisions_free(&d);
}

/* Servers keep q, k and v in one matrix. */
static void refuse_split_formats(void **state)
{
	struct decisions d;
	json_doc base;
	text out = { 0 };
	error err;
	(void)state;
	decide_mixed(&d);
	decide_form(&d, "language_model.layers.0.mlp.up_proj", "int8", "channel");
	parse_json(&base, "config.json", "{}");
	assert_false(print_config(PROFILE_UNIVERSAL, &base, d.modules, d.count, false,
	                          &out, &err));
	expect_error(&err, EXIT_INTERNAL, "gate_proj", "up_proj", NULL);
	text_free(&out);
	json_free(&base);
	decisions_free(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agree_about_one_format),
		cmocka_unit_test(agree_about_mixed_formats),
		cmocka_unit_test(know_their_algorithms),
		cmocka_unit_test(notice_another_form),
		cmocka_unit_test(word_compressed_tensors),
		cmocka_unit_test(word_modelopt),
		cmocka_unit_test(word_mixed_compressed_tensors),
		cmocka_unit_test(word_mixed_modelopt),
		cmocka_unit_test(refuse_split_formats),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
