/* The quantization configs as text: exact entries, the base's bytes kept, and the
 * layout that ModelOpt itself writes. Whether readers understand them:
 * test_consumers.c. */
#include "lib/checkpoint/profile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/decisions.h"
#include "tests/support/expect_error.h"

static void knows_profiles(void **state)
{
	(void)state;
	enum profile p = PROFILE_UNIVERSAL;
	assert_true(profile_from_name("modelopt", &p));
	assert_int_equal(p, PROFILE_MODELOPT);
	assert_string_equal(profile_name(p), "modelopt");
	assert_int_equal(profile_scale_dtype(p), DTYPE_F32);
	assert_int_equal(profile_scale_rank(p), 0);
	assert_true(profile_from_name("universal", &p));
	assert_int_equal(p, PROFILE_UNIVERSAL);
	assert_string_equal(profile_name(p), "universal");
	assert_int_equal(profile_scale_dtype(p), DTYPE_BF16);
	assert_int_equal(profile_scale_rank(p), 1);
	assert_true(profile_is_quantised(p));
	assert_true(profile_from_name("bf16", &p));
	assert_int_equal(p, PROFILE_BF16);
	assert_string_equal(profile_name(p), "bf16");
	assert_false(profile_is_quantised(p));
	assert_false(profile_from_name("Universal", &p));
	assert_false(profile_from_name("", &p));
}

/* ---- Lists ---- */

static void assert_list(const cJSON *list, const char *const *expected)
{
	const cJSON *item;
	int i = 0;
	assert_true(cJSON_IsArray(list));
	cJSON_ArrayForEach(item, list) {
		if (!expected[i])
			fail_msg("unexpected entry \"%s\"", item->valuestring);
		assert_string_equal(item->valuestring, expected[i++]);
	}
	if (expected[i])
		fail_msg("missing entry \"%s\"", expected[i]);
}

static const cJSON *field(const cJSON *object, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(object, name);
}

static const cJSON *block_of(const struct config_files *files)
{
	return field(files->config.root, "quantization_config");
}

static const cJSON *quantization_of(const struct config_files *files)
{
	return field(files->hf_quant_config.root, "quantization");
}

/* Two blocks, two layers: some of everything BF16. */
static void decide_some(struct decisions *d)
{
	decisions_make(d, 2, 2);
	decide(d, "*", true);
	decide(d, "visual.blocks.1.attn.qkv", false);
	decide(d, "visual.blocks.*.mlp.[gu]*_proj", false);
	decide(d, "visual.merger.mlp.2", false);
	decide(d, "language_model.layers.*.self_attn.[qkv]_proj", false);
	decide(d, "language_model.layers.1.mlp.*", false);
}

static const char *const some_universal[] = {
	"re:.*visual\\.patch_embed\\.proj$",
	"re:.*visual\\.blocks\\.(0|1)\\.mlp\\.(gate|up|gate_up)_proj$",
	"re:.*visual\\.blocks\\.(1)\\.attn\\.qkv(_proj)?$",
	"re:.*visual\\.merger\\.mlp\\.2$",
	"re:.*layers\\.(0|1)\\.self_attn\\.(q|k|v|qkv)_proj$",
	"re:.*layers\\.(1)\\.mlp\\.(gate|up|gate_up)_proj$",
	"re:.*layers\\.(1)\\.mlp\\.down_proj$",
	"lm_head", NULL
};

static const char *const some_modelopt[] = {
	"visual.patch_embed.proj",
	"visual.blocks.0.mlp.gate_proj", "visual.blocks.0.mlp.up_proj",
	"visual.blocks.1.attn.qkv",
	"visual.blocks.1.mlp.gate_proj", "visual.blocks.1.mlp.up_proj",
	"visual.merger.mlp.2",
	"model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj",
	"model.layers.0.self_attn.v_proj", "model.layers.0.self_attn.q*",
	"model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.k_proj",
	"model.layers.1.self_attn.v_proj", "model.layers.1.self_attn.q*",
	"model.layers.1.mlp.gate_proj", "model.layers.1.mlp.up_proj",
	"model.layers.1.mlp.down_proj",
	"lm_head", NULL
};

static void words_lists(void **state)
{
	(void)state;
	struct decisions d;
	struct config_files files;
	decide_some(&d);
	write_configs(&files, PROFILE_UNIVERSAL, &d);
	assert_list(field(block_of(&files), "ignore"), some_universal);
	assert_list(field(quantization_of(&files), "exclude_modules"), some_modelopt);
	free_configs(&files);
	write_configs(&files, PROFILE_MODELOPT, &d);
	assert_list(field(block_of(&files), "ignore"), some_modelopt);
	assert_list(field(quantization_of(&files), "exclude_modules"), some_modelopt);
	free_configs(&files);
	decisions_free(&d);
}

static void names_a_whole_tower(void **state)
{
	(void)state;
	static const char *const universal[] = { "re:.*visual\\..*", "lm_head", NULL };
	static const char *const modelopt[] = { "visual", "visual.*", "lm_head", NULL };
	struct decisions d;
	struct config_files files;
	decisions_make(&d, 3, 3);
	decide(&d, "language_model.*", true);
	write_configs(&files, PROFILE_UNIVERSAL, &d);
	assert_list(field(block_of(&files), "ignore"), universal);
	assert_list(field(quantization_of(&files), "exclude_modules"), modelopt);
	free_configs(&files);
	decisions_free(&d);
}

/* ---- Layout ---- */

/* A printed copy in which the list, wherever this shape has it, is empty. */
static char *print_without_list(const cJSON *block)
{
	cJSON *copy = cJSON_Duplicate(block, true);
	cJSON *nested = cJSON_GetObjectItem(copy, "quantization");
	text out = { 0 };
	error err;
	assert_true(cJSON_ReplaceItemInObject(nested ? nested : copy,
	                                      nested ? "exclude_modules" : "ignore",
	                                      cJSON_CreateArray()));
	assert_true(json_print(copy, &out, &err));
	cJSON_Delete(copy);
	return out.data;
}

static void assert_same_but_list(const cJSON *ours, const cJSON *golden)
{
	char *a = print_without_list(ours), *b = print_without_list(golden);
	assert_string_equal(a, b);
	free(a);
	free(b);
}

/* As ModelOpt 0.47.0 exported the demo. */
static void has_modelopts_layout(void **state)
{
	(void)state;
	struct decisions d;
	struct config_files files;
	json_doc golden;
	error err;
	if (!json_load(&golden, "tests/golden/demo/export.top50.float32.cpu.json", 1 << 22,
	               &err))
		fail_msg("%s", err.text);
	decide_some(&d);
	for (enum profile p = PROFILE_UNIVERSAL; p <= PROFILE_MODELOPT; p++) {
		write_configs(&files, p, &d);
		assert_same_but_list(files.hf_quant_config.root,
		                     field(golden.root, "hf_quant_config"));
		if (p == PROFILE_MODELOPT)
			assert_same_but_list(block_of(&files),
			                     field(golden.root, "quantization_config"));
		free_configs(&files);
	}
	json_free(&golden);
	decisions_free(&d);
}

static void words_compressed_tensors(void **state)
{
	(void)state;
	static const char expected[] =
		"{\n  \"quantization_config\": {\n"
		"    \"config_groups\": {\n"
		"      \"group_0\": {\n"
		"        \"input_activations\": {\n"
		"          \"dynamic\": false,\n"
		"          \"num_bits\": 8,\n"
		"          \"type\": \"float\",\n"
		"          \"strategy\": \"tensor\",\n"
		"          \"symmetric\": true\n"
		"        },\n"
		"        \"output_activations\": null,\n"
		"        \"targets\": [\n"
		"          \"Linear\"\n"
		"        ],\n"
		"        \"weights\": {\n"
		"          \"dynamic\": false,\n"
		"          \"num_bits\": 8,\n"
		"          \"type\": \"float\",\n"
		"          \"strategy\": \"tensor\",\n"
		"          \"symmetric\": true\n"
		"        }\n"
		"      }\n"
		"    },\n"
		"    \"format\": \"float-quantized\",\n"
		"    \"global_compression_ratio\": null,\n"
		"    \"ignore\": [\n"
		"      \"re:.*visual\\\\.patch_embed\\\\.proj$\",\n"
		"      \"lm_head\"\n"
		"    ],\n"
		"    \"kv_cache_scheme\": null,\n"
		"    \"quant_method\": \"compressed-tensors\",\n"
		"    \"quantization_status\": \"compressed\"\n"
		"  }\n}";
	struct decisions d;
	json_doc base;
	text out = { 0 };
	error err;
	decisions_make(&d, 2, 2);
	decide(&d, "*", true);
	parse_json(&base, "config.json", "{}");
	if (!print_config(PROFILE_UNIVERSAL, &base, d.modules, d.count, false, &out, &err))
		fail_msg("%s", err.text);
	assert_string_equal(out.data, expected);
	text_free(&out);
	json_free(&base);
	decisions_free(&d);
}

/* ---- the key/value cache ---- */

static bool says_fp8(const cJSON *scheme)
{
	return field(scheme, "num_bits")->valuedouble == 8 &&
	       strcmp(field(scheme, "type")->valuestring, "float") == 0 &&
	       cJSON_IsFalse(field(scheme, "dynamic"));
}

static void says_what_the_cache_is_kept_in(void **state)
{
	(void)state;
	struct decisions d;
	json_doc base;
	char name[NAME_BYTES];
	decisions_make(&d, 2, 2);
	decide(&d, "*", true);
	parse_json(&base, "config.json", "{}");
	for (int cache = 0; cache < 2; cache++)
		for (enum profile p = PROFILE_UNIVERSAL; p <= PROFILE_MODELOPT; p++) {
			text config = { 0 }, quant = { 0 };
			json_doc a, b;
			error err;
			assert_true(print_config(p, &base, d.modules, d.count, cache, &config, &err));
			assert_true(print_hf_quant_config(d.modules, d.count, cache, &quant, &err));
			parse_json(&a, "config", "%s", config.data);
			parse_json(&b, "quant", "%s", quant.data);
			const cJSON *block = field(a.root, "quantization_config");
			const cJSON *scheme = cJSON_GetObjectItem(block, "kv_cache_scheme");
			const cJSON *algo = field(field(b.root, "quantization"), "kv_cache_quant_algo");
			if (!cache)
				assert_true(p == PROFILE_UNIVERSAL ? cJSON_IsNull(scheme) : !scheme);
			if (!cache)
				assert_true(cJSON_IsNull(algo));
			if (cache && p == PROFILE_UNIVERSAL) {
				assert_string_equal(field(scheme, "strategy")->valuestring, "tensor");
				assert_true(cJSON_IsTrue(field(scheme, "symmetric")));
			}
			if (cache) {
				assert_true(says_fp8(scheme));
				assert_string_equal(algo->valuestring, "FP8");
			}
			json_free(&a);
			json_free(&b);
			text_free(&config);
			text_free(&quant);
		}
	profile_cache_scale_name(PROFILE_UNIVERSAL, 11, true, name);
	assert_string_equal(name, "model.layers.11.self_attn.v_scale");
	profile_cache_scale_name(PROFILE_MODELOPT, 11, false, name);
	assert_string_equal(name, "model.layers.11.self_attn.k_proj.k_scale");
	json_free(&base);
	decisions_free(&d);
}

/* ---- The base's text ---- */

/* The base with the config, and what stands before and after the config in it. */
static void assert_placed(const char *base_text, const char *before, const char *after)
{
	struct decisions d;
	json_doc base, result;
	text out = { 0 };
	error err;
	decisions_make(&d, 1, 1);
	parse_json(&base, "config.json", "%s", base_text);
	if (!print_config(PROFILE_MODELOPT, &base, d.modules, d.count, false, &out, &err))
		fail_msg("%s", err.text);
	assert_true(out.length > strlen(before) + strlen(after));
	assert_memory_equal(out.data, before, strlen(before));
	assert_string_equal(out.data + out.length - strlen(after), after);
	if (!json_parse(&result, "result", out.data, out.length, &err))
		fail_msg("%s", err.text);
	assert_string_equal(
		field(field(result.root, "quantization_config"), "quant_algo")->valuestring,
		"FP8");
	json_free(&result);
	json_free(&base);
	text_free(&out);
	decisions_free(&d);
}

#define KEY "\"quantization_config\": "

static void keeps_the_base(void **state)
{
	(void)state;
	assert_placed("{}", "{\n  " KEY "{\n    \"config_groups\"", "  }\n}");
	assert_placed(" {\n} \n", " {\n  " KEY "{", "}\n\n} \n");
	assert_placed("{\"a\":1}", "{\"a\":1,\n  " KEY "{", "\n  }}");
	assert_placed("{\n  \"a\": [0.0, 1e-06, 9007199254740993],\n  \"b\": {\"c\": {}}\n}\n",
	              "{\n  \"a\": [0.0, 1e-06, 9007199254740993],\n  \"b\": {\"c\": {}},\n  "
	              KEY "{", "\"quant_method\": \"modelopt\"\n  }\n}\n");
}

static void replaces_a_config(void **state)
{
	(void)state;
	assert_placed("{\"a\": 0.0, \"quantization_config\": {\"x\": [1, 2]}, \"b\": 2}",
	              "{\"a\": 0.0, " KEY "{\n    \"config_groups\"", "\n  }, \"b\": 2}");
	assert_placed("{\"quantization_config\" : null}", "{\"quantization_config\" : {",
	              "\n  }}");
	/* One of that name elsewhere is not it. */
	assert_placed("{\"a\": {\"quantization_config\": 1}}",
	              "{\"a\": {\"quantization_config\": 1},\n  " KEY "{", "\n  }}");
}

static void keeps_the_demos_config(void **state)
{
	(void)state;
	json_doc base;
	error err;
	if (!json_load(&base, "demo/tiny-qwen2_5-vl/config.json", 1 << 20, &err))
		fail_msg("%s", err.text);
	char *before = strndup(base.text, base.size - strlen("\n}"));
	assert_non_null(before);
	assert_placed(base.text, before, "\n  }\n}");
	free(before);
	json_free(&base);
}

/* ---- Refusals ---- */

static void expect_refusal(const struct decisions *d, const char *a, const char *b)
{
	json_doc base;
	text out = { 0 };
	error err;
	parse_json(&base, "config.json", "{}");
	for (enum profile p = PROFILE_UNIVERSAL; p <= PROFILE_MODELOPT; p++) {
		assert_false(print_config(p, &base, d->modules, d->count, false, &out, &err));
		expect_error(&err, EXIT_INTERNAL, a, b, NULL);
		assert_false(print_hf_quant_config(d->modules, d->count, false, &out, &err));
		expect_error(&err, EXIT_INTERNAL, a, b, NULL);
	}
	assert_int_equal(out.length, 0);
	json_free(&base);
}

static void refuses_what_no_reader_loads(void **state)
{
	(void)state;
	struct decisions d;
	decisions_make(&d, 2, 12);
	decide(&d, "language_model.layers.11.self_attn.k_proj", true);
	expect_refusal(&d, "language_model.layers.11.self_attn.q_proj",
	               "language_model.layers.11.self_attn.k_proj");
	decide(&d, "*", true);
	decide(&d, "visual.blocks.1.mlp.up_proj", false);
	expect_refusal(&d, "visual.blocks.1.mlp.gate_proj", "visual.blocks.1.mlp.up_proj");
	decide(&d, "*", true);
	d.modules[0].quantised = true;
	expect_refusal(&d, "visual.patch_embed.proj", "quantised");
	d.modules[0].quantised = false;
	d.modules[d.count - 1].quantised = true;
	expect_refusal(&d, "lm_head", "quantised");
	decisions_free(&d);
}

/* Byte for byte, and never with a quantization config. */
static void leaves_the_base_alone_in_bf16(void **state)
{
	(void)state;
	static const char plain[] = "{ \"eps\": 1e-06,\n\"x\":0.0 }\n";
	struct decisions d;
	json_doc base;
	text out = { 0 };
	error err;
	decisions_make(&d, 1, 1);
	parse_json(&base, "folder/config.json", plain);
	assert_true(print_config(PROFILE_BF16, &base, d.modules, d.count, false, &out, &err));
	assert_string_equal(out.data, plain);
	text_free(&out);
	json_free(&base);
	parse_json(&base, "folder/config.json", "{ \"quantization_config\": {} }");
	out = (text){ 0 };
	assert_false(print_config(PROFILE_BF16, &base, d.modules, d.count, false, &out, &err));
	expect_error(&err, EXIT_BAD_INPUT, "folder/config.json:1", "not quantised", NULL);
	json_free(&base);
	decisions_free(&d);
}

static void refuses_a_base_that_is_no_object(void **state)
{
	(void)state;
	struct decisions d;
	json_doc base;
	text out = { 0 };
	error err;
	decisions_make(&d, 1, 1);
	parse_json(&base, "folder/config.json", "[]");
	assert_false(print_config(PROFILE_UNIVERSAL, &base, d.modules, d.count, false, &out, &err));
	expect_error(&err, EXIT_BAD_INPUT, "folder/config.json:1:1", "an object", NULL);
	json_free(&base);
	decisions_free(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_profiles),
		cmocka_unit_test(words_lists),
		cmocka_unit_test(names_a_whole_tower),
		cmocka_unit_test(has_modelopts_layout),
		cmocka_unit_test(words_compressed_tensors),
		cmocka_unit_test(says_what_the_cache_is_kept_in),
		cmocka_unit_test(keeps_the_base),
		cmocka_unit_test(replaces_a_config),
		cmocka_unit_test(keeps_the_demos_config),
		cmocka_unit_test(refuses_what_no_reader_loads),
		cmocka_unit_test(leaves_the_base_alone_in_bf16),
		cmocka_unit_test(refuses_a_base_that_is_no_object),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
