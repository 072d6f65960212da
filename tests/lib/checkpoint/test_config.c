/* config.json of every form in use, and of none. */
#include "lib/checkpoint/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/text.h"
#include "tests/support/expect_error.h"
#include "tests/support/shared_data.h"
#include "tests/support/temp_folder.h"

static int set_up(void **state)
{
	error err;
	*state = malloc(PATH_BYTES);
	return *state && temp_folder_make(*state, &err) ? 0 : -1;
}

static int tear_down(void **state)
{
	temp_folder_remove(*state);
	free(*state);
	return 0;
}

static void load_text(struct model_config *c, const char *folder, const char *json)
{
	error err;
	assert_true(temp_folder_write(folder, "config.json", json, strlen(json), &err));
	if (!model_config_load(c, folder, &err))
		fail_msg("%s", err.text);
}

static void reads_the_demo(void **state)
{
	(void)state;
	struct model_config c;
	error err;
	if (!model_config_load(&c, "demo/tiny-qwen2_5-vl", &err))
		fail_msg("%s", err.text);
	assert_int_equal(c.vision.depth, 4);
	assert_int_equal(c.vision.hidden, 160);
	assert_int_equal(c.vision.intermediate, 340);
	assert_int_equal(c.vision.heads, 2);
	assert_int_equal(c.vision.head_dim, 80);
	assert_int_equal(c.vision.channels, 3);
	assert_int_equal(c.vision.patch, 14);
	assert_int_equal(c.vision.temporal_patch, 2);
	assert_int_equal(c.vision.patch_values, 1176);
	assert_int_equal(c.vision.merge, 2);
	assert_int_equal(c.vision.window, 112);
	assert_int_equal(c.vision.out_hidden, 256);
	assert_false(c.vision.full_attention[0]);
	assert_true(c.vision.full_attention[1]);
	assert_false(c.vision.full_attention[2]);
	assert_true(c.vision.full_attention[3]);
	assert_int_equal(c.text.layers, 6);
	assert_int_equal(c.text.hidden, 256);
	assert_int_equal(c.text.intermediate, 688);
	assert_int_equal(c.text.heads, 2);
	assert_int_equal(c.text.kv_heads, 1);
	assert_int_equal(c.text.head_dim, 128);
	assert_int_equal(c.text.vocab, 4224);
	assert_true(c.text.rms_eps == 1e-6f);
	assert_true(c.text.rope_theta == 1e6);
	assert_int_equal(c.text.mrope_section[0], 16);
	assert_int_equal(c.text.mrope_section[1], 24);
	assert_int_equal(c.text.mrope_section[2], 24);
	assert_true(c.text.tied_head);
	assert_int_equal(c.image_token, 4108);
	assert_int_equal(c.vision_start_token, 4105);
	assert_int_equal(c.vision_end_token, 4106);
	assert_int_equal(c.end_of_turn_token, 4098);
}

/* The released configs, read where they lie. */
static void reads_the_released_configs(void **state)
{
	static const struct {
		const char *file;
		int hidden, layers, heads, kv_heads, vocab;
		bool tied;
	} released[] = {
		{ "fixtures/configs/qwen2_5_vl_3b.config.json", 2048, 36, 16, 2, 151936, true },
		{ "fixtures/configs/qwen2_5_vl_7b.config.json", 3584, 28, 28, 4, 152064, false },
	};
	for (size_t i = 0; i < sizeof released / sizeof *released; i++) {
		char path[PATH_BYTES], *json;
		struct model_config c;
		size_t size;
		error err;
		if (!find_shared(path, released[i].file, "reads_the_released_configs"))
			skip();
		assert_true(read_file(path, 1 << 20, &json, &size, &err));
		load_text(&c, *state, json);
		free(json);
		assert_int_equal(c.text.hidden, released[i].hidden);
		assert_int_equal(c.text.layers, released[i].layers);
		assert_int_equal(c.text.heads, released[i].heads);
		assert_int_equal(c.text.kv_heads, released[i].kv_heads);
		assert_int_equal(c.text.head_dim, 128);
		assert_int_equal(c.text.vocab, released[i].vocab);
		assert_int_equal(c.text.tied_head, released[i].tied);
		assert_int_equal(c.vision.depth, 32);
		assert_int_equal(c.vision.head_dim, 80);
		assert_int_equal(c.vision.intermediate, 3420);
		assert_true(c.vision.full_attention[31]);
		assert_int_equal(c.end_of_turn_token, 151645);
	}
}

#define VISION                                                                          \
	"\"vision_config\":{\"depth\":2,\"hidden_size\":32,\"intermediate_size\":36,"       \
	"\"num_heads\":2,\"in_channels\":3,\"patch_size\":14,\"temporal_patch_size\":2,"    \
	"\"spatial_merge_size\":2,\"window_size\":112,\"out_hidden_size\":64,"              \
	"\"fullatt_block_indexes\":[1],\"hidden_act\":\"silu\"}"
#define TEXT                                                                            \
	"\"hidden_size\":64,\"intermediate_size\":96,\"num_hidden_layers\":3,"              \
	"\"num_attention_heads\":4,\"num_key_value_heads\":2,\"vocab_size\":500,"           \
	"\"rms_norm_eps\":1e-05"
#define TOKENS                                                                          \
	"\"image_token_id\":400,\"vision_start_token_id\":401,\"vision_end_token_id\":402"
#define SECTIONS "\"mrope_section\":[2,3,3]"

/* As transformers 4.52 to 4.57 save it: the text fields twice, nulls, the rope
 * type renamed, tie_word_embeddings only inside. */
static const char saved_by_4_52[] =
	"{\"model_type\":\"qwen2_5_vl\",\"hidden_size\":1,\"rope_theta\":5," VISION "," TOKENS
	",\"text_config\":{\"model_type\":\"qwen2_5_vl_text\"," TEXT
	",\"image_token_id\":null,\"eos_token_id\":403,\"tie_word_embeddings\":true,"
	"\"use_sliding_window\":false,\"rope_theta\":1000000.0,\"rope_scaling\":{" SECTIONS
	",\"rope_type\":\"default\",\"type\":\"default\"}}}";

/* As transformers 5 saves it: rope_theta inside rope_parameters. */
static const char saved_by_5[] =
	"{\"model_type\":\"qwen2_5_vl\",\"tie_word_embeddings\":false,\"eos_token_id\":403,"
	VISION "," TOKENS ",\"text_config\":{" TEXT ",\"rope_scaling\":null,"
	"\"rope_parameters\":{" SECTIONS ",\"rope_theta\":2e6,\"rope_type\":\"default\"}}}";

static const char flat_without_tie[] =
	"{\"model_type\":\"qwen2_5_vl\",\"text_config\":null,\"eos_token_id\":403," VISION ","
	TOKENS "," TEXT ",\"rope_theta\":3000000,\"rope_scaling\":{\"type\":\"mrope\"," SECTIONS
	"}}";

static void reads_other_forms(void **state)
{
	static const struct {
		const char *json;
		double theta;
		bool tied;
	} forms[] = {
		{ saved_by_4_52, 1e6, true },
		{ saved_by_5, 2e6, false },
		{ flat_without_tie, 3e6, false },
	};
	for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
		struct model_config c;
		load_text(&c, *state, forms[i].json);
		assert_true(c.text.rope_theta == forms[i].theta);
		assert_int_equal(c.text.tied_head, forms[i].tied);
		assert_int_equal(c.text.hidden, 64);
		assert_int_equal(c.text.head_dim, 16);
		assert_int_equal(c.text.mrope_section[0], 2);
		assert_int_equal(c.end_of_turn_token, 403);
		assert_int_equal(c.image_token, 400);
		assert_true(c.vision.full_attention[1]);
	}
}

/* A valid config with one field a line, of which `field` has another value. */
static char *config_with(const char *field, const char *value)
{
	static const char *const outer[][2] = {
		{ "model_type", "\"qwen2_5_vl\"" }, { "hidden_act", "\"silu\"" },
		{ "hidden_size", "64" }, { "intermediate_size", "96" },
		{ "num_hidden_layers", "3" }, { "num_attention_heads", "4" },
		{ "num_key_value_heads", "2" }, { "vocab_size", "500" },
		{ "rms_norm_eps", "1e-06" }, { "rope_theta", "1000000.0" },
		{ "tie_word_embeddings", "true" }, { "use_sliding_window", "false" },
		{ "rope_scaling", "{\"type\": \"mrope\", \"mrope_section\": [2, 3, 3]}" },
		{ "image_token_id", "400" }, { "vision_start_token_id", "401" },
		{ "vision_end_token_id", "402" }, { "eos_token_id", "403" },
	};
	static const char *const vision[][2] = {
		{ "v.depth", "2" }, { "v.hidden_act", "\"silu\"" }, { "v.hidden_size", "32" },
		{ "v.intermediate_size", "36" }, { "v.num_heads", "2" }, { "v.in_chans", "3" },
		{ "v.patch_size", "14" }, { "v.temporal_patch_size", "2" },
		{ "v.spatial_merge_size", "2" }, { "v.window_size", "112" },
		{ "v.out_hidden_size", "64" }, { "v.fullatt_block_indexes", "[1]" },
	};
	text out = { 0 };
	text_puts(&out, "{\n");
	for (size_t i = 0; i < sizeof outer / sizeof *outer; i++) {
		bool changed = strcmp(field, outer[i][0]) == 0;
		if (!changed || value)
			text_printf(&out, "\"%s\": %s,\n", outer[i][0], changed ? value : outer[i][1]);
	}
	text_puts(&out, "\"vision_config\": {\n");
	for (size_t i = 0; i < sizeof vision / sizeof *vision; i++) {
		bool changed = strcmp(field, vision[i][0]) == 0;
		if (!changed || value)
			text_printf(&out, "\"%s\": %s,\n", vision[i][0] + 2,
			            changed ? value : vision[i][1]);
	}
	text_puts(&out, "\"tokens_per_second\": 2\n}\n}\n");
	assert_false(out.failed);
	return out.data;
}

/* The line that config_with has `field` on, as ":line:". */
static void line_of(const char *json, const char *field, char out[16])
{
	char quoted[64];
	bool vision = strncmp(field, "v.", 2) == 0;
	snprintf(quoted, sizeof quoted, "\n\"%s\"", field + (vision ? 2 : 0));
	const char *from = vision ? strstr(json, "vision_config") : json;
	const char *found = strstr(from, quoted);
	int line = 2;
	assert_non_null(found);
	for (; found > json; found--)
		line += found[-1] == '\n';
	snprintf(out, 16, ":%d:", line);
}

/* value NULL: the field is absent, and the place is its object's. */
static const struct {
	const char *field, *value, *message;
} absurd[] = {
	{ "model_type", "\"qwen2_vl\"", "model_type: expected \"qwen2_5_vl\"" },
	{ "model_type", "3", "model_type: expected a text, found 3" },
	{ "hidden_act", "\"gelu\"", "hidden_act: expected \"silu\", found \"gelu\"" },
	{ "hidden_size", "0", "hidden_size: expected an integer from 1 to 1000000, found 0" },
	{ "hidden_size", "-64", "hidden_size: expected an integer" },
	{ "hidden_size", "1000001", "found 1000001" },
	{ "hidden_size", "64.5", "hidden_size: expected an integer" },
	{ "hidden_size", "\"64\"", "hidden_size: expected an integer" },
	{ "hidden_size", "null", "hidden_size: expected an integer" },
	{ "hidden_size", "1e300", "found 1e+300" },
	{ "hidden_size", "18446744073709551680", "hidden_size: expected an integer" },
	{ "intermediate_size", "0", "intermediate_size:" },
	{ "num_hidden_layers", "0", "num_hidden_layers:" },
	{ "num_hidden_layers", "513", "from 1 to 512, found 513" },
	{ "num_attention_heads", "0", "num_attention_heads:" },
	{ "num_attention_heads", "5", "expected a divisor of hidden_size 64, found 5" },
	{ "num_attention_heads", "64", "hidden_size 64 / num_attention_heads to be even" },
	{ "num_key_value_heads", "0", "num_key_value_heads:" },
	{ "num_key_value_heads", "3", "expected a divisor of num_attention_heads 4, found 3" },
	{ "num_key_value_heads", "8", "expected a divisor of num_attention_heads" },
	{ "vocab_size", "0", "vocab_size:" },
	{ "vocab_size", "2000000", "vocab_size:" },
	{ "rms_norm_eps", "0", "rms_norm_eps: expected a number from 1e-12 to 0.1, found 0" },
	{ "rms_norm_eps", "-1e-06", "rms_norm_eps:" },
	{ "rms_norm_eps", "1", "rms_norm_eps:" },
	{ "rope_theta", "0", "rope_theta:" },
	{ "rope_theta", "-1", "rope_theta:" },
	{ "rope_theta", "1e13", "rope_theta:" },
	{ "tie_word_embeddings", "1", "tie_word_embeddings: expected true or false" },
	{ "use_sliding_window", "true", "use_sliding_window: expected false, found true" },
	{ "rope_scaling", "[]", "rope_scaling: expected an object" },
	{ "rope_scaling", "{\"type\": \"yarn\", \"mrope_section\": [2, 3, 3]}",
	  "rope_scaling.type: expected \"mrope\" or \"default\", found \"yarn\"" },
	{ "rope_scaling", "{\"rope_type\": \"linear\", \"mrope_section\": [2, 3, 3]}",
	  "rope_scaling.rope_type: expected" },
	{ "rope_scaling", "{\"type\": \"mrope\"}", "lacks the field \"mrope_section\"" },
	{ "rope_scaling", "{\"mrope_section\": [2, 3]}", "the sum head_dim / 2 = 8" },
	{ "rope_scaling", "{\"mrope_section\": [2, 3, 4]}", "the sum head_dim / 2 = 8" },
	{ "rope_scaling", "{\"mrope_section\": [2, 3, 3, 0]}", "mrope_section[3]:" },
	{ "rope_scaling", "{\"mrope_section\": [-1, 3, 6]}", "mrope_section[0]:" },
	{ "rope_scaling", "{\"mrope_section\": [2.5, 2.5, 3]}", "mrope_section[0]:" },
	{ "rope_scaling", "{\"mrope_section\": [2, \"3\", 3]}", "mrope_section[1]:" },
	{ "image_token_id", "500", "image_token_id: expected an integer from 0 to 499" },
	{ "vision_start_token_id", "-1", "vision_start_token_id:" },
	{ "vision_end_token_id", "500", "vision_end_token_id:" },
	{ "eos_token_id", "[403]", "eos_token_id: expected an integer" },
	{ "v.depth", "0", "vision_config.depth:" },
	{ "v.depth", "257", "from 1 to 256, found 257" },
	{ "v.hidden_act", "\"quick_gelu\"", "vision_config.hidden_act: expected \"silu\"" },
	{ "v.hidden_size", "0", "vision_config.hidden_size:" },
	{ "v.intermediate_size", "-1", "vision_config.intermediate_size:" },
	{ "v.num_heads", "3", "expected a divisor of hidden_size 32, found 3" },
	{ "v.num_heads", "16", "to be a multiple of 4, found 16" },
	{ "v.in_chans", "0", "vision_config.in_chans:" },
	{ "v.patch_size", "0", "vision_config.patch_size:" },
	{ "v.temporal_patch_size", "17", "vision_config.temporal_patch_size:" },
	{ "v.spatial_merge_size", "0", "vision_config.spatial_merge_size:" },
	{ "v.window_size", "0", "vision_config.window_size:" },
	{ "v.window_size", "113", "a multiple of spatial_merge_size * patch_size = 28" },
	{ "v.out_hidden_size", "65", "expected the text model's hidden_size 64, found 65" },
	{ "v.fullatt_block_indexes", "1", "expected an array" },
	{ "v.fullatt_block_indexes", "[2]",
	  "fullatt_block_indexes[0]: expected a block from 0 to 1" },
	{ "v.fullatt_block_indexes", "[-1]", "expected a block from 0 to 1" },
	{ "v.fullatt_block_indexes", "[0, 0.5]", "fullatt_block_indexes[1]:" },
	{ "v.fullatt_block_indexes", "[1e300]", "expected a block from 0 to 1" },
	{ "v.fullatt_block_indexes", "[\"1\"]", "expected a block from 0 to 1" },
	{ "hidden_size", NULL, ":1:1: lacks the field \"hidden_size\"" },
	{ "rope_theta", NULL, "lacks the field \"rope_theta\"" },
	{ "rope_scaling", NULL, ":1:1: lacks rope_scaling or rope_parameters" },
	{ "model_type", NULL, ":1:1: lacks the field \"model_type\"" },
	{ "eos_token_id", NULL, ":1:1: lacks the field \"eos_token_id\"" },
	{ "v.window_size", NULL, "vision_config: lacks the field \"window_size\"" },
	{ "v.in_chans", NULL, "vision_config: lacks the field \"in_chans\"" },
	{ "v.fullatt_block_indexes", NULL, "lacks the field \"fullatt_block_indexes\"" },
};

static void refuses_absurd_values(void **state)
{
	struct model_config c;
	error err;
	char *valid = config_with("nothing", NULL);
	load_text(&c, *state, valid);
	free(valid);
	for (size_t i = 0; i < sizeof absurd / sizeof *absurd; i++) {
		char line[16] = "", *json = config_with(absurd[i].field, absurd[i].value);
		assert_true(temp_folder_write(*state, "config.json", json, strlen(json), &err));
		if (absurd[i].value)
			line_of(json, absurd[i].field, line);
		free(json);
		if (model_config_load(&c, *state, &err))
			fail_msg("accepted %s: %s", absurd[i].field, absurd[i].value);
		expect_error(&err, EXIT_BAD_INPUT, *state, "/config.json:", line,
		             absurd[i].message, NULL);
	}
}

static void refuses_broken_files(void **state)
{
	static const struct {
		const char *json, *message;
	} cases[] = {
		{ "", "config.json:1:1: expected a value" },
		{ "[]", "config.json:1:1: expected an object, found an array" },
		{ "{}", "config.json:1:1: lacks the field \"model_type\"" },
		{ "{\"model_type\":\"qwen2_5_vl\"}", "lacks the field \"vision_config\"" },
		{ "{\"model_type\":\"qwen2_5_vl\",\"vision_config\":[]}",
		  "vision_config: expected an object" },
		{ "{\"model_type\":\"qwen2_5_vl\",\"vision_config\":{},\"text_config\":4}",
		  "config.json:1:47: text_config: expected an object, found 4" },
		{ "{\"model_type\":\"qwen2_5_vl\",\n\"model_type\":\"qwen2_5_vl\"}",
		  "config.json:2:1: the key \"model_type\" is there twice" },
		{ "{\"rms_norm_eps\":1e400}", "config.json:1:17: the number 1e400" },
		{ "{\"model_type\":\"qwen\xff\"}", "config.json:1:20: invalid UTF-8" },
		{ "{\"model_type\":\"qwen2_5_vl\",}", "config.json:1:28: expected a key" },
	};
	struct model_config c;
	error err;
	assert_false(model_config_load(&c, *state, &err));
	expect_error(&err, EXIT_BAD_INPUT, "config.json: cannot open", NULL);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_true(temp_folder_write(*state, "config.json", cases[i].json,
		                              strlen(cases[i].json), &err));
		assert_false(model_config_load(&c, *state, &err));
		expect_error(&err, EXIT_BAD_INPUT, *state, cases[i].message, NULL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_the_demo),
		cmocka_unit_test_setup_teardown(reads_the_released_configs, set_up, tear_down),
		cmocka_unit_test_setup_teardown(reads_other_forms, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refuses_absurd_values, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refuses_broken_files, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
