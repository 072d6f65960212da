/* Which linears belong to one matrix. */
#include "lib/checkpoint/fused.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void knows_fused_layers(void **state)
{
	(void)state;
	static const struct {
		const char *module, *fused; /* NULL: alone */
	} cases[] = {
		{ "language_model.layers.3.self_attn.q_proj", "qkv_proj" },
		{ "language_model.layers.3.self_attn.k_proj", "qkv_proj" },
		{ "language_model.layers.3.self_attn.v_proj", "qkv_proj" },
		{ "language_model.layers.3.self_attn.o_proj", NULL },
		{ "language_model.layers.3.mlp.gate_proj", "gate_up_proj" },
		{ "visual.blocks.3.mlp.up_proj", "gate_up_proj" },
		{ "visual.blocks.3.mlp.down_proj", NULL },
		{ "visual.blocks.3.attn.qkv", NULL },
		{ "visual.merger.mlp.0", NULL },
		{ "q_proj", "qkv_proj" },
		{ "lm_head", NULL },
		{ "", NULL },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const struct fused_layer *fused = fused_layer_of(cases[i].module);
		if (!cases[i].fused)
			assert_null(fused);
		else
			assert_string_equal(fused->name, cases[i].fused);
	}
}

static void fuses_within_one_layer(void **state)
{
	(void)state;
	static const struct {
		const char *a, *b;
		bool fuse;
	} cases[] = {
		{ "x.1.self_attn.q_proj", "x.1.self_attn.k_proj", true },
		{ "x.1.self_attn.q_proj", "x.1.self_attn.v_proj", true },
		{ "x.1.self_attn.q_proj", "x.1.self_attn.o_proj", false },
		{ "x.1.self_attn.q_proj", "x.2.self_attn.k_proj", false },
		{ "x.1.self_attn.q_proj", "x.11.self_attn.k_proj", false },
		{ "x.1.mlp.gate_proj", "x.1.mlp.up_proj", true },
		{ "x.1.mlp.gate_proj", "x.1.mlp.down_proj", false },
		{ "x.1.mlp.down_proj", "x.1.mlp.down_proj", false },
		{ "x.1.mlp.up_proj", "y.1.mlp.gate_proj", false },
		{ "q_proj", "k_proj", true },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(modules_fuse(cases[i].a, cases[i].b), cases[i].fuse);
		assert_int_equal(modules_fuse(cases[i].b, cases[i].a), cases[i].fuse);
	}
}

static void finds_leaves(void **state)
{
	(void)state;
	assert_string_equal(name_leaf("a.b.c"), "c");
	assert_string_equal(name_leaf("lm_head"), "lm_head");
	assert_string_equal(name_leaf("a."), "");
	assert_string_equal(name_leaf(""), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_fused_layers),
		cmocka_unit_test(fuses_within_one_layer),
		cmocka_unit_test(finds_leaves),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
