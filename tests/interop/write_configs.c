/* write_configs: the quantization configs of schemes that no small model has.
 *
 * Names are where readers go wrong ("model.layers.1" is the beginning of
 * "model.layers.10"), and only names with two digits show it. So this words configs for
 * the layer counts of the 3B and the 7B, for picked and for random decisions:
 *
 *   write_configs FOLDER
 *
 * makes FOLDER/<shape>_<pattern>/<profile>/{config,hf_quant_config,decisions}.json;
 * decisions.json says of every linear, by quern's name, whether it is in FP8. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/artifact/publish.h"
#include "lib/base/json_tree.h"
#include "lib/checkpoint/fused.h"
#include "lib/checkpoint/profile.h"
#include "lib/model/linears.h"
#include "lib/quant/formats/format.h"

enum { RANDOM_PATTERNS = 4 };

struct shape {
	const char *name;
	int layers, blocks;
	bool tied_head;
};

static const struct shape SHAPES[] = {
	{ "3b", 36, 32, true },
	{ "7b", 28, 32, false },
};

/* Which linears a pattern keeps in FP8. */
typedef bool chooser(const char *module, uint32_t *random);

static bool in_number_one(const char *module)
{
	return strncmp(module, "language_model.layers.1.", 24) == 0 ||
	       strncmp(module, "visual.blocks.3.", 16) == 0;
}

static bool all_but_one(const char *module, uint32_t *random)
{
	(void)random;
	return !in_number_one(module);
}

static bool only_one(const char *module, uint32_t *random)
{
	(void)random;
	return in_number_one(module);
}

static bool everything(const char *module, uint32_t *random)
{
	(void)module, (void)random;
	return true;
}

static bool text_only(const char *module, uint32_t *random)
{
	(void)random;
	return strncmp(module, "visual.", 7) != 0;
}

static bool half_of_all(const char *module, uint32_t *random)
{
	(void)module;
	*random = *random * 1664525u + 1013904223u; /* Numerical Recipes' generator */
	return *random >> 31;
}

static const struct pattern {
	const char *name;
	chooser *choose;
} PATTERNS[] = {
	{ "all_but_one", all_but_one }, { "only_one", only_one },
	{ "everything", everything }, { "text_only", text_only },
	{ "random", half_of_all },
};

/* Members of a fused layer follow each other and go together. */
static void decide(struct module_decision *modules, const struct linear_shape *linears,
                   int count, chooser *choose, uint32_t random)
{
	for (int i = 0; i < count; i++) {
		const char *name = linears[i].name;
		bool served = strcmp(name, "lm_head") != 0 &&
		              strcmp(name, "visual.patch_embed.proj") != 0;
		modules[i].name = name;
		modules[i].form = &format_find("fp8_e4m3", "tensor")->form;
		if (i > 0 && modules_fuse(linears[i - 1].name, name))
			modules[i].quantised = modules[i - 1].quantised;
		else
			modules[i].quantised = served && choose(name, &random);
	}
}

static bool write_part(const char *folder, const char *name, const text *content,
                       error *err)
{
	char path[PATH_BYTES];
	return text_ok(content, err) && join_path(path, sizeof path, folder, name, err) &&
	       write_file(path, content->data, content->length, err);
}

static bool print_decisions(const struct module_decision *modules, int count, text *out,
                            error *err)
{
	struct json_tree tree = tree_new();
	for (int i = 0; i < count; i++)
		tree_boolean(&tree, tree.root, modules[i].name, modules[i].quantised);
	return tree_finish(&tree, out, err);
}

static bool write_profile(const char *folder, enum profile profile,
                          const struct module_decision *modules, int count, error *err)
{
	static const char base[] = "{\n  \"model_type\": \"qwen2_5_vl\"\n}\n";
	char path[PATH_BYTES];
	text config = { 0 }, hf_quant_config = { 0 }, decisions = { 0 };
	json_doc doc;
	if (!join_path(path, sizeof path, folder, profile_name(profile), err) ||
	    !make_folders(path, err) ||
	    !json_parse(&doc, "base config", base, sizeof base - 1, err))
		return false;
	bool ok = print_config(profile, &doc, modules, count, false, &config, err) &&
	          print_hf_quant_config(modules, count, false, &hf_quant_config, err) &&
	          print_decisions(modules, count, &decisions, err) &&
	          write_part(path, "config.json", &config, err) &&
	          write_part(path, "hf_quant_config.json", &hf_quant_config, err) &&
	          write_part(path, "decisions.json", &decisions, err);
	json_free(&doc);
	text_free(&config);
	text_free(&hf_quant_config);
	text_free(&decisions);
	return ok;
}

static bool write_pattern(const char *folder, const struct shape *shape,
                          const struct pattern *pattern, int number,
                          const struct linear_shape *linears, int count, error *err)
{
	char name[64], path[PATH_BYTES];
	struct module_decision *modules = calloc((size_t)count, sizeof *modules);
	if (!modules)
		return fail_memory(err, "decisions", (size_t)count * sizeof *modules);
	decide(modules, linears, count, pattern->choose, (uint32_t)number);
	snprintf(name, sizeof name, "%s_%s_%d", shape->name, pattern->name, number);
	bool ok = join_path(path, sizeof path, folder, name, err) &&
	          write_profile(path, PROFILE_UNIVERSAL, modules, count, err) &&
	          write_profile(path, PROFILE_MODELOPT, modules, count, err);
	free(modules);
	return ok;
}

static bool write_shape(const char *folder, const struct shape *shape, error *err)
{
	struct model_config config = { 0 };
	struct linear_shape *linears;
	arena memory = { 0 };
	int count;
	config.vision = (struct vision_config){ .depth = shape->blocks, .hidden = 16,
		.intermediate = 16, .heads = 1, .head_dim = 16, .channels = 3, .patch = 14,
		.temporal_patch = 2, .patch_values = 1176, .merge = 2, .window = 112,
		.out_hidden = 16 };
	config.text = (struct text_config){ .layers = shape->layers, .hidden = 16,
		.intermediate = 16, .heads = 1, .kv_heads = 1, .head_dim = 16, .vocab = 16,
		.tied_head = shape->tied_head };
	bool ok = list_linears(&config, &memory, &linears, &count, err);
	for (size_t p = 0; ok && p < sizeof PATTERNS / sizeof *PATTERNS; p++) {
		int times = PATTERNS[p].choose == half_of_all ? RANDOM_PATTERNS : 1;
		for (int n = 0; ok && n < times; n++)
			ok = write_pattern(folder, shape, &PATTERNS[p], n, linears, count, err);
	}
	arena_free(&memory);
	return ok;
}

int main(int argc, char **argv)
{
	error err;
	if (argc != 2) {
		fprintf(stderr, "usage: write_configs FOLDER\n");
		return EXIT_USAGE;
	}
	for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
		if (!write_shape(argv[1], &SHAPES[i], &err))
			return error_report("write_configs", &err);
	return EXIT_OK;
}
