/* Slicing: how many groups a percentage is, which ones, what of them is delivered;
 * coverage files written and read back; a real baseline and its real slice. */
#include "lib/quant/slice.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/quant/selection.h"
#include "tests/support/expect_error.h"
#include "tests/support/shared_data.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

#define REAL "fixtures/baseline-real/fp8_autoquant_all_layers_"

enum { MOST_GROUPS = 400 };

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

/* ---- baselines made on the spot ---- */

static void set_group(struct scored_group *g, const char *name, double score,
                      double weights)
{
	*g = (struct scored_group){ .name = name, .format_count = 2,
		.formats = { "FP8(effective-bits: 8.0)", FORMAT_NONE }, .scores = { score, 0 },
		.costs = { weights / 2, weights }, .importance = score };
}

/* Groups g0, g1, ... of 16 weights each with scores falling from first to last. */
static void make_baseline(struct baseline *b, int count)
{
	error err;
	*b = (struct baseline){ .count = count };
	b->groups = arena_alloc(&b->memory, (size_t)count, sizeof *b->groups, &err);
	b->name = arena_printf(&b->memory, &err, "made");
	assert_true(b->groups && b->name);
	for (int i = 0; i < count; i++)
		set_group(&b->groups[i], arena_printf(&b->memory, &err, "g%d", i), count - i, 16);
	assert_true(rank_groups(b, &err));
}

static void rank_again(struct baseline *b)
{
	error err;
	assert_true(rank_groups(b, &err));
}

static void slice(struct coverage *c, const struct baseline *b, double percent)
{
	const struct rule rule = { .kind = RULE_TOP_PERCENT, .percent = percent };
	error err;
	if (!slice_baseline(c, b, "scheme", &rule, &err))
		fail_msg("%s", err.text);
}

/* How many groups a percentage of `total` asks for. */
static int asked(struct baseline *b, int total, double percent)
{
	struct coverage c;
	b->count = total; /* a slice looks no further */
	for (int i = 0; i < total; i++)
		b->ranking[i] = i;
	slice(&c, b, percent);
	int count = c.asked;
	assert_int_equal(c.selected, count);
	assert_int_equal(c.total, total);
	coverage_free(&c);
	return count;
}

/* ---- the rule ---- */

static void counts_as_the_rule_says(void **state)
{
	(void)state;
	struct baseline b;
	make_baseline(&b, MOST_GROUPS);
	assert_int_equal(asked(&b, 30, 10), 3); /* 0.1 * 30 is 3.0000000000000004 */
	assert_int_equal(asked(&b, 275, 10), 28);
	assert_int_equal(asked(&b, 275, 0.1), 1);
	assert_int_equal(asked(&b, 275, 100), 275);
	assert_int_equal(asked(&b, 1, 0.1), 1);
	assert_int_equal(asked(&b, 1, 100), 1);
	assert_int_equal(asked(&b, 3, 33.4), 2);
	assert_int_equal(asked(&b, 3, 100.0 / 3), 1);
	assert_int_equal(asked(&b, 275, 1e-300), 1);
	baseline_free(&b);
}

/* max(1, ceil(percent * total)) in whole numbers, tenths of percents. */
static void counts_exactly_for_all_percentages(void **state)
{
	(void)state;
	static const int totals[] = { 1, 2, 3, 7, 10, 29, 30, 43, 44, 100, 144, 243, 275,
		276, 400 };
	struct baseline b;
	make_baseline(&b, MOST_GROUPS);
	for (size_t t = 0; t < sizeof totals / sizeof *totals; t++) {
		for (int tenths = 1; tenths <= 1000; tenths++) {
			int expected = (tenths * totals[t] + 999) / 1000;
			int found = asked(&b, totals[t], tenths / 10.0);
			if (found != expected)
				fail_msg("%.1f %% of %d: expected %d, found %d", tenths / 10.0,
				         totals[t], expected, found);
		}
	}
	baseline_free(&b);
}

static void ties_go_by_module_order(void **state)
{
	(void)state;
	struct baseline b;
	struct coverage c;
	make_baseline(&b, 40);
	for (int i = 0; i < 40; i++)
		b.groups[i].importance = b.groups[i].scores[0] = i % 4;
	rank_again(&b);
	for (int i = 0; i < 40; i++)
		assert_int_equal(b.ranking[i], i % 10 * 4 + i / 10);
	slice(&c, &b, 30); /* 12: all of score 0, two of score 1 */
	assert_int_equal(c.selected, 12);
	for (int i = 0; i < 40; i++) {
		assert_int_equal(c.order[i], b.ranking[i]);
		assert_int_equal(c.keeps[i], i % 4 == 0 || i == 1 || i == 5);
	}
	coverage_free(&c);
	baseline_free(&b);
}

/* Five groups of different size; the second least sensitive one is the convolution. */
static void make_mixed(struct baseline *b)
{
	static const struct {
		const char *name;
		double score, weights;
	} groups[] = {
		{ "visual.patch_embed.proj.quant_recipe", 2, 1000 },
		{ "visual.merger.mlp.0.quant_recipe", 5, 400 },
		{ "language_model.layers.0.self_attn.q_proj.quant_recipe", 1, 200 },
		{ "language_model.layers.0.mlp.gate_proj.quant_recipe", 4, 100 },
		{ "language_model.layers.0.mlp.down_proj.quant_recipe", 3, 300 },
	};
	make_baseline(b, 5);
	for (int i = 0; i < 5; i++)
		set_group(&b->groups[i], groups[i].name, groups[i].score, groups[i].weights);
	rank_again(b);
}

static void what_cannot_be_exported_is_dropped(void **state)
{
	(void)state;
	struct baseline b;
	struct coverage c;
	make_mixed(&b);
	slice(&c, &b, 60);
	assert_int_equal(c.asked, 3);
	assert_int_equal(c.selected, 2);
	const int order[5] = { 2, 4, 0, 3, 1 }; /* kept, then dropped, each by rank */
	assert_memory_equal(c.order, order, sizeof order);
	/* 16 bits for all but 200 + 300 of 2000 weights, 1000 more were asked for. */
	assert_true(c.delivered_bits == 16 - 8 * 500.0 / 2000);
	assert_true(c.asked_bits == 16 - 8 * 1500.0 / 2000);
	coverage_free(&c);
	const struct rule full = { .kind = RULE_FULL, .percent = 100 };
	error err;
	assert_true(slice_baseline(&c, &b, "scheme", &full, &err));
	assert_int_equal(c.asked, 5);
	assert_int_equal(c.selected, 4);
	assert_false(c.keeps[0]);
	assert_true(c.asked_bits == 8 && c.delivered_bits == 16 - 8 * 1000.0 / 2000);
	coverage_free(&c);
	baseline_free(&b);
}

/* ModelOpt also lists what its search had to leave alone, with one format and the
 * score 0: nothing to select, and no part of the hundred percent. */
static void only_candidates_count(void **state)
{
	(void)state;
	struct baseline b;
	struct coverage c;
	make_baseline(&b, 30);
	for (int i = 0; i < 20; i++) {
		b.groups[i].format_count = 1;
		b.groups[i].formats[0] = FORMAT_NONE;
		b.groups[i].scores[0] = b.groups[i].importance = 0;
		b.groups[i].costs[0] = 16;
	}
	rank_again(&b);
	slice(&c, &b, 20);
	assert_int_equal(c.total, 30);
	assert_int_equal(c.asked, 2);
	assert_int_equal(c.selected, 2);
	assert_true(c.keeps[29] && c.keeps[28]);
	assert_int_equal(c.order[0], 29);
	assert_int_equal(c.order[29], 19);
	assert_true(fabs(c.delivered_bits - (16 - 8 * 2.0 / 30)) < 1e-12);
	coverage_free(&c);
	for (int i = 20; i < 30; i++)
		b.groups[i].format_count = 1;
	rank_again(&b);
	slice(&c, &b, 50); /* of nothing */
	assert_int_equal(c.asked, 0);
	assert_int_equal(c.selected, 0);
	coverage_free(&c);
	baseline_free(&b);
}

/* ---- files ---- */

static void write_coverage(const struct coverage *c, const struct baseline *b,
                           char path[PATH_BYTES])
{
	text out = { 0 };
	error err;
	if (!print_coverage(c, b, "the_baseline", "the_quant_manifest.json", &out, &err) ||
	    !temp_folder_write(folder, "coverage.json", out.data, out.length, &err) ||
	    !join_path(path, PATH_BYTES, folder, "coverage.json", &err))
		fail_msg("%s", err.text);
	text_free(&out);
}

static void check_same(const struct coverage *a, const struct coverage *b)
{
	assert_string_equal(a->scheme, b->scheme);
	assert_int_equal(a->rule.kind, b->rule.kind);
	assert_true(a->rule.percent == b->rule.percent);
	assert_int_equal(a->total, b->total);
	assert_int_equal(a->asked, b->asked);
	assert_int_equal(a->selected, b->selected);
	assert_memory_equal(a->order, b->order, (size_t)a->total * sizeof *a->order);
	assert_memory_equal(a->keeps, b->keeps, (size_t)a->total * sizeof *a->keeps);
	assert_true(a->delivered_bits == b->delivered_bits);
	assert_true(a->asked_bits == b->asked_bits);
}

static void a_coverage_comes_back_from_its_file(void **state)
{
	(void)state;
	static const double percents[] = { 20, 33.3, 60, 100 };
	struct baseline b;
	struct coverage c, read;
	char path[PATH_BYTES];
	error err;
	make_mixed(&b);
	for (size_t i = 0; i <= sizeof percents / sizeof *percents; i++) {
		bool full = i == sizeof percents / sizeof *percents;
		const struct rule rule = {
			.kind = full ? RULE_FULL : RULE_TOP_PERCENT,
			.percent = full ? 100 : percents[i] };
		assert_true(slice_baseline(&c, &b, "some \"scheme\"", &rule, &err));
		write_coverage(&c, &b, path);
		if (!coverage_read(&read, &b, path, &err))
			fail_msg("%s", err.text);
		check_same(&c, &read);
		coverage_free(&c);
		coverage_free(&read);
	}
	baseline_free(&b);
}

static const cJSON *field(const json_doc *doc, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(doc->root, name);
	if (!item)
		fail_msg("%s lacks %s", doc->name, name);
	return item;
}

static void a_file_says_what_the_original_said_and_more(void **state)
{
	(void)state;
	struct baseline b;
	struct coverage c;
	json_doc doc;
	char path[PATH_BYTES];
	error err;
	make_mixed(&b);
	slice(&c, &b, 60);
	write_coverage(&c, &b, path);
	assert_true(json_load(&doc, path, 1 << 20, &err));
	assert_string_equal(field(&doc, "scheme_name")->valuestring, "scheme");
	assert_string_equal(field(&doc, "baseline_dir")->valuestring, "../../the_baseline");
	assert_string_equal(field(&doc, "baseline_manifest")->valuestring,
	                    "../../the_baseline/layer-sensitivity/the_quant_manifest.json");
	assert_true(field(&doc, "top_percent")->valuedouble == 60);
	assert_true(field(&doc, "coverage_fraction")->valuedouble == 0.6);
	assert_true(field(&doc, "num_layers_total")->valuedouble == 5);
	assert_true(field(&doc, "num_layers_asked")->valuedouble == 3);
	assert_true(field(&doc, "num_layers_selected")->valuedouble == 2);
	assert_true(field(&doc, "num_layers_dropped")->valuedouble == 3);
	assert_int_equal(cJSON_GetArraySize(field(&doc, "selected_layers")), 2);
	assert_int_equal(cJSON_GetArraySize(field(&doc, "dropped_layers")), 3);
	const cJSON *out = field(&doc, "not_exportable");
	assert_int_equal(cJSON_GetArraySize(out), 1);
	assert_string_equal(out->child->valuestring, "visual.patch_embed.proj.quant_recipe");
	json_free(&doc);
	coverage_free(&c);
	baseline_free(&b);
}

#define HEAD "{\"scheme_name\": \"s\", \"top_percent\": 50,\n"
#define ALL_BUT_Q "\"visual.patch_embed.proj.quant_recipe\", " \
	"\"visual.merger.mlp.0.quant_recipe\", " \
	"\"language_model.layers.0.mlp.gate_proj.quant_recipe\", " \
	"\"language_model.layers.0.mlp.down_proj.quant_recipe\""
#define Q "\"language_model.layers.0.self_attn.q_proj.quant_recipe\""

static void refuses_coverages_of_something_else(void **state)
{
	(void)state;
	static const struct {
		const char *content, *place, *says;
	} cases[] = {
		{ "{}", "c.json:1:1", "scheme_name" },
		{ "[]", "c.json:1:1", "expected an object" },
		{ "{\"scheme_name\": 7}", "c.json:1:2", "expected a text, found 7" },
		{ "{\"scheme_name\": \"s\"}", "c.json:1:1", "top_percent" },
		{ "{\"scheme_name\": \"s\", \"top_percent\": 101}", "c.json:1:22", "101" },
		{ HEAD "\"selected_layers\": []}", "c.json:1:1", "dropped_layers" },
		{ HEAD "\"selected_layers\": {}}", "c.json:2:1", "expected an array" },
		{ HEAD "\"selected_layers\": [3],\n\"dropped_layers\": []}", "c.json:2:21",
		  "expected a group's name" },
		{ HEAD "\"selected_layers\": [\"lm_head.quant_recipe\"],\n\"dropped_layers\": []}",
		  "selected_layers[0]", "lm_head.quant_recipe" },
		{ HEAD "\"selected_layers\": [" Q "],\n\"dropped_layers\": [" ALL_BUT_Q ", " Q "]}",
		  "dropped_layers[4]", "named twice" },
		{ HEAD "\"selected_layers\": [" Q ", " Q "],\n\"dropped_layers\": [" ALL_BUT_Q "]}",
		  "selected_layers[1]", "named twice" },
		{ HEAD "\"selected_layers\": [],\n\"dropped_layers\": [" ALL_BUT_Q "]}",
		  "c.json:1:1", "neither selected nor dropped" },
		{ HEAD "\"num_layers_asked\": 6,\n\"selected_layers\": [" Q "],"
		  "\"dropped_layers\": [" ALL_BUT_Q "]}", "num_layers_asked", "found 6" },
	};
	struct baseline b;
	struct coverage c;
	char path[PATH_BYTES];
	error err;
	make_mixed(&b);
	assert_true(join_path(path, sizeof path, folder, "c.json", &err));
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_true(temp_folder_write(folder, "c.json", cases[i].content,
		                              strlen(cases[i].content), &err));
		assert_false(coverage_read(&c, &b, path, &err));
		expect_error(&err, EXIT_BAD_INPUT, cases[i].place, cases[i].says, NULL);
	}
	assert_false(coverage_read(&c, &b, "no/such/file.json", &err));
	expect_error(&err, EXIT_BAD_INPUT, "no/such/file.json", NULL);
	baseline_free(&b);
}

/* The original drivers let the rule select what no consumer can load. */
static void drops_what_an_original_should_not_have_selected(void **state)
{
	(void)state;
	static const char original[] = HEAD "\"selected_layers\": [" ALL_BUT_Q "],\n"
		"\"dropped_layers\": [" Q "]}";
	struct baseline b;
	struct coverage c;
	char path[PATH_BYTES];
	error err;
	make_mixed(&b);
	assert_true(temp_folder_write(folder, "o.json", original, strlen(original), &err));
	assert_true(join_path(path, sizeof path, folder, "o.json", &err));
	assert_true(coverage_read(&c, &b, path, &err));
	assert_int_equal(c.asked, 4);
	assert_int_equal(c.selected, 3);
	assert_false(c.keeps[0]);
	coverage_free(&c);
	baseline_free(&b);
}

/* ---- the real thing ---- */

static void check_names(const json_doc *doc, const char *list, const struct baseline *b,
                        const int *order, int count)
{
	const cJSON *item;
	int i = 0;
	assert_int_equal(cJSON_GetArraySize(field(doc, list)), count);
	cJSON_ArrayForEach(item, field(doc, list))
		assert_string_equal(item->valuestring, b->groups[order[i++]].name);
}

static void cuts_a_real_baseline_as_it_was_cut(void **state)
{
	(void)state;
	char manifest[PATH_BYTES], cut[PATH_BYTES];
	struct baseline b;
	struct coverage c, read;
	json_doc doc;
	error err;
	if (!find_shared(manifest, REAL "fp8_quant_manifest.json",
	                 "cuts_a_real_baseline_as_it_was_cut") ||
	    !find_shared(cut, REAL "top10_coco2017_coverage_from_baseline.json",
	                 "cuts_a_real_baseline_as_it_was_cut"))
		skip();
	if (!baseline_read(&b, manifest, &err) || !json_load(&doc, cut, 1 << 24, &err))
		fail_msg("%s", err.text);
	assert_int_equal(b.count, 275);
	slice(&c, &b, 10);
	assert_int_equal(c.asked, 28);
	assert_int_equal(c.selected, 28);
	check_names(&doc, "selected_layers", &b, c.order, 28);
	check_names(&doc, "dropped_layers", &b, c.order + 28, 247);
	if (!coverage_read(&read, &b, cut, &err))
		fail_msg("%s", err.text);
	assert_string_equal(read.scheme, "fp8_autoquant_all_layers_top10_coco2017");
	assert_true(read.rule.percent == 10 && read.asked == 28);
	assert_memory_equal(read.order, c.order, 275 * sizeof *c.order);
	assert_true(read.delivered_bits == c.delivered_bits);
	print_message("top 10 %% of the real baseline: 28 of 275 groups, %.4f bits\n",
	              c.delivered_bits);
	coverage_free(&read);
	coverage_free(&c);
	json_free(&doc);
	baseline_free(&b);
}

/* ---- selections ---- */

static text print_half(struct baseline *b)
{
	struct coverage c;
	text out = { 0 };
	error err;
	rank_again(b);
	slice(&c, b, 50);
	assert_true(print_selection(&c, b, &out, &err));
	coverage_free(&c);
	return out;
}

/* The file is the same bytes for the same groups, however they are scored and ranked. */
static void a_selection_knows_no_scores(void **state)
{
	(void)state;
	struct baseline b;
	struct selection s;
	char path[PATH_BYTES];
	error err;
	make_baseline(&b, 6); /* g3, g4 and g5 are the lesser half */
	text half = print_half(&b);
	b.groups[3].importance = 0.5;
	b.groups[0].importance = 1000;
	text same = print_half(&b);
	assert_string_equal(half.data, same.data);
	b.groups[2].importance = 0.1;
	text other = print_half(&b);
	assert_string_not_equal(half.data, other.data);
	assert_true(temp_folder_write(folder, SELECTION_FILE, half.data, half.length, &err) &&
	            join_path(path, PATH_BYTES, folder, SELECTION_FILE, &err) &&
	            selection_read(&s, path, &err));
	assert_null(selected_format(&s, "g2"));
	assert_string_equal(selected_format(&s, "g3"), "FP8(effective-bits: 8.0)");
	assert_int_equal(cJSON_GetArraySize(s.formats), 3);
	assert_null(s.kv_cache.name);
	selection_free(&s);
	assert_true(temp_folder_write(folder, SELECTION_FILE, "{\"formats\": {\"g\": 1}}", 21,
	                              &err));
	assert_false(selection_read(&s, path, &err));
	text_free(&half);
	text_free(&same);
	text_free(&other);
	baseline_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_as_the_rule_says),
		cmocka_unit_test(counts_exactly_for_all_percentages),
		cmocka_unit_test(ties_go_by_module_order),
		cmocka_unit_test(what_cannot_be_exported_is_dropped),
		cmocka_unit_test(only_candidates_count),
		cmocka_unit_test(a_coverage_comes_back_from_its_file),
		cmocka_unit_test(a_file_says_what_the_original_said_and_more),
		cmocka_unit_test(refuses_coverages_of_something_else),
		cmocka_unit_test(drops_what_an_original_should_not_have_selected),
		cmocka_unit_test(cuts_a_real_baseline_as_it_was_cut),
		cmocka_unit_test(a_selection_knows_no_scores),
	};
	return cmocka_run_group_tests(tests, make, clean);
}
