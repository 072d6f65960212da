/* The random checkpoints that other tests build on: real ones in every respect
 * but their values. */
#include "tests/support/random_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/json.h"
#include "lib/checkpoint/safetensors.h"
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

/* Writes m and opens what was written, its config being what was asked for. */
static void write_and_open(struct random_model *m, const char *folder,
                           struct checkpoint *ckpt)
{
	struct model_config found;
	error err;
	if (!random_model_write(m, folder, &err) || !checkpoint_open(ckpt, folder, &err) ||
	    !model_config_load(&found, folder, &err))
		fail_msg("%s", err.text);
	assert_memory_equal(&found.vision, &m->config.vision, sizeof found.vision);
	assert_int_equal(found.text.mrope_section[0], m->config.text.mrope_section[0]);
	assert_int_equal(found.text.head_dim, m->config.text.head_dim);
	assert_int_equal(found.text.kv_heads, m->config.text.kv_heads);
	assert_int_equal(found.text.vocab, m->config.text.vocab);
	assert_true(found.text.rms_eps == m->config.text.rms_eps);
	assert_true(found.text.rope_theta == m->config.text.rope_theta);
	assert_int_equal(found.text.tied_head, m->config.text.tied_head);
	assert_int_equal(found.image_token, m->config.image_token);
	assert_int_equal(found.end_of_turn_token, m->config.end_of_turn_token);
}

static float value_of(const struct tensor *t, int64_t i)
{
	uint16_t half;
	memcpy(&half, (const char *)t->data + 2 * i, sizeof half);
	uint32_t bits = (uint32_t)half << 16;
	float value;
	memcpy(&value, &bits, sizeof value);
	return value;
}

static void expect_moments(const struct checkpoint *ckpt, const char *name, double mean,
                           double deviation)
{
	const struct tensor *t = checkpoint_find(ckpt, name);
	double sum = 0, squares = 0;
	assert_non_null(t);
	for (int64_t i = 0; i < t->elements; i++) {
		double value = value_of(t, i);
		sum += value;
		squares += (value - mean) * (value - mean);
	}
	double n = (double)t->elements;
	/* Four standard errors of either figure. */
	assert_true(fabs(sum / n - mean) < 4 * deviation / sqrt(n));
	assert_true(fabs(sqrt(squares / n) / deviation - 1) < 4 / sqrt(2 * n));
}

static void writes_a_tiny_model(void **state)
{
	struct random_model m = random_model_tiny();
	struct checkpoint ckpt;
	char path[PATH_BYTES];
	error err;
	write_and_open(&m, *state, &ckpt);
	assert_int_equal(ckpt.file_count, 1);
	/* 12 tensors a vision block, 12 a text layer, patch_embed, merger 5,
	 * embedding, last norm. */
	assert_int_equal(ckpt.count, 2 * 12 + 2 * 12 + 1 + 5 + 2);
	assert_null(checkpoint_find(&ckpt, "lm_head.weight"));
	expect_moments(&ckpt, "model.embed_tokens.weight", 0, 0.8 / sqrt(32));
	expect_moments(&ckpt, "visual.patch_embed.proj.weight", 0, 0.8 / sqrt(1176));
	expect_moments(&ckpt, "visual.blocks.1.mlp.down_proj.weight", 0, 0.8 / 6);
	expect_moments(&ckpt, "model.layers.1.self_attn.k_proj.bias", 0, 0.05);
	expect_moments(&ckpt, "model.norm.weight", 1, 0.05);
	checkpoint_close(&ckpt);
	static const char *const others[] = {
		"tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt",
		"generation_config.json", "chat_template.json", "preprocessor_config.json",
	};
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		assert_true(join_path(path, sizeof path, *state, others[i], &err));
		assert_true(file_exists(path));
	}
}

static void writes_other_shapes(void **state)
{
	struct random_model m = random_model_tiny();
	struct checkpoint ckpt;
	struct vision_config *v = &m.config.vision;
	struct text_config *t = &m.config.text;
	v->depth = 3;
	v->hidden = 36;
	v->heads = 3;
	v->intermediate = 35;
	v->patch = 7;
	v->window = 28;
	v->full_attention[0] = true;
	t->layers = 1;
	t->hidden = 60;
	t->heads = 6;
	t->kv_heads = 3;
	t->intermediate = 50;
	t->vocab = 4301;
	t->rms_eps = 1e-5f;
	t->rope_theta = 123456.5;
	t->tied_head = false;
	t->mrope_section[0] = 1;
	t->mrope_section[1] = 4;
	m.shards = 7;
	write_and_open(&m, *state, &ckpt);
	assert_int_equal(ckpt.file_count, 7);
	assert_int_equal(ckpt.count, 3 * 12 + 12 + 1 + 5 + 2 + 1);
	const struct tensor *head = checkpoint_find(&ckpt, "lm_head.weight");
	assert_non_null(head);
	assert_int_equal(head->shape[0], 4301);
	const struct tensor *k = checkpoint_find(&ckpt, "model.layers.0.self_attn.k_proj.weight");
	assert_int_equal(k->shape[0], 30);
	assert_int_equal(k->shape[1], 60);
	const struct tensor *patch = checkpoint_find(&ckpt, "visual.patch_embed.proj.weight");
	assert_int_equal(patch->elements, 36 * 3 * 2 * 7 * 7);
	checkpoint_close(&ckpt);
}

/* Equal seeds give equal tensors, whatever the shards; other seeds do not. */
static void draws_from_the_seed_alone(void **state)
{
	char folders[3][PATH_BYTES];
	struct checkpoint ckpts[3];
	error err;
	for (int i = 0; i < 3; i++) {
		struct random_model m = random_model_tiny();
		m.shards = i == 1 ? 56 : 1; /* one tensor a shard */
		m.seed = i == 2 ? 2 : 1;
		assert_true(join_path(folders[i], PATH_BYTES, *state, (char[]){ (char)('a' + i), 0 },
		                      &err));
		assert_true(make_folders(folders[i], &err));
		write_and_open(&m, folders[i], &ckpts[i]);
	}
	assert_int_equal(ckpts[1].file_count, 56);
	for (size_t n = 0; n < ckpts[0].count; n++) {
		const struct tensor *a = ckpts[0].by_name[n], *b = ckpts[1].by_name[n];
		assert_string_equal(a->name, b->name);
		assert_memory_equal(a->data, b->data, a->bytes);
		assert_memory_not_equal(a->data, ckpts[2].by_name[n]->data, a->bytes);
	}
	for (int i = 0; i < 3; i++)
		checkpoint_close(&ckpts[i]);
}

/* With the depth of the released 7B, the very names of its index. */
static void names_tensors_as_released(void **state)
{
	struct random_model m = random_model_tiny();
	struct checkpoint ckpt;
	char path[PATH_BYTES];
	json_doc doc;
	error err;
	if (!find_shared(path, "fixtures/configs/qwen2_5_vl_7b.model.safetensors.index.json",
	                 "names_tensors_as_released"))
		skip();
	m.config.vision.depth = 32;
	m.config.text.layers = 28;
	m.config.text.tied_head = false;
	write_and_open(&m, *state, &ckpt);
	assert_true(json_load(&doc, path, 1 << 20, &err));
	const cJSON *item, *map = json_object(&doc, doc.root, "weight_map", &err);
	assert_non_null(map);
	assert_int_equal(cJSON_GetArraySize(map), ckpt.count);
	cJSON_ArrayForEach(item, map) {
		if (!checkpoint_find(&ckpt, item->string))
			fail_msg("lacks %s", item->string);
	}
	json_free(&doc);
	checkpoint_close(&ckpt);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(writes_a_tiny_model, set_up, tear_down),
		cmocka_unit_test_setup_teardown(writes_other_shapes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(draws_from_the_seed_alone, set_up, tear_down),
		cmocka_unit_test_setup_teardown(names_tensors_as_released, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
