/* The three spellings of module names. */
#include "lib/checkpoint/names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct {
	const char *quern, *hub, *memory; /* of the same module */
} modules[] = {
	{ "visual.blocks.7.attn.qkv", "visual.blocks.7.attn.qkv",
	  "model.visual.blocks.7.attn.qkv" },
	{ "visual", "visual", "model.visual" },
	{ "language_model.layers.11.self_attn.q_proj", "model.layers.11.self_attn.q_proj",
	  "model.language_model.layers.11.self_attn.q_proj" },
	{ "language_model.embed_tokens", "model.embed_tokens",
	  "model.language_model.embed_tokens" },
	{ "language_model.norm.weight", "model.norm.weight",
	  "model.language_model.norm.weight" },
	{ "language_model", "model", "model.language_model" },
	{ "lm_head", "lm_head", "lm_head" },
	{ "lm_head.weight", "lm_head.weight", "lm_head.weight" },
	/* Only whole components count. */
	{ "visuals.x", "visuals.x", "visuals.x" },
	{ "language_models.x", "language_models.x", "language_models.x" },
	{ "language_model.visuals.x", "model.visuals.x", "model.visuals.x" },
	{ "", "", "" },
};

static void spells_names(void **state)
{
	(void)state;
	char out[NAME_BYTES];
	for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) {
		name_to_hub(modules[i].quern, out);
		assert_string_equal(out, modules[i].hub);
		name_from_any(modules[i].quern, out);
		assert_string_equal(out, modules[i].quern);
		name_from_any(modules[i].hub, out);
		assert_string_equal(out, modules[i].quern);
		name_from_any(modules[i].memory, out);
		assert_string_equal(out, modules[i].quern);
	}
}

static void keeps_long_names_in_bounds(void **state)
{
	(void)state;
	char name[2 * NAME_BYTES], out[NAME_BYTES];
	memset(name, 'a', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	memcpy(name, "model.", 6);
	name_from_any(name, out);
	assert_int_equal(strlen(out), NAME_BYTES - 1);
	assert_memory_equal(out, "language_model.aaa", 18);
	name_to_hub(name, out);
	assert_int_equal(strlen(out), NAME_BYTES - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spells_names),
		cmocka_unit_test(keeps_long_names_in_bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
