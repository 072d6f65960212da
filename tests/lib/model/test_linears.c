/* The linears a configuration implies, against what checkpoints really hold: the demo's
 * tensors, and the released 7B's list of them. Stored values as float32. */
#include "lib/model/linears.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/checkpoint/safetensors.h"
#include "lib/model/expand.h"
#include "lib/model/qwen.h"
#include "tests/support/shared_config.h"
#include "tests/support/shared_data.h"

#include <cmocka.h>

#define DEMO_MODEL "demo/tiny-qwen2_5-vl"
#define INDEX "fixtures/configs/qwen2_5_vl_7b.model.safetensors.index.json"

enum { MAX_INDEX_BYTES = 1 << 24 };

static void hub_tensor(const struct linear_shape *linear, const char *part,
                       char out[NAME_BYTES + 8])
{
	char hub[NAME_BYTES];
	name_to_hub(linear->name, hub);
	snprintf(out, NAME_BYTES + 8, "%s.%s", hub, part);
}

static bool is_norm_or_embedding(const char *tensor)
{
	return strstr(tensor, "norm") || strstr(tensor, "embed_tokens") ||
	       strstr(tensor, "ln_q");
}

/* Every linear is there with the shape and the bias it should have, and every tensor
 * that is no norm and no embedding is a linear's. */
static void the_demo_has_them_all(void **state)
{
	(void)state;
	struct model_config config;
	struct linear_shape *linears;
	struct checkpoint ckpt;
	arena memory = { 0 };
	size_t explained = 0;
	int count = 0;
	error err;
	if (!model_config_load(&config, DEMO_MODEL, &err) ||
	    !checkpoint_open(&ckpt, DEMO_MODEL, &err) ||
	    !list_linears(&config, &memory, &linears, &count, &err))
		fail_msg("%s", err.text);
	assert_true(config.text.tied_head);
	for (int i = 0; i < count - 1; i++) {
		char name[NAME_BYTES + 8];
		hub_tensor(&linears[i], "weight", name);
		const struct tensor *weight = checkpoint_find(&ckpt, name);
		assert_non_null(weight);
		assert_int_equal(weight->shape[0], linears[i].out);
		assert_int_equal(weight->elements, (int64_t)linears[i].out * linears[i].in);
		hub_tensor(&linears[i], "bias", name);
		const struct tensor *bias = checkpoint_find(&ckpt, name);
		assert_int_equal(bias != NULL, linears[i].bias);
		assert_true(!bias || bias->elements == linears[i].out);
		explained += 1 + linears[i].bias;
	}
	assert_string_equal(linears[count - 1].name, "lm_head");
	assert_int_equal(linears[count - 1].out, config.text.vocab);
	for (size_t i = 0; i < ckpt.count; i++)
		explained += is_norm_or_embedding(ckpt.by_name[i]->name);
	assert_int_equal(explained, ckpt.count);
	arena_free(&memory);
	checkpoint_close(&ckpt);
}

static void the_7b_has_them_all(void **state)
{
	(void)state;
	struct model_config config;
	struct linear_shape *linears;
	json_doc doc;
	arena memory = { 0 };
	char path[PATH_BYTES];
	int count = 0, explained = 0;
	error err;
	if (!find_shared_config(&config, "qwen2_5_vl_7b", "the_7b_has_them_all") ||
	    !find_shared(path, INDEX, "the_7b_has_them_all"))
		skip();
	if (!json_load(&doc, path, MAX_INDEX_BYTES, &err) ||
	    !list_linears(&config, &memory, &linears, &count, &err))
		fail_msg("%s", err.text);
	const cJSON *map = cJSON_GetObjectItem(doc.root, "weight_map"), *item;
	for (int i = 0; i < count; i++) {
		char name[NAME_BYTES + 8];
		hub_tensor(&linears[i], "weight", name);
		if (!cJSON_GetObjectItemCaseSensitive(map, name))
			fail_msg("the released 7B lacks %s", name);
		hub_tensor(&linears[i], "bias", name);
		assert_int_equal(cJSON_GetObjectItemCaseSensitive(map, name) != NULL,
		                 linears[i].bias);
		explained += 1 + linears[i].bias;
	}
	cJSON_ArrayForEach(item, map)
		explained += is_norm_or_embedding(item->string);
	assert_int_equal(explained, cJSON_GetArraySize(map));
	arena_free(&memory);
	json_free(&doc);
}

static void shapes_of_the_3b(void **state)
{
	(void)state;
	static const struct linear_shape expected[] = {
		{ "visual.patch_embed.proj", 1280, 1176, false },
		{ "visual.blocks.31.attn.qkv", 3840, 1280, true },
		{ "visual.blocks.0.mlp.down_proj", 1280, 3420, true },
		{ "visual.merger.mlp.0", 5120, 5120, true },
		{ "visual.merger.mlp.2", 2048, 5120, true },
		{ "language_model.layers.35.self_attn.q_proj", 2048, 2048, true },
		{ "language_model.layers.0.self_attn.k_proj", 256, 2048, true },
		{ "language_model.layers.0.self_attn.o_proj", 2048, 2048, false },
		{ "language_model.layers.0.mlp.down_proj", 2048, 11008, false },
		{ "lm_head", 151936, 2048, false },
	};
	struct model_config config;
	struct linear_shape *linears;
	arena memory = { 0 };
	int count = 0;
	error err;
	if (!find_shared_config(&config, "qwen2_5_vl_3b", "shapes_of_the_3b"))
		skip();
	if (!list_linears(&config, &memory, &linears, &count, &err))
		fail_msg("%s", err.text);
	for (size_t e = 0; e < sizeof expected / sizeof *expected; e++) {
		int i = 0;
		while (i < count && strcmp(linears[i].name, expected[e].name) != 0)
			i++;
		assert_true(i < count);
		assert_int_equal(linears[i].out, expected[e].out);
		assert_int_equal(linears[i].in, expected[e].in);
		assert_int_equal(linears[i].bias, expected[e].bias);
	}
	arena_free(&memory);
}

/* ---- stored values ---- */

static void expands_what_weights_are_stored_as(void **state)
{
	(void)state;
	static const uint8_t bf16[] = { 0x80, 0x3F, 0x00, 0xC0, 0x01, 0x00 };
	static const uint8_t f16[] = { 0x00, 0x3C, 0x00, 0xC0, 0x01, 0x00 };
	const float f32[] = { 1, -2, 0x1p-149f };
	float out[3];
	expand_values(out, DTYPE_BF16, bf16, 3);
	assert_true(out[0] == 1 && out[1] == -2 && out[2] == 0x1p-133f);
	expand_values(out, DTYPE_F16, f16, 3);
	assert_true(out[0] == 1 && out[1] == -2 && out[2] == 0x1p-24f);
	expand_values(out, DTYPE_F32, f32, 3);
	assert_memory_equal(out, f32, sizeof f32);
	for (int d = 0; d < DTYPE_COUNT; d++)
		assert_int_equal(can_expand((enum dtype)d),
		                 d == DTYPE_BF16 || d == DTYPE_F16 || d == DTYPE_F32);
}

static void a_weight_is_resident_or_expanded(void **state)
{
	(void)state;
	static const uint8_t bf16[] = { 0x80, 0x3F, 0x00, 0xC0 };
	const struct tensor t = { .dtype = DTYPE_BF16, .data = bf16, .elements = 2 };
	const float resident[2] = { 7, 8 };
	struct linear l = { .tensor = &t, .out = 1, .in = 2, .weight = resident };
	float scratch[2] = { 0 };
	assert_ptr_equal(linear_weight(&l, scratch), resident);
	assert_true(scratch[0] == 0);
	l.weight = NULL;
	assert_ptr_equal(linear_weight(&l, scratch), scratch);
	assert_true(scratch[0] == 1 && scratch[1] == -2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_demo_has_them_all),
		cmocka_unit_test(the_7b_has_them_all),
		cmocka_unit_test(shapes_of_the_3b),
		cmocka_unit_test(expands_what_weights_are_stored_as),
		cmocka_unit_test(a_weight_is_resident_or_expanded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
