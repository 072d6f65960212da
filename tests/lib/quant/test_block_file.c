/* Blocks printed, read and merged: the order of the parts does not matter, and parts
 * that do not belong together are refused. The merged amax as a file. */
#include "lib/quant/block_file.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "lib/model/caches.h"
#include "lib/quant/amax_file.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

enum { BLOCKS = 7, LINEARS = 3 };

static const char *const NAMES[LINEARS] = { "visual.blocks.0.attn.qkv",
	"language_model.layers.0.mlp.up_proj", "language_model.layers.0.mlp.down_proj" };

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

/* ---- blocks made on the spot ---- */

/* Values that no sum or maximum is the same of in another order or grouping. */
static double value_at(int block, int linear)
{
	return sqrt(block * 7 + linear + 1) * pow(10, (block * 5 + linear) % 11 - 8);
}

static struct block make_block(int index, double *values, const char **names)
{
	static const char *skipped[] = { "images/b.jpg", "images/a \"b\".jpg" };
	static char keys[BLOCKS][65];
	snprintf(keys[index], sizeof keys[index], "%064x", index * 3 + 1);
	for (int i = 0; i < LINEARS; i++) {
		names[i] = NAMES[i];
		values[i] = value_at(index, i);
	}
	return (struct block){ .key = keys[index], .index = index, .samples = 16 - index,
		.cut = index, .loss = index * 0.1, .skipped = skipped,
		.skipped_count = index % 3, .count = LINEARS, .names = names,
		.values = values };
}

/* The file folder/name with these blocks. */
static const char *write_part(const char *name, const int *indices, int count,
                              enum block_kind kind)
{
	static char paths[BLOCKS + 1][PATH_BYTES];
	static int next;
	char *path = paths[next++ % (BLOCKS + 1)];
	text blocks[BLOCKS] = { { 0 } }, part = { 0 };
	error err;
	for (int i = 0; i < count; i++) {
		double values[LINEARS];
		const char *names[LINEARS];
		struct block b = make_block(indices[i], values, names);
		assert_true(print_block(&b, kind, &blocks[i], &err));
	}
	if (!print_part(blocks, count, kind, NULL, &part, &err) ||
	    !temp_folder_write(folder, name, part.data, part.length, &err) ||
	    !join_path(path, PATH_BYTES, folder, name, &err))
		fail_msg("%s", err.text);
	for (int i = 0; i < count; i++)
		text_free(&blocks[i]);
	text_free(&part);
	return path;
}

static const char *write_file_text(const char *name, const char *content)
{
	static char path[PATH_BYTES];
	error err;
	assert_true(temp_folder_write(folder, name, content, strlen(content), &err));
	assert_true(join_path(path, sizeof path, folder, name, &err));
	return path;
}

static void expect_refused(const char *const *paths, int count, enum block_kind kind,
                           const char *place, const char *says)
{
	struct block_list list;
	error err;
	assert_false(read_parts(&list, paths, count, kind, &err));
	expect_error(&err, EXIT_BAD_INPUT, place, says, NULL);
}

/* ---- reading back ---- */

static void a_block_comes_back_from_its_file(void **state)
{
	(void)state;
	const int all[BLOCKS] = { 0, 1, 2, 3, 4, 5, 6 };
	const char *path = write_part("all.json", all, BLOCKS, BLOCK_GRADIENT);
	struct block_list list;
	error err;
	if (!read_parts(&list, &path, 1, BLOCK_GRADIENT, &err))
		fail_msg("%s", err.text);
	assert_int_equal(list.count, BLOCKS);
	for (int i = 0; i < BLOCKS; i++) {
		double values[LINEARS];
		const char *names[LINEARS];
		struct block expected = make_block(i, values, names);
		const struct block *found = &list.blocks[i];
		assert_string_equal(found->key, expected.key);
		assert_int_equal(found->index, i);
		assert_int_equal(found->samples, expected.samples);
		assert_int_equal(found->cut, expected.cut);
		assert_true(found->loss == expected.loss);
		assert_int_equal(found->skipped_count, expected.skipped_count);
		for (int s = 0; s < found->skipped_count; s++)
			assert_string_equal(found->skipped[s], expected.skipped[s]);
		assert_int_equal(found->count, LINEARS);
		for (int l = 0; l < LINEARS; l++) {
			assert_string_equal(found->names[l], NAMES[l]);
			assert_true(found->values[l] == values[l]); /* to the last bit */
		}
	}
	block_list_free(&list);
}

/* Extremes of what a score can be survive as text. */
static void no_value_changes_as_text(void **state)
{
	(void)state;
	double values[] = { 0, DBL_TRUE_MIN, DBL_MIN, DBL_MAX, 1e21, 0.1 + 0.2, 5e-324, 1.0 / 3 };
	enum { COUNT = sizeof values / sizeof *values };
	char texts[COUNT][16];
	const char *names[COUNT];
	for (int i = 0; i < COUNT; i++) {
		snprintf(texts[i], sizeof texts[i], "l%d", i);
		names[i] = texts[i];
	}
	struct block b = { .key = "k", .samples = 1, .count = COUNT, .names = names,
		.values = values };
	text block = { 0 }, part = { 0 };
	struct block_list list;
	error err;
	assert_true(print_block(&b, BLOCK_GRADIENT, &block, &err));
	assert_true(print_part(&block, 1, BLOCK_GRADIENT, NULL, &part, &err));
	const char *path = write_file_text("values.json", part.data);
	assert_true(read_parts(&list, &path, 1, BLOCK_GRADIENT, &err));
	assert_memory_equal(list.blocks[0].values, values, sizeof values);
	block_list_free(&list);
	text_free(&block);
	text_free(&part);
}

/* ---- merging ---- */

static void merge_text(const char *const *paths, int count, enum block_kind kind, text *out)
{
	struct block_list list;
	struct block merged;
	error err;
	if (!read_parts(&list, paths, count, kind, &err) ||
	    !merge_blocks(&list, kind, &merged, &err) || !print_block(&merged, kind, out, &err))
		fail_msg("%s", err.text);
	block_list_free(&list);
}

static void the_order_of_parts_does_not_matter(void **state)
{
	(void)state;
	/* Blocks dealt to parts as b % parts, some parts empty, parts in any order. */
	static const int dealt[][4] = { { 1 }, { 2, 1, 0 }, { 3, 2, 0, 1 }, { 3, 1, 2, 0 } };
	for (int kind = BLOCK_AMAX; kind <= BLOCK_GRADIENT; kind++) {
		text whole = { 0 };
		const int all[BLOCKS] = { 0, 1, 2, 3, 4, 5, 6 };
		const char *path = write_part("whole.json", all, BLOCKS, (enum block_kind)kind);
		merge_text(&path, 1, (enum block_kind)kind, &whole);
		for (size_t d = 1; d < sizeof dealt / sizeof *dealt; d++) {
			int parts = dealt[d][0];
			const char *paths[4];
			text merged = { 0 };
			for (int p = 0; p < parts; p++) {
				int mine[BLOCKS], count = 0, part = dealt[d][p + 1] % parts;
				char name[32];
				for (int b = BLOCKS - 1; b >= 0; b--) /* backwards within a part */
					if (b % parts == part)
						mine[count++] = b;
				snprintf(name, sizeof name, "part.%d.json", part);
				paths[p] = write_part(name, mine, count, (enum block_kind)kind);
			}
			merge_text(paths, parts, (enum block_kind)kind, &merged);
			assert_string_equal(merged.data, whole.data);
			text_free(&merged);
		}
		text_free(&whole);
	}
}

static void merges_by_maximum_or_by_sum(void **state)
{
	(void)state;
	const int all[BLOCKS] = { 0, 1, 2, 3, 4, 5, 6 };
	for (int kind = BLOCK_AMAX; kind <= BLOCK_GRADIENT; kind++) {
		const char *path = write_part("all.json", all, BLOCKS, (enum block_kind)kind);
		struct block_list list;
		struct block merged;
		error err;
		double loss = 0;
		assert_true(read_parts(&list, &path, 1, (enum block_kind)kind, &err));
		assert_true(merge_blocks(&list, (enum block_kind)kind, &merged, &err));
		for (int l = 0; l < LINEARS; l++) {
			double sum = 0, largest = 0;
			for (int b = 0; b < BLOCKS; b++) {
				sum += value_at(b, l);
				largest = fmax(largest, value_at(b, l));
			}
			assert_true(merged.values[l] == (kind == BLOCK_AMAX ? largest : sum));
		}
		for (int b = 0; b < BLOCKS; b++)
			loss += b * 0.1;
		assert_true(merged.loss == loss);
		assert_int_equal(merged.samples, 16 * BLOCKS - 21);
		assert_int_equal(merged.cut, 21);
		assert_int_equal(merged.skipped_count, 6); /* 0 1 2 0 1 2 0 */
		assert_int_equal(strlen(merged.key), 64);
		block_list_free(&list);
	}
}

/* The merged key stands for all keys: one other key, another merged one. */
static void the_key_depends_on_every_block(void **state)
{
	(void)state;
	text merged[2] = { { 0 } };
	for (int i = 0; i < 2; i++) {
		char content[512];
		snprintf(content, sizeof content,
		         "{\"kind\": \"amax\", \"blocks\": [{\"key\": \"k%d\", \"index\": 0, "
		         "\"samples\": 1, \"cut\": 0, \"loss\": 0, \"skipped\": [], "
		         "\"values\": {\"a\": 1}}]}", i);
		const char *path = write_file_text("key.json", content);
		merge_text(&path, 1, BLOCK_AMAX, &merged[i]);
	}
	assert_string_not_equal(merged[0].data, merged[1].data);
	text_free(&merged[0]);
	text_free(&merged[1]);
}

/* ---- what does not belong together ---- */

static void refuses_gaps_and_duplicates(void **state)
{
	(void)state;
	const int evens[] = { 0, 2, 4, 6 }, odds[] = { 1, 3, 5 }, some[] = { 1, 5 };
	const char *even = write_part("even.json", evens, 4, BLOCK_AMAX);
	const char *odd = write_part("odd.json", odds, 3, BLOCK_AMAX);
	const char *gap = write_part("gap.json", some, 2, BLOCK_AMAX);
	const char *empty = write_part("empty.json", some, 0, BLOCK_AMAX);
	expect_refused((const char *[]){ even }, 1, BLOCK_AMAX, "even.json",
	               "expected block 1, found block 2");
	expect_refused((const char *[]){ odd }, 1, BLOCK_AMAX, "odd.json",
	               "expected block 0, found block 1");
	expect_refused((const char *[]){ even, gap }, 2, BLOCK_AMAX, "even.json",
	               "expected block 3, found block 4");
	expect_refused((const char *[]){ odd, even, odd }, 3, BLOCK_AMAX, "odd.json",
	               "expected block 2, found block 1");
	expect_refused((const char *[]){ empty }, 1, BLOCK_AMAX, "empty.json",
	               "at least one block");
	expect_refused(NULL, 0, BLOCK_AMAX, "no part", "at least one block");
}

static void refuses_blocks_of_another_kind(void **state)
{
	(void)state;
	const int evens[] = { 0, 2, 4, 6 }, odds[] = { 1, 3, 5 };
	const char *amax = write_part("amax.json", evens, 4, BLOCK_AMAX);
	const char *gradient = write_part("gradient.json", odds, 3, BLOCK_GRADIENT);
	expect_refused((const char *[]){ amax, gradient }, 2, BLOCK_AMAX, "gradient.json:1:1",
	               "expected blocks of kind \"amax\", found \"gradient\"");
	expect_refused((const char *[]){ gradient, amax }, 2, BLOCK_GRADIENT, "amax.json:1:1",
	               "expected blocks of kind \"gradient\", found \"amax\"");
}

#define BLOCK(index, values) "{\"key\": \"k\", \"index\": " index ", \"samples\": 1, " \
	"\"cut\": 0, \"loss\": 0, \"skipped\": [], \"values\": " values "}"
#define PART(blocks) "{\"kind\": \"gradient\",\n\"blocks\": [\n" blocks "]}"

static void refuses_blocks_of_other_layers(void **state)
{
	(void)state;
	static const char *const others[] = {
		PART(BLOCK("0", "{\"a\": 1, \"b\": 2}") ", " BLOCK("1", "{\"a\": 1}")),
		PART(BLOCK("0", "{\"a\": 1, \"b\": 2}") ", " BLOCK("1", "{\"a\": 1, \"c\": 2}")),
		PART(BLOCK("0", "{\"a\": 1, \"b\": 2}") ", " BLOCK("1", "{\"b\": 2, \"a\": 1}")),
	};
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		const char *path = write_file_text("other.json", others[i]);
		expect_refused(&path, 1, BLOCK_GRADIENT, "other.json",
		               "block 1 measured other layers than block 0");
	}
}

static void refuses_damaged_parts(void **state)
{
	(void)state;
	static const struct {
		const char *content, *place, *says;
	} cases[] = {
		{ "", "p.json:1:1", "" },
		{ "[]", "p.json:1:1", "expected an object" },
		{ "{\"kind\": \"gradient\"}", "p.json:1:1", "blocks" },
		{ "{\"kind\": 3, \"blocks\": []}", "p.json:1:2", "kind" },
		{ PART("7"), "p.json:3:1", "expected a block" },
		{ PART("{}"), "p.json:3:1", "skipped" },
		{ PART(BLOCK("-1", "{}")), "blocks[0].index", "found -1" },
		{ PART(BLOCK("0.5", "{}")), "blocks[0].index", "found 0.5" },
		{ PART(BLOCK("0", "[]")), "blocks[0].values", "expected an object" },
		{ PART(BLOCK("0", "{\"a\": -1}")), "blocks[0].values.a", ">= 0" },
		{ PART(BLOCK("0", "{\"a\": \"1\"}")), "blocks[0].values.a", "a number" },
		{ PART(BLOCK("0", "{\"a\": null}")), "blocks[0].values.a", "a number" },
		{ PART(BLOCK("0", "{\"a\": 1, \"a\": 1}")), "p.json:3:", "\"a\"" },
		{ PART(BLOCK("0", "{\"a\": 1e999}")), "p.json:3:", "1e999" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *path = write_file_text("p.json", cases[i].content);
		expect_refused(&path, 1, BLOCK_GRADIENT, cases[i].place, cases[i].says);
	}
	const char *absent = "no/such/part.json";
	expect_refused(&absent, 1, BLOCK_GRADIENT, absent, "cannot open");
}

/* ---- amax.json ---- */

static void make_shapes(struct linear_shape shapes[LINEARS + 1])
{
	memset(shapes, 0, (LINEARS + 1) * sizeof *shapes);
	for (int i = 0; i < LINEARS; i++)
		snprintf(shapes[i].name, NAME_BYTES, "%s", NAMES[i]);
	snprintf(shapes[LINEARS].name, NAME_BYTES, "lm_head");
}

static void an_amax_comes_back_from_its_file(void **state)
{
	(void)state;
	struct linear_shape shapes[LINEARS + 1];
	double values[LINEARS];
	const char *names[LINEARS];
	struct block b = make_block(2, values, names);
	struct amax_table table;
	text out = { 0 };
	error err;
	values[0] = 0;
	values[1] = (double)FLT_TRUE_MIN;
	values[2] = (double)nextafterf(3.1366801f, 4);
	make_shapes(shapes);
	assert_true(print_amax(&b, &out, &err));
	if (!amax_read(&table, write_file_text("amax.json", out.data), shapes, LINEARS + 1, &err))
		fail_msg("%s", err.text);
	for (int i = 0; i < LINEARS; i++)
		assert_true((double)table.amax[i] == values[i]);
	assert_true(table.amax[LINEARS] == -1); /* was not measured */
	const cJSON *skipped = cJSON_GetObjectItem(table.doc.root, "skipped");
	assert_int_equal(cJSON_GetArraySize(skipped), 2);
	assert_int_equal(cJSON_GetObjectItem(table.doc.root, "samples")->valueint, 14);
	amax_free(&table);
	text_free(&out);
}

static void an_amax_of_the_cache_comes_back(void **state)
{
	(void)state;
	enum { PARTS = 4 };
	struct linear_shape shapes[LINEARS + 1];
	double values[LINEARS + PARTS];
	const char *names[LINEARS + PARTS];
	static char parts[PARTS][NAME_BYTES];
	struct block b = make_block(2, values, names);
	struct amax_table table;
	text out = { 0 };
	error err;
	for (int i = 0; i < PARTS; i++, b.count++) {
		name_cache(i, parts[i]);
		names[LINEARS + i] = parts[i];
		values[LINEARS + i] = (double)((float)i + 0.1f);
	}
	make_shapes(shapes);
	assert_true(print_amax(&b, &out, &err));
	if (!amax_read(&table, write_file_text("amax.json", out.data), shapes, LINEARS + 1, &err))
		fail_msg("%s", err.text);
	assert_int_equal(table.cache_count, PARTS);
	for (int i = 0; i < PARTS; i++)
		assert_true((double)table.cache[i] == values[LINEARS + i]);
	amax_free(&table);
	text_free(&out);
}

#define FACTS "\"key\": \"k\", \"samples\": 4, \"cut\": 0, \"skipped\": [],\n"

#define CACHE "language_model.layers.0.self_attn."

static void refuses_a_damaged_amax(void **state)
{
	(void)state;
	static const struct {
		const char *content, *place, *says;
	} cases[] = {
		{ "{" FACTS "\"amax\": {\"lm_head\": -1}}", "amax.lm_head", "found -1" },
		{ "{" FACTS "\"amax\": {\"lm_head\": 1e39}}", "a.json:2:10", "found inf" },
		{ "{" FACTS "\"amax\": {\"lm_head\": \"1\"}}", "amax.lm_head", ">= 0" },
		{ "{" FACTS "\"amax\": {\"layers.9\": 1}}", "amax.layers.9", "no such linear" },
		{ "{" FACTS "\"amax\": {}, \"kv_cache_amax\": {\"" CACHE "v_cache\": 1}}",
		  "kv_cache_amax." CACHE "v_cache", "expected " CACHE "k_cache" },
		{ "{" FACTS "\"amax\": {}, \"kv_cache_amax\": {\"" CACHE "k_cache\": -2}}",
		  "kv_cache_amax." CACHE "k_cache", "found -" },
		{ "{" FACTS "\"amax\": []}", "a.json:2:1", "expected an object" },
		{ "{\"amax\": {}}", "a.json:1:1", "key" },
		{ "{\"key\": \"k\", \"samples\": 0}", "samples", "found 0" },
		{ "{\"key\": \"k\", \"samples\": 1, \"cut\": 0}", "a.json:1:1", "skipped" },
	};
	struct linear_shape shapes[LINEARS + 1];
	struct amax_table table;
	error err;
	make_shapes(shapes);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *path = write_file_text("a.json", cases[i].content);
		assert_false(amax_read(&table, path, shapes, LINEARS + 1, &err));
		expect_error(&err, EXIT_BAD_INPUT, "a.json", cases[i].place, cases[i].says, NULL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_block_comes_back_from_its_file),
		cmocka_unit_test(no_value_changes_as_text),
		cmocka_unit_test(the_order_of_parts_does_not_matter),
		cmocka_unit_test(merges_by_maximum_or_by_sum),
		cmocka_unit_test(the_key_depends_on_every_block),
		cmocka_unit_test(refuses_gaps_and_duplicates),
		cmocka_unit_test(refuses_blocks_of_another_kind),
		cmocka_unit_test(refuses_blocks_of_other_layers),
		cmocka_unit_test(refuses_damaged_parts),
		cmocka_unit_test(an_amax_comes_back_from_its_file),
		cmocka_unit_test(an_amax_of_the_cache_comes_back),
		cmocka_unit_test(refuses_a_damaged_amax),
	};
	return cmocka_run_group_tests(tests, make, clean);
}
