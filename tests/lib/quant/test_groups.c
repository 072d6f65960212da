/* Groups of the demo model and of the released 3B and 7B: how many, in which order,
 * under which names; what exclusion does; finding one by any of its spellings. */
#include "lib/quant/groups.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/json.h"
#include "tests/support/shared_config.h"
#include "tests/support/shared_data.h"

#include <cmocka.h>

#define DEMO_MODEL "demo/tiny-qwen2_5-vl"
#define REAL_BASELINE \
	"fixtures/baseline-real/fp8_autoquant_all_layers_fp8_quant_manifest.json"

enum { MAX_BASELINE_BYTES = 64 << 20 };

static const char *const HEAD[] = { "lm_head" };

/* A model's linears and groups. */
struct grouped {
	struct linear_shape *linears;
	int linear_count;
	struct group_list list;
	arena memory;
};

static void group(struct grouped *g, const struct model_config *config,
                  const char *const *exclude, int exclude_count)
{
	error err;
	*g = (struct grouped){ 0 };
	if (!list_linears(config, &g->memory, &g->linears, &g->linear_count, &err) ||
	    !make_groups(g->linears, g->linear_count, exclude, exclude_count, &g->memory,
	                 &g->list, &err))
		fail_msg("%s", err.text);
}

static void group_demo(struct grouped *g, const char *const *exclude, int exclude_count)
{
	struct model_config config;
	error err;
	if (!model_config_load(&config, DEMO_MODEL, &err))
		fail_msg("%s", err.text);
	group(g, &config, exclude, exclude_count);
}

static int count_members(const struct grouped *g)
{
	int count = 0;
	for (int i = 0; i < g->list.count; i++)
		count += g->list.groups[i].member_count;
	return count;
}

/* Every linear is in at most one group, members are in module order, and a group's
 * name and weights are its members'. */
static void check_members(const struct grouped *g)
{
	int last = -1;
	for (int i = 0; i < g->list.count; i++) {
		const struct group *group = &g->list.groups[i];
		char name[NAME_BYTES + 16];
		int64_t weights = 0;
		assert_in_range(group->member_count, 1, MAX_MEMBERS);
		snprintf(name, sizeof name, "%s.quant_recipe",
		         g->linears[group->members[0]].name);
		assert_string_equal(group->name, name);
		for (int m = 0; m < group->member_count; m++) {
			const struct linear_shape *linear = &g->linears[group->members[m]];
			assert_true(group->members[m] > last);
			last = group->members[m];
			weights += (int64_t)linear->out * linear->in;
		}
		assert_int_equal(group->weights, weights);
	}
}

/* 1 patch convolution, 4 a vision block, 2 in the merger, 4 a text layer. */
static void check_released(const char *name, const char *test, int groups, int linears)
{
	struct model_config config;
	struct grouped g;
	if (!find_shared_config(&config, name, test))
		skip();
	group(&g, &config, HEAD, 1);
	assert_int_equal(g.list.count, groups);
	assert_int_equal(g.list.count, 3 + 4 * config.vision.depth + 4 * config.text.layers);
	assert_int_equal(g.linear_count, linears + 2); /* the patch convolution, the head */
	assert_int_equal(count_members(&g), linears + 1);
	check_members(&g);
	arena_free(&g.memory);
	group(&g, &config, NULL, 0);
	assert_int_equal(g.list.count, groups + 1);
	assert_string_equal(g.list.groups[groups].name, "lm_head.quant_recipe");
	assert_int_equal(g.list.groups[groups].kind, KIND_HEAD);
	arena_free(&g.memory);
	group(&g, &config, (const char *const[]){ "lm_head", "*router*", "visual.*" }, 3);
	assert_int_equal(g.list.count, 4 * config.text.layers);
	arena_free(&g.memory);
}

static void groups_of_the_3b(void **state)
{
	(void)state;
	check_released("qwen2_5_vl_3b", "groups_of_the_3b", 275, 414);
}

static void groups_of_the_7b(void **state)
{
	(void)state;
	check_released("qwen2_5_vl_7b", "groups_of_the_7b", 243, 358);
}

/* The real manifest lists the 3B's groups in module order with weights * bits/16. */
static void agrees_with_a_real_manifest(void **state)
{
	(void)state;
	struct model_config config;
	struct grouped g;
	json_doc doc;
	char path[PATH_BYTES];
	error err;
	if (!find_shared(path, REAL_BASELINE, "agrees_with_a_real_manifest") ||
	    !find_shared_config(&config, "qwen2_5_vl_3b", "agrees_with_a_real_manifest"))
		skip();
	if (!json_load(&doc, path, MAX_BASELINE_BYTES, &err))
		fail_msg("%s", err.text);
	group(&g, &config, HEAD, 1);
	int i = 0, layers = 0;
	const cJSON *entry;
	cJSON_ArrayForEach(entry, cJSON_GetObjectItem(doc.root, "layer_sensitivity")) {
		const cJSON *costs = cJSON_GetObjectItem(entry, "costs");
		assert_true(i < g.list.count);
		assert_string_equal(entry->string, g.list.groups[i].name);
		assert_true(costs->child->valuedouble == (double)g.list.groups[i].weights / 2);
		i++;
	}
	assert_int_equal(i, g.list.count);
	/* Its layers are the linears but the convolution and the head, in our order. */
	cJSON_ArrayForEach(entry, cJSON_GetObjectItem(doc.root, "layers"))
		assert_string_equal(entry->string, g.linears[++layers].name);
	assert_int_equal(layers, g.linear_count - 2);
	arena_free(&g.memory);
	json_free(&doc);
}

/* ---- the demo ---- */

struct expected_group {
	const char *name;
	int members;
	enum group_kind kind;
	int block;
	bool vision, exportable;
};

static const struct expected_group DEMO_START[] = {
	{ "visual.patch_embed.proj", 1, KIND_PATCH_EMBED, -1, true, false },
	{ "visual.blocks.0.attn.qkv", 1, KIND_QKV, 0, true, true },
	{ "visual.blocks.0.attn.proj", 1, KIND_O, 0, true, true },
	{ "visual.blocks.0.mlp.gate_proj", 2, KIND_GATE_UP, 0, true, true },
	{ "visual.blocks.0.mlp.down_proj", 1, KIND_DOWN, 0, true, true },
	{ "visual.blocks.1.attn.qkv", 1, KIND_QKV, 1, true, true },
};

static const struct expected_group DEMO_TEXT[] = {
	{ "visual.merger.mlp.0", 1, KIND_MERGER, -1, true, true },
	{ "visual.merger.mlp.2", 1, KIND_MERGER, -1, true, true },
	{ "language_model.layers.0.self_attn.q_proj", 3, KIND_QKV, 0, false, true },
	{ "language_model.layers.0.self_attn.o_proj", 1, KIND_O, 0, false, true },
	{ "language_model.layers.0.mlp.gate_proj", 2, KIND_GATE_UP, 0, false, true },
	{ "language_model.layers.0.mlp.down_proj", 1, KIND_DOWN, 0, false, true },
	{ "language_model.layers.1.self_attn.q_proj", 3, KIND_QKV, 1, false, true },
};

static void check_group(const struct group *found, const struct expected_group *e)
{
	char name[NAME_BYTES + 16];
	snprintf(name, sizeof name, "%s.quant_recipe", e->name);
	assert_string_equal(found->name, name);
	assert_int_equal(found->member_count, e->members);
	assert_int_equal(found->kind, e->kind);
	assert_int_equal(found->block, e->block);
	assert_int_equal(found->vision, e->vision);
	assert_int_equal(found->exportable, e->exportable);
}

static void describes_the_demo(void **state)
{
	(void)state;
	struct grouped g;
	group_demo(&g, HEAD, 1);
	check_members(&g);
	for (size_t i = 0; i < sizeof DEMO_START / sizeof *DEMO_START; i++)
		check_group(&g.list.groups[i], &DEMO_START[i]);
	int merger = 0;
	while (g.list.groups[merger].kind != KIND_MERGER)
		merger++;
	for (size_t i = 0; i < sizeof DEMO_TEXT / sizeof *DEMO_TEXT; i++)
		check_group(&g.list.groups[merger + (int)i], &DEMO_TEXT[i]);
	assert_int_equal(g.list.count, 43); /* its golden numbers have these and the head */
	arena_free(&g.memory);
}

/* ---- exclusion ---- */

static void an_excluded_member_takes_its_group_along(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
		{ "*.k_proj", "self_attn.q_proj" },
		{ "language_model.layers.?.self_attn.v_proj", "self_attn.q_proj" },
		{ "*up_proj", "gate_proj" },
		{ "visual.blocks.[0-9].mlp.up_proj", "visual.blocks.0.mlp.gate_proj" },
		{ "*patch_embed*", "patch_embed" },
	};
	struct grouped all;
	group_demo(&all, NULL, 0);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct grouped g;
		group_demo(&g, &cases[i][0], 1);
		check_members(&g);
		assert_true(g.list.count < all.list.count);
		for (int n = 0; n < g.list.count; n++)
			assert_null(strstr(g.list.groups[n].name, cases[i][1]));
		arena_free(&g.memory);
	}
	arena_free(&all.memory);
}

/* A glob matches a whole name, the linear's own, without ".quant_recipe". */
static void globs_match_whole_names_of_linears(void **state)
{
	(void)state;
	static const char *const missing[] = { "language_model", "q_proj", "layers.0",
		"lm_head.quant_recipe", "model.layers.*", "LM_HEAD", "", "[" };
	struct grouped all, g;
	group_demo(&all, NULL, 0);
	for (size_t i = 0; i < sizeof missing / sizeof *missing; i++) {
		group_demo(&g, &missing[i], 1);
		assert_int_equal(g.list.count, all.list.count);
		arena_free(&g.memory);
	}
	group_demo(&g, (const char *const[]){ "*" }, 1);
	assert_int_equal(g.list.count, 0);
	arena_free(&g.memory);
	arena_free(&all.memory);
}

/* ---- finding ---- */

static void expect_found(const struct grouped *g, const char *name, const char *found)
{
	const struct group *group = find_group(&g->list, name);
	if (!group)
		fail_msg("no group found under %s", name);
	assert_memory_equal(group->name, found, strlen(found));
	assert_string_equal(group->name + strlen(found), ".quant_recipe");
}

static void finds_any_spelling(void **state)
{
	(void)state;
	static const char *const q = "language_model.layers.1.self_attn.q_proj";
	static const char *const qkv = "visual.blocks.2.attn.qkv";
	struct grouped g;
	group_demo(&g, NULL, 0);
	expect_found(&g, q, q);
	expect_found(&g, "language_model.layers.1.self_attn.q_proj.quant_recipe", q);
	expect_found(&g, "model.layers.1.self_attn.q_proj", q);
	expect_found(&g, "model.layers.1.self_attn.q_proj.quant_recipe", q);
	expect_found(&g, "model.language_model.layers.1.self_attn.q_proj.quant_recipe", q);
	expect_found(&g, qkv, qkv);
	expect_found(&g, "model.visual.blocks.2.attn.qkv.quant_recipe", qkv);
	expect_found(&g, "lm_head", "lm_head");
	expect_found(&g, "lm_head.quant_recipe", "lm_head");
	arena_free(&g.memory);
}

static void finds_nothing_else(void **state)
{
	(void)state;
	static const char *const names[] = { "", ".quant_recipe", "lm_hea", "lm_head.",
		"language_model.layers.1.self_attn.k_proj", /* a member, no group's name */
		"language_model.layers.1.self_attn.q_proj.weight",
		"language_model.layers.1.self_attn.q_pro",
		"language_model.layers.1", "layers.1.self_attn.q_proj",
		"language_model.layers.1.self_attn.q_proj.quant_recipe.quant_recipe" };
	struct grouped g;
	group_demo(&g, NULL, 0);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (find_group(&g.list, names[i]))
			fail_msg("found a group under \"%s\"", names[i]);
	char longest[4 * NAME_BYTES];
	memset(longest, 'x', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	assert_null(find_group(&g.list, longest));
	arena_free(&g.memory);
}

static void tells_what_can_be_exported(void **state)
{
	(void)state;
	assert_false(group_exportable("visual.patch_embed.proj.quant_recipe"));
	assert_false(group_exportable("model.visual.patch_embed.proj"));
	assert_true(group_exportable("visual.blocks.0.attn.qkv.quant_recipe"));
	assert_true(group_exportable("lm_head"));
	for (int kind = 0; kind < KIND_COUNT; kind++)
		assert_non_null(group_kind_name((enum group_kind)kind));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(groups_of_the_3b),
		cmocka_unit_test(groups_of_the_7b),
		cmocka_unit_test(agrees_with_a_real_manifest),
		cmocka_unit_test(describes_the_demo),
		cmocka_unit_test(an_excluded_member_takes_its_group_along),
		cmocka_unit_test(globs_match_whole_names_of_linears),
		cmocka_unit_test(finds_any_spelling),
		cmocka_unit_test(finds_nothing_else),
		cmocka_unit_test(tells_what_can_be_exported),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
