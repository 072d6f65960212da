/* Manifests: what rank writes about a baseline, what slice writes about a scheme, and
 * that both are read back as they were meant; slices of a real baseline. */
#include "lib/quant/manifest.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "tests/support/expect_error.h"
#include "tests/support/shared_config.h"
#include "tests/support/shared_data.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

#define DEMO_MODEL "demo/tiny-qwen2_5-vl"
#define REAL "fixtures/baseline-real/fp8_autoquant_all_layers_fp8_quant_manifest.json"

enum { BLOCKS = 3, MAX_JSON_BYTES = 1 << 24 };

static char folder[PATH_BYTES];

static int make(void **state)
{
	(void)state;
	error err;
	return temp_folder_make(folder, &err) ? 0 : -1;
}

static int clean(void **state)
{
	(void)state;
	temp_folder_remove(folder);
	return 0;
}

static const char *write_out(const char *name, const text *content)
{
	static char path[PATH_BYTES];
	error err;
	assert_true(temp_folder_write(folder, name, content->data, content->length, &err));
	assert_true(join_path(path, sizeof path, folder, name, &err));
	return path;
}

/* ---- a ranking of the demo with made-up scores ---- */

struct fixture {
	struct baseline_facts facts;
	struct linear_shape *linears;
	int linear_count;
	struct group_list groups;
	struct amax_table amax;
	const char *part; /* path of the scores */
	struct ranking ranking;
	arena memory;
};

/* What linear i scores in a block. */
static double score_of(int block, int linear)
{
	return sqrt((linear * 37 + block * 11) % 101 + 1) * 1e-3;
}

static void make_amax(struct fixture *f)
{
	text content = { 0 };
	error err;
	text_puts(&content, "{\"key\": \"calibration key\", \"samples\": 32, \"cut\": 1, "
	          "\"skipped\": [\"images/x.jpg\"], \"amax\": {");
	for (int i = 0; i < f->linear_count - 1; i++)
		text_printf(&content, "%s\"%s\": %d", i ? ", " : "", f->linears[i].name, i + 1);
	text_puts(&content, "}}");
	if (!amax_read(&f->amax, write_out("amax.json", &content), f->linears,
	               f->linear_count, &err))
		fail_msg("%s", err.text);
	text_free(&content);
}

/* Blocks of all linears but the head and `missing`. */
static void make_blocks(struct fixture *f, int missing)
{
	static const struct part_format format = { "FP8_ALL_LAYERS_CFG", "fp8_e4m3", "tensor" };
	text texts[BLOCKS] = { { 0 } }, part = { 0 };
	error err;
	int count = f->linear_count - 1;
	for (int b = 0; b < BLOCKS; b++) {
		struct block block = { .key = "k", .index = b, .samples = 8, .cut = b,
			.loss = 8 * 2.5 };
		block.names = arena_alloc(&f->memory, (size_t)count, sizeof *block.names, &err);
		block.values = arena_alloc(&f->memory, (size_t)count, sizeof(double), &err);
		for (int i = 0; i < count; i++) {
			if (i == missing)
				continue;
			block.names[block.count] = f->linears[i].name;
			block.values[block.count++] = score_of(b, i);
		}
		assert_true(print_block(&block, BLOCK_GRADIENT, &texts[b], &err));
	}
	assert_true(print_part(texts, BLOCKS, BLOCK_GRADIENT, &format, &part, &err));
	f->part = write_out("part.json", &part);
	for (int b = 0; b < BLOCKS; b++)
		text_free(&texts[b]);
	text_free(&part);
}

static void make_ranking(struct fixture *f)
{
	static const char *const head[] = { "lm_head" };
	struct model_config config;
	error err;
	*f = (struct fixture){ .facts = { .file_name = "the_baseline", .model_name = "tiny",
		.data_name = "scenes", .prompt = "answer", .numerics = "quern", .shared_scales = true,
		.data_stand_in = true } };
	if (!model_config_load(&config, DEMO_MODEL, &err) ||
	    !list_linears(&config, &f->memory, &f->linears, &f->linear_count, &err) ||
	    !make_groups(f->linears, f->linear_count, head, 1, &f->memory, &f->groups, &err))
		fail_msg("%s", err.text);
	make_amax(f);
	make_blocks(f, -1);
	if (!ranking_read(&f->ranking, &f->facts, f->linears, &f->groups, &f->amax, &f->part, 1,
	                  &err))
		fail_msg("%s", err.text);
}

static void free_ranking(struct fixture *f)
{
	ranking_free(&f->ranking);
	amax_free(&f->amax);
	arena_free(&f->memory);
}

static double expected_score(const struct fixture *f, int group, int block)
{
	double sum = 0;
	for (int m = 0; m < f->groups.groups[group].member_count; m++)
		sum += score_of(block, f->groups.groups[group].members[m]);
	return sum;
}

/* ---- JSON ---- */

static void parse(json_doc *doc, const char *name, const text *content)
{
	error err;
	if (!json_parse(doc, name, content->data, content->length, &err))
		fail_msg("%s", err.text);
}

/* The item that a path of fields leads to. */
static const cJSON *at(const json_doc *doc, const char *first, ...)
	__attribute__((sentinel));

static const cJSON *at(const json_doc *doc, const char *first, ...)
{
	va_list fields;
	const cJSON *item = doc->root;
	va_start(fields, first);
	for (const char *field = first; field; field = va_arg(fields, const char *)) {
		item = cJSON_GetObjectItemCaseSensitive(item, field);
		if (!item)
			fail_msg("%s lacks %s", doc->name, field);
	}
	va_end(fields);
	return item;
}

#define NUMBER(...) (at(__VA_ARGS__, NULL)->valuedouble)
#define TEXT(...) (at(__VA_ARGS__, NULL)->valuestring)

/* ---- the baseline's manifest ---- */

static void the_manifest_is_the_baseline(void **state)
{
	(void)state;
	struct fixture f;
	struct baseline b;
	text out = { 0 };
	error err;
	make_ranking(&f);
	assert_true(print_baseline_manifest(&f.ranking, &out, &err));
	if (!baseline_read(&b, write_out("m.json", &out), &err))
		fail_msg("%s", err.text);
	assert_string_equal(b.name, "the_baseline");
	assert_int_equal(b.count, f.groups.count);
	for (int g = 0; g < b.count; g++) {
		const struct scored_group *group = &b.groups[g];
		double expected = 0;
		for (int block = 0; block < BLOCKS; block++)
			expected += expected_score(&f, g, block);
		assert_string_equal(group->name, f.groups.groups[g].name);
		assert_true(fabs(group->scores[0] - expected) <= 1e-12 * expected);
		assert_true(group->scores[1] == 0);
		assert_true(group->costs[0] == (double)f.groups.groups[g].weights / 2);
		assert_true(group->costs[1] == (double)f.groups.groups[g].weights);
		assert_string_equal(group->formats[0],
		                    "FP8_ALL_LAYERS_CFG(effective-bits: 8.0)");
		assert_string_equal(group->formats[1], FORMAT_NONE);
		assert_int_equal(group->rank, f.ranking.baseline.groups[g].rank);
	}
	baseline_free(&b);
	text_free(&out);
	free_ranking(&f);
}

static void the_manifest_tells_what_it_was_made_from(void **state)
{
	(void)state;
	struct fixture f;
	json_doc doc;
	text out = { 0 };
	error err;
	make_ranking(&f);
	assert_true(print_baseline_manifest(&f.ranking, &out, &err));
	parse(&doc, "manifest", &out);
	assert_string_equal(TEXT(&doc, "scheme", "name"), "the_baseline");
	assert_string_equal(TEXT(&doc, "scheme", "auto_quantize_method"), "gradient");
	assert_true(NUMBER(&doc, "scheme", "auto_quantize_score_size") == 24);
	assert_string_equal(TEXT(&doc, "scheme", "coverage_mode"), "full");
	assert_string_equal(TEXT(&doc, "model", "name"), "tiny");
	assert_true(cJSON_IsFalse(at(&doc, "model", "stand_in", NULL)));
	assert_true(cJSON_IsTrue(at(&doc, "calibration", "stand_in", NULL)));
	assert_true(cJSON_IsTrue(at(&doc, "stand_in", NULL))); /* either of the two */
	assert_true(NUMBER(&doc, "calibration", "calib_samples") == 32);
	assert_true(NUMBER(&doc, "calibration", "score_samples") == 24);
	assert_true(NUMBER(&doc, "calibration", "score_samples_cut") == 3);
	assert_true(NUMBER(&doc, "calibration", "mean_loss") == 2.5);
	assert_int_equal(cJSON_GetArraySize(at(&doc, "calibration", "calib_skipped", NULL)), 1);
	assert_string_equal(TEXT(&doc, "provenance", "numerics"), "quern");
	assert_string_equal(TEXT(&doc, "provenance", "weight_scales"), "group");
	assert_string_equal(TEXT(&doc, "provenance", "calibration_key"), "calibration key");
	assert_string_equal(TEXT(&doc, "provenance", "score_keys", "FP8_ALL_LAYERS_CFG"),
	                    f.ranking.formats[0].merged.key);
	/* Every linear but the head; the patch convolution stays as it is. */
	const cJSON *layers = at(&doc, "layers", NULL);
	int listed = 0, quantised = 0;
	for (const cJSON *layer = layers->child; layer; layer = layer->next) {
		bool yes = cJSON_IsTrue(cJSON_GetObjectItem(layer, "quantized"));
		assert_string_equal(layer->string, f.linears[listed++].name);
		assert_int_equal(yes, strcmp(layer->string, "visual.patch_embed.proj") != 0);
		quantised += yes;
	}
	assert_int_equal(listed, f.linear_count - 1);
	assert_true(NUMBER(&doc, "num_quantized_layers") == quantised);
	assert_true(NUMBER(&doc, "coverage", "groups_total") == f.groups.count);
	assert_true(NUMBER(&doc, "coverage", "groups_delivered") == f.groups.count - 1);
	assert_true(NUMBER(&doc, "coverage", "bits_asked") == 8);
	assert_true(NUMBER(&doc, "coverage", "bits_delivered") > 8);
	json_free(&doc);
	text_free(&out);
	free_ranking(&f);
}

static void the_state_has_every_statistic(void **state)
{
	(void)state;
	struct fixture f;
	json_doc doc;
	text out = { 0 };
	error err;
	make_ranking(&f);
	assert_true(print_state(&f.ranking, &out, &err));
	parse(&doc, "state", &out);
	for (int g = 0; g < f.groups.count; g++) {
		const struct group *group = &f.groups.groups[g];
		const cJSON *entry = at(&doc, "candidate_stats", group->name, NULL);
		const cJSON *blocks = cJSON_GetObjectItem(
			cJSON_GetObjectItem(entry, "block_scores"),
			"FP8_ALL_LAYERS_CFG(effective-bits: 8.0)");
		const cJSON *names = cJSON_GetObjectItem(entry, "module_names");
		assert_int_equal(cJSON_GetArraySize(blocks), BLOCKS);
		assert_int_equal(cJSON_GetArraySize(names), group->member_count);
		for (int b = 0; b < BLOCKS; b++)
			assert_true(cJSON_GetArrayItem(blocks, b)->valuedouble ==
			            expected_score(&f, g, b));
		for (int m = 0; m < group->member_count; m++)
			assert_string_equal(cJSON_GetArrayItem(names, m)->valuestring,
			                    f.linears[group->members[m]].name);
		assert_string_equal(TEXT(&doc, "best", "recipe", group->name),
		                    "FP8_ALL_LAYERS_CFG(effective-bits: 8.0)");
	}
	for (int i = 0; i < f.linear_count - 1; i++)
		assert_true(NUMBER(&doc, "input_amax", f.linears[i].name) == i + 1);
	json_free(&doc);
	text_free(&out);
	free_ranking(&f);
}

static void tables_start_with_the_most_sensitive(void **state)
{
	(void)state;
	struct fixture f;
	json_doc doc;
	text table = { 0 }, json = { 0 };
	char row[512];
	error err;
	make_ranking(&f);
	assert_true(print_sensitivity_table(&f.ranking, &table, &err));
	assert_true(print_sensitivity_json(&f.ranking, &json, &err));
	parse(&doc, "table", &json);
	const struct baseline *b = &f.ranking.baseline;
	const char *place = strstr(table.data, "| :--- |");
	const cJSON *item = at(&doc, "layers", NULL)->child;
	assert_non_null(strstr(table.data, "stand-ins: model tiny, data scenes"));
	for (int i = b->count - 1; i >= 0; i--, item = item->next) {
		const struct scored_group *group = &b->groups[b->ranking[i]];
		size_t length = strlen(group->name) - strlen(".quant_recipe");
		snprintf(row, sizeof row, "\n|%.*s|8.0|%.3e|%.3e|", (int)length, group->name,
		         group->scores[0], group->costs[0]);
		place = strstr(place, row); /* each after the one before */
		assert_non_null(place);
		const char *layer = cJSON_GetObjectItem(item, "layer")->valuestring;
		assert_int_equal(strlen(layer), length);
		assert_memory_equal(layer, group->name, length);
		assert_true(cJSON_GetObjectItem(item, "sensitivity")->valuedouble ==
		            group->scores[0]);
	}
	assert_null(item);
	json_free(&doc);
	text_free(&table);
	text_free(&json);
	free_ranking(&f);
}

static void refuses_to_rank_what_was_not_scored(void **state)
{
	(void)state;
	struct fixture f;
	error err;
	make_ranking(&f);
	ranking_free(&f.ranking);
	make_blocks(&f, f.linear_count - 3); /* the last up_proj */
	assert_false(ranking_read(&f.ranking, &f.facts, f.linears, &f.groups, &f.amax, &f.part,
	                          1, &err));
	expect_error(&err, EXIT_BAD_INPUT, "the_baseline", "mlp.gate_proj.quant_recipe", NULL);
	free_ranking(&f);
}

/* ---- a scheme's manifest ---- */

/* Cuts a baseline and checks the manifest of the cut against the groups. */
static void check_scheme(const struct baseline *b, const struct group_list *groups,
                         const struct linear_shape *linears, double percent)
{
	const struct rule rule = { .kind = RULE_TOP_PERCENT, .percent = percent };
	struct coverage c;
	json_doc doc;
	text out = { 0 };
	error err;
	int members = 0;
	if (!slice_baseline(&c, b, "s", &rule, &err) ||
	    !print_scheme_manifest(b, &c, "the_scheme", &out, &err))
		fail_msg("%s", err.text);
	parse(&doc, "scheme manifest", &out);
	const cJSON *layers = at(&doc, "layers", NULL);
	for (int g = 0; g < groups->count; g++) {
		const struct group *group = &groups->groups[g];
		for (int m = 0; m < group->member_count; m++) {
			const cJSON *layer = cJSON_GetObjectItemCaseSensitive(
				layers, linears[group->members[m]].name);
			if (!layer) { /* the original manifests leave the convolution out */
				assert_int_equal(group->kind, KIND_PATCH_EMBED);
				continue;
			}
			assert_int_equal(cJSON_IsTrue(cJSON_GetObjectItem(layer, "quantized")),
			                 c.keeps[g]);
			members += c.keeps[g];
		}
	}
	assert_true(NUMBER(&doc, "num_quantized_layers") == members);
	assert_string_equal(TEXT(&doc, "scheme", "name"), "the_scheme");
	assert_string_equal(TEXT(&doc, "scheme", "coverage_mode"), "top_percent");
	assert_true(NUMBER(&doc, "scheme", "coverage_fraction") == percent / 100);
	assert_true(NUMBER(&doc, "scheme", "auto_quantize_bits") == c.delivered_bits);
	assert_true(NUMBER(&doc, "coverage", "groups_asked") == c.asked);
	assert_true(NUMBER(&doc, "coverage", "groups_delivered") == c.selected);
	assert_int_equal(cJSON_GetArraySize(at(&doc, "sensitivity_ranking", NULL)), b->count);
	json_free(&doc);
	text_free(&out);
	coverage_free(&c);
}

static void schemes_say_what_they_keep(void **state)
{
	(void)state;
	static const double percents[] = { 0.1, 10, 50, 100 };
	struct fixture f;
	struct baseline b;
	text out = { 0 };
	error err;
	make_ranking(&f);
	assert_true(print_baseline_manifest(&f.ranking, &out, &err));
	if (!baseline_read(&b, write_out("m.json", &out), &err))
		fail_msg("%s", err.text);
	for (size_t i = 0; i < sizeof percents / sizeof *percents; i++)
		check_scheme(&b, &f.groups, f.linears, percents[i]);
	baseline_free(&b);
	text_free(&out);
	free_ranking(&f);
}

static void schemes_of_a_real_baseline(void **state)
{
	(void)state;
	static const char *const head[] = { "lm_head" };
	char path[PATH_BYTES];
	struct model_config config;
	struct linear_shape *linears;
	struct group_list groups;
	struct baseline b;
	arena memory = { 0 };
	int count;
	error err;
	if (!find_shared(path, REAL, "schemes_of_a_real_baseline") ||
	    !find_shared_config(&config, "qwen2_5_vl_3b", "schemes_of_a_real_baseline"))
		skip();
	if (!baseline_read(&b, path, &err) ||
	    !list_linears(&config, &memory, &linears, &count, &err) ||
	    !make_groups(linears, count, head, 1, &memory, &groups, &err))
		fail_msg("%s", err.text);
	for (int percent = 10; percent <= 100; percent += 10)
		check_scheme(&b, &groups, linears, percent);
	arena_free(&memory);
	baseline_free(&b);
}

#define GROUP "\"language_model.layers.0.mlp.down_proj.quant_recipe\": {\"formats\": " \
	"[\"F\", \"N\"], \"scores\": [1, 0], \"costs\": [4, 8]}"
#define WITH(layers) "{\"scheme\": {\"name\": \"s\"}, \"layers\": {" layers "},\n" \
	"\"layer_sensitivity\": {" GROUP "}}"

static void layers_outside_the_search(void **state)
{
	(void)state;
	static const char *const passes = WITH(
		"\"lm_head\": {\"quantized\": false, \"module_type\": \"Linear\"}, "
		"\"language_model.layers.0.mlp.down_proj\": {\"quantized\": true}");
	static const char *const fails[] = {
		WITH("\"lm_head\": {\"quantized\": true}"), WITH("\"lm_head\": {}"),
		WITH("\"lm_head\": {\"quantized\": 1}"),
	};
	const struct rule full = { .kind = RULE_FULL };
	for (int i = -1; i < 3; i++) {
		text content = { 0 }, out = { 0 };
		struct baseline b;
		struct coverage c;
		error err;
		text_puts(&content, i < 0 ? passes : fails[i]);
		assert_true(baseline_read(&b, write_out("f.json", &content), &err));
		assert_true(slice_baseline(&c, &b, "s", &full, &err));
		bool ok = print_scheme_manifest(&b, &c, "s", &out, &err);
		assert_int_equal(ok, i < 0);
		if (ok)
			assert_non_null(strstr(out.data, "\"num_quantized_layers\": 1"));
		else
			expect_error(&err, EXIT_BAD_INPUT, "f.json:1:", "layers.lm_head", NULL);
		coverage_free(&c);
		baseline_free(&b);
		text_free(&content);
		text_free(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_manifest_is_the_baseline),
		cmocka_unit_test(the_manifest_tells_what_it_was_made_from),
		cmocka_unit_test(the_state_has_every_statistic),
		cmocka_unit_test(tables_start_with_the_most_sensitive),
		cmocka_unit_test(refuses_to_rank_what_was_not_scored),
		cmocka_unit_test(schemes_say_what_they_keep),
		cmocka_unit_test(schemes_of_a_real_baseline),
		cmocka_unit_test(layers_outside_the_search),
	};
	return cmocka_run_group_tests(tests, make, clean);
}
