/* Rules on a small baseline of three formats, and coverage manifests there and back. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "lib/quant/pareto.h"
#include "lib/quant/slice.h"
#include "tests/support/expect_error.h"
#include "tests/support/shared_data.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

/* Two blocks of two groups, the patch convolution, a merger; 100 weights each but
 * for down_proj with 200. Names, scores in 4 and 8 bits. */
static const struct {
	const char *name;
	double low, high, weights;
} GROUPS[] = {
	{ "visual.patch_embed.proj", 0.5, 0.01, 100 },
	{ "visual.merger.mlp.0", 2, 0.3, 100 },
	{ "language_model.layers.0.self_attn.q_proj", 8, 1, 100 },
	{ "language_model.layers.0.mlp.down_proj", 6, 0.5, 200 },
	{ "language_model.layers.1.self_attn.q_proj", 4, 0.25, 100 },
	{ "language_model.layers.1.mlp.down_proj", 1, 0.125, 200 },
};

enum { GROUP_COUNT = sizeof GROUPS / sizeof GROUPS[0] };

struct fixture {
	char folder[PATH_BYTES];
	struct baseline b;
};

static void load(struct fixture *f)
{
	text manifest = { 0 };
	char path[PATH_BYTES];
	error err;
	text_puts(&manifest, "{\"scheme\": {\"name\": \"base\"}, \"layer_sensitivity\": {");
	for (int g = 0; g < GROUP_COUNT; g++)
		text_printf(&manifest, "%s\"%s.quant_recipe\": {\"formats\": [\"LOW\", \"HIGH\", "
		            "\"NONE(effective-bits: 16.0)\"], \"scores\": [%g, %g, 0], \"costs\": "
		            "[%g, %g, %g]}", g ? "," : "", GROUPS[g].name, GROUPS[g].low,
		            GROUPS[g].high, GROUPS[g].weights / 4, GROUPS[g].weights / 2,
		            GROUPS[g].weights);
	text_puts(&manifest, "}}");
	assert_true(text_ok(&manifest, &err) && temp_folder_make(f->folder, &err) &&
	            temp_folder_write(f->folder, "base.json", manifest.data, manifest.length,
	                              &err) &&
	            join_path(path, sizeof path, f->folder, "base.json", &err));
	text_free(&manifest);
	if (!baseline_read(&f->b, path, &err))
		fail_msg("%s", err.text);
}

static void unload(struct fixture *f)
{
	baseline_free(&f->b);
	temp_folder_remove(f->folder);
}

static void cut(const struct fixture *f, struct rule rule, struct coverage *c)
{
	error err;
	if (!slice_baseline(c, &f->b, "mine", &rule, &err))
		fail_msg("%s", err.text);
}

/* `expected` has one letter a group: L, H, or - for none. */
static void expect_choice(const struct coverage *c, const char *expected)
{
	char found[GROUP_COUNT + 1] = "";
	for (int g = 0; g < GROUP_COUNT; g++)
		found[g] = c->keeps[g] ? "LH"[c->choice[g]] : '-';
	assert_string_equal(found, expected);
}

static void check_rule(struct rule rule, const char *expected)
{
	struct fixture f;
	struct coverage c;
	load(&f);
	cut(&f, rule, &c);
	expect_choice(&c, expected);
	coverage_free(&c);
	unload(&f);
}

static void test_selections(void **state)
{
	const char *const globs[] = { "*.mlp.*", "*layers.0.self_attn.*" };
	(void)state;
	/* The patch convolution stays whatever a rule says. */
	check_rule((struct rule){ .kind = RULE_FULL }, "-LLLLL");
	/* Least sensitive in the cheapest format: patch_embed, layers.1.down, merger. */
	check_rule((struct rule){ .kind = RULE_TOP_PERCENT, .percent = 50 }, "-L---L");
	/* Block 1 scores 5, block 0 scores 14; the merger is in none. */
	check_rule((struct rule){ .kind = RULE_TOP_BLOCKS, .percent = 25 }, "----LL");
	check_rule((struct rule){ .kind = RULE_TOP_BLOCKS, .percent = 100 }, "--LLLL");
	check_rule((struct rule){ .kind = RULE_LIST, .groups = { (const char **)globs, 2 } },
	           "-LLL-L");
}

static void test_pins(void **state)
{
	const char *keep[] = { "language_model.layers.0.*" }, *take[] = { "*merger*" };
	(void)state;
	check_rule((struct rule){ .kind = RULE_FULL, .pin_bf16 = { keep, 1 } }, "-L--LL");
	check_rule((struct rule){ .kind = RULE_TOP_BLOCKS, .percent = 50,
	                          .pin_quantised = { take, 1 } }, "-L--LL");
	/* A pin of both kinds leaves the group as it is. */
	check_rule((struct rule){ .kind = RULE_FULL, .pin_bf16 = { take, 1 },
	                          .pin_quantised = { take, 1 } }, "--LLLL");
}

static void test_budget(void **state)
{
	struct fixture f;
	struct coverage c;
	error err;
	(void)state;
	load(&f);
	/* 800 weights, of which patch_embed's 100 cannot shrink. At 8 bits 400 units:
	 * the others have 300 for 700 weights. */
	cut(&f, (struct rule){ .kind = RULE_FULL, .bits = 8 }, &c);
	assert_true(c.delivered_bits <= 8 && c.gap == 0);
	double score = 0;
	for (int g = 0; g < GROUP_COUNT; g++)
		if (c.keeps[g])
			score += f.b.groups[g].scores[c.choice[g]];
	/* layers.1.down in 4 bits (50), the rest in 8 (250): 1 + 0.3 + 1 + 0.5 + 0.25 */
	assert_true(fabs(score - 3.05) < 1e-12);
	expect_choice(&c, "-HHHHL");
	coverage_free(&c);
	cut(&f, (struct rule){ .kind = RULE_FULL, .bits = 16 }, &c);
	expect_choice(&c, "------");
	coverage_free(&c);
	const struct rule tight = { .kind = RULE_FULL, .bits = 5 };
	assert_false(slice_baseline(&c, &f.b, "mine", &tight, &err));
	/* (100 + 700/4) / 800 * 16 */
	expect_error(&err, EXIT_BAD_INPUT, "mine", "base", "effective_bits 5", "5.5000", NULL);
	unload(&f);
}

/* A budget first, then only the better blocks keep what it gave them. */
static void test_budget_and_blocks(void **state)
{
	(void)state;
	check_rule((struct rule){ .kind = RULE_TOP_BLOCKS, .percent = 50, .bits = 8 },
	           "----HL");
}

static void test_cost_excluded(void **state)
{
	const char *free_ones[] = { "visual.*" };
	struct fixture f;
	struct coverage c;
	(void)state;
	load(&f);
	cut(&f, (struct rule){ .kind = RULE_FULL, .cost_exclude = { free_ones, 1 } }, &c);
	assert_true(c.delivered_bits == 4);
	coverage_free(&c);
	/* Free of cost, the merger has no reason to be quantised; 600 weights in 300 units,
	 * best as nothing, 100, 50 and 50 at scores 0 + 0.5 + 0.25 + 1. */
	cut(&f, (struct rule){ .kind = RULE_FULL, .bits = 8, .cost_exclude = { free_ones, 1 } },
	    &c);
	expect_choice(&c, "---HHL");
	coverage_free(&c);
	unload(&f);
}

/* Costs of any unit in place of bits: here 4 bits are slow, so only 8 bits help. */
static void test_cost_table(void **state)
{
	struct fixture f;
	struct coverage c;
	text table = { 0 };
	char path[PATH_BYTES];
	error err;
	(void)state;
	load(&f);
	text_puts(&table, "{\"unit\": \"ms\", \"groups\": {");
	for (int g = 0; g < GROUP_COUNT; g++)
		text_printf(&table, "%s\"%s\": {\"LOW\": 9, \"HIGH\": 2, \"NONE\": 5}",
		            g ? "," : "", GROUPS[g].name);
	text_puts(&table, "}}");
	assert_true(text_ok(&table, &err) &&
	            temp_folder_write(f.folder, "costs.json", table.data, table.length, &err) &&
	            join_path(path, sizeof path, f.folder, "costs.json", &err));
	/* Of 30 ms 6 must go: the two groups of least score in 8 bits. */
	cut(&f, (struct rule){ .kind = RULE_FULL, .costs = path, .budget = 24 }, &c);
	expect_choice(&c, "----HH");
	assert_true(c.cost == 24 && strcmp(c.unit, "ms") == 0);
	coverage_free(&c);
	const struct rule tight = { .kind = RULE_FULL, .costs = path, .budget = 14 };
	assert_false(slice_baseline(&c, &f.b, "mine", &tight, &err));
	expect_error(&err, EXIT_BAD_INPUT, "mine", "14 ms", "15", NULL);
	assert_true(temp_folder_write(f.folder, "costs.json", table.data, table.length - 40,
	                              &err));
	assert_false(slice_baseline(&c, &f.b, "mine", &tight, &err));
	expect_error(&err, EXIT_BAD_INPUT, "costs.json", NULL);
	text_free(&table);
	unload(&f);
}

/* ---- files ---- */

static void write_coverage(const struct fixture *f, const struct coverage *c,
                           char path[PATH_BYTES])
{
	text printed = { 0 };
	error err;
	assert_true(print_coverage(c, &f->b, "base", "base.json", &printed, &err) &&
	            temp_folder_write(f->folder, "slice.json", printed.data, printed.length,
	                              &err) &&
	            join_path(path, PATH_BYTES, f->folder, "slice.json", &err));
	text_free(&printed);
}

static void test_there_and_back(void **state)
{
	const char *free_ones[] = { "visual.*" };
	const struct rule rules[] = {
		{ .kind = RULE_FULL },
		{ .kind = RULE_TOP_PERCENT, .percent = 30 },
		{ .kind = RULE_TOP_BLOCKS, .percent = 50, .bits = 8 },
		{ .kind = RULE_FULL, .bits = 7, .cost_exclude = { free_ones, 1 } },
	};
	struct fixture f;
	(void)state;
	load(&f);
	for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
		struct coverage c, again;
		char path[PATH_BYTES];
		error err;
		cut(&f, rules[i], &c);
		write_coverage(&f, &c, path);
		if (!coverage_read(&again, &f.b, path, &err))
			fail_msg("%s", err.text);
		assert_int_equal(again.rule.kind, c.rule.kind);
		assert_int_equal(again.asked, c.asked);
		assert_int_equal(again.selected, c.selected);
		assert_true(again.delivered_bits == c.delivered_bits);
		assert_true(again.asked_bits == c.asked_bits);
		for (int g = 0; g < GROUP_COUNT; g++) {
			assert_int_equal(again.keeps[g], c.keeps[g]);
			assert_true(!c.keeps[g] || again.choice[g] == c.choice[g]);
		}
		/* As the rule of another scheme it selects the same. */
		struct coverage copy;
		cut(&f, (struct rule){ .kind = RULE_MANIFEST, .manifest = path }, &copy);
		for (int g = 0; g < GROUP_COUNT; g++)
			assert_true(copy.keeps[g] == c.keeps[g] &&
			            (!c.keeps[g] || copy.choice[g] == c.choice[g]));
		coverage_free(&copy);
		coverage_free(&again);
		coverage_free(&c);
	}
	unload(&f);
}

static void test_bad_lists(void **state)
{
	const char *globs[] = { "*.mpl.*" };
	const struct rule rule = { .kind = RULE_LIST, .groups = { globs, 1 } };
	struct fixture f;
	struct coverage c;
	error err;
	(void)state;
	load(&f);
	assert_false(slice_baseline(&c, &f.b, "mine", &rule, &err));
	expect_error(&err, EXIT_BAD_INPUT, "mine", "*.mpl.*", NULL);
	unload(&f);
}

/* ---- every budget ---- */

static void test_pareto(void **state)
{
	struct fixture f;
	struct pareto p;
	error err;
	(void)state;
	load(&f);
	assert_true(pareto_make(&p, &f.b, 0.5, &err));
	assert_true(fabs(p.least - 5.5) < 1e-12);
	assert_true(p.count > 20 && p.format_count == 2);
	assert_true(p.points[p.count - 1].asked == 16 && p.points[p.count - 1].score == 0);
	for (int i = 0; i < p.count; i++) {
		assert_true(p.points[i].gap == 0);
		assert_true(p.points[i].delivered <= p.points[i].asked);
		assert_true(i == 0 || p.points[i].score <= p.points[i - 1].score);
		assert_int_equal(p.points[i].by_format[0] + p.points[i].by_format[1],
		                 p.points[i].kept);
	}
	pareto_free(&p);
	unload(&f);
}

/* A real ModelOpt manifest as the baseline of any rule. */
static void test_imported(void **state)
{
	char path[PATH_BYTES], coverage[PATH_BYTES];
	struct baseline b;
	struct coverage c, theirs;
	error err;
	(void)state;
	if (!find_shared(path, "fixtures/baseline-real/"
	                 "fp8_autoquant_all_layers_fp8_quant_manifest.json", "test_imported") ||
	    !find_shared(coverage, "fixtures/baseline-real/fp8_autoquant_all_layers_top10_"
	                 "coco2017_coverage_from_baseline.json", "test_imported"))
		skip();
	if (!baseline_read(&b, path, &err) || !coverage_read(&theirs, &b, coverage, &err))
		fail_msg("%s", err.text);
	const struct rule tenth = { .kind = RULE_TOP_PERCENT, .percent = 10 };
	assert_true(slice_baseline(&c, &b, "mine", &tenth, &err));
	assert_int_equal(c.asked, theirs.asked);
	for (int g = 0; g < b.count; g++)
		assert_int_equal(c.keeps[g], theirs.keeps[g]);
	coverage_free(&c);
	coverage_free(&theirs);
	/* Their own search at 11 bits: total 6.639725e-03 at 10.9952 bits. */
	const struct rule budget = { .kind = RULE_FULL, .bits = 11 };
	assert_true(slice_baseline(&c, &b, "mine", &budget, &err));
	double score = 0;
	for (int g = 0; g < b.count; g++)
		if (c.keeps[g])
			score += b.groups[g].scores[c.choice[g]];
	print_message("3B at 11 bits: %.6e at %.4f bits, the reference 6.639725e-03\n", score,
	              c.delivered_bits);
	assert_true(c.delivered_bits <= 11 && c.gap == 0);
	assert_true(score <= 0.006639725444500755 * (1 + 1e-12));
	coverage_free(&c);
	baseline_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_selections),
		cmocka_unit_test(test_pins),
		cmocka_unit_test(test_budget),
		cmocka_unit_test(test_budget_and_blocks),
		cmocka_unit_test(test_cost_excluded),
		cmocka_unit_test(test_cost_table),
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_bad_lists),
		cmocka_unit_test(test_pareto),
		cmocka_unit_test(test_imported),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
