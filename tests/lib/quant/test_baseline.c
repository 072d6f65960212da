/* Scored baselines as manifests hold them: ranked, written, read back, refused. */
#include "lib/quant/baseline.h"

#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/file.h"
#include "tests/support/expect_error.h"
#include "tests/support/shared_data.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

#define REAL "fixtures/baseline-real/fp8_autoquant_all_layers_fp8_quant_manifest.json"

static char folder[PATH_BYTES], path[PATH_BYTES];

static int make(void **state)
{
	(void)state;
	error err;
	return temp_folder_make(folder, &err) &&
	       join_path(path, sizeof path, folder, "m.json", &err) ? 0 : -1;
}

static int clean(void **state)
{
	(void)state;
	temp_folder_remove(folder);
	return 0;
}

static void write_manifest(const char *content)
{
	error err;
	assert_true(temp_folder_write(folder, "m.json", content, strlen(content), &err));
}

/* ---- ranking ---- */

#define ENTRY(name, score) "\"" name "\": {\"formats\": [\"F\", \"N\"], " \
	"\"scores\": [" score ", 0], \"costs\": [4, 8]}"
#define ALONE(name) "\"" name "\": {\"formats\": [\"N\"], \"scores\": [0], " \
	"\"costs\": [8]}"
#define MANIFEST(groups) "{\"scheme\": {\"name\": \"s\"},\n\"layer_sensitivity\": {" \
	groups "}}"

static void ranks_by_score_then_module_order(void **state)
{
	(void)state;
	static const int ranking[] = { 3, 1, 2, 4, 0, 6, 5 };
	struct baseline b;
	error err;
	write_manifest(MANIFEST(ENTRY("a", "5") ", " ENTRY("b", "2") ", " ENTRY("c", "2") ", "
	                        ENTRY("d", "0") ", " ENTRY("e", "2.0000001") ", " ALONE("f")
	                        ", " ENTRY("g", "1e300")));
	if (!baseline_read(&b, path, &err))
		fail_msg("%s", err.text);
	assert_string_equal(b.name, "s");
	assert_int_equal(b.count, 7);
	assert_memory_equal(b.ranking, ranking, sizeof ranking);
	for (int i = 0; i < 7; i++)
		assert_int_equal(b.groups[ranking[i]].rank, i + 1);
	for (int i = 0; i < 7; i++)
		assert_int_equal(is_candidate(&b.groups[i]), i != 5);
	assert_true(b.groups[0].costs[0] == 4 && b.groups[0].costs[1] == 8);
	assert_string_equal(b.groups[0].formats[1], "N");
	baseline_free(&b);
}

static void comes_back_from_what_it_writes(void **state)
{
	(void)state;
	static const double scores[] = { 0.1, DBL_MIN, 5e-324, 1.0 / 3, DBL_MAX };
	struct json_tree tree = tree_new();
	struct baseline b = { .count = 5 }, read;
	text out = { 0 };
	error err;
	b.groups = arena_alloc(&b.memory, 5, sizeof *b.groups, &err);
	for (int i = 0; i < 5; i++)
		b.groups[i] = (struct scored_group){
			.name = arena_printf(&b.memory, &err, "layers.%d", i), .format_count = 2,
			.formats = { "F", FORMAT_NONE }, .scores = { scores[i], 0 },
			.costs = { i, 2 * i }, .importance = scores[i] };
	assert_true(rank_groups(&b, &err));
	tree_text(&tree, tree_object(&tree, tree.root, "scheme"), "name", "x");
	add_sensitivity(&tree, tree.root, &b);
	assert_true(tree_finish(&tree, &out, &err));
	write_manifest(out.data);
	if (!baseline_read(&read, path, &err))
		fail_msg("%s", err.text);
	for (int i = 0; i < 5; i++) {
		assert_string_equal(read.groups[i].name, b.groups[i].name);
		assert_memory_equal(read.groups[i].scores, b.groups[i].scores, 2 * sizeof(double));
		assert_memory_equal(read.groups[i].costs, b.groups[i].costs, 2 * sizeof(double));
		assert_int_equal(read.groups[i].rank, b.groups[i].rank);
		assert_int_equal(read.ranking[i], b.ranking[i]);
	}
	/* The manifest's own ranking says the same. */
	const cJSON *row = cJSON_GetObjectItem(read.doc.root, "sensitivity_ranking")->child;
	for (int i = 0; i < 5; i++, row = row->next)
		assert_string_equal(cJSON_GetObjectItem(row, "name")->valuestring,
		                    b.groups[b.ranking[i]].name);
	text_free(&out);
	baseline_free(&b);
	baseline_free(&read);
}

static void ranks_a_real_manifest_as_it_was_ranked(void **state)
{
	(void)state;
	char real[PATH_BYTES];
	struct baseline b;
	error err;
	if (!find_shared(real, REAL, "ranks_a_real_manifest_as_it_was_ranked"))
		skip();
	if (!baseline_read(&b, real, &err))
		fail_msg("%s", err.text);
	const cJSON *table = cJSON_GetObjectItem(b.doc.root, "layer_sensitivity");
	const cJSON *row = cJSON_GetObjectItem(b.doc.root, "sensitivity_ranking")->child;
	assert_int_equal(b.count, 275);
	for (int i = 0; i < b.count; i++, row = row->next) {
		const struct scored_group *group = &b.groups[b.ranking[i]];
		const cJSON *entry = cJSON_GetObjectItemCaseSensitive(table, group->name);
		assert_string_equal(group->name, cJSON_GetObjectItem(row, "name")->valuestring);
		assert_int_equal(group->rank, cJSON_GetObjectItem(entry, "rank")->valueint);
		assert_true(group->importance ==
		            cJSON_GetObjectItem(entry, "importance")->valuedouble);
	}
	assert_null(row);
	baseline_free(&b);
}

/* ---- errors ---- */

static void refuses_damaged_manifests(void **state)
{
	(void)state;
	static const struct {
		const char *content, *place, *says;
	} cases[] = {
		{ "", "m.json:1:1", "" },
		{ "[]", "m.json:1:1", "expected an object" },
		{ "{}", "m.json:1:1", "scheme" },
		{ "{\"scheme\": 1}", "m.json:1:2: scheme", "expected an object, found 1" },
		{ "{\"scheme\": {}}", "m.json:1:2: scheme", "name" },
		{ "{\"scheme\": {\"name\": \"s\"}}", "m.json:1:1", "layer_sensitivity" },
		{ MANIFEST(""), "m.json:2:1: layer_sensitivity", "at least one group" },
		{ MANIFEST("\"a\": []"), "m.json:2:23: layer_sensitivity.a", "an object" },
		{ MANIFEST("\"a\": {}"), "layer_sensitivity.a", "formats" },
		{ MANIFEST("\"a\": {\"formats\": [], \"scores\": [], \"costs\": []}"),
		  "layer_sensitivity.a", "from 1 to 8, found 0, 0 and 0" },
		{ MANIFEST("\"a\": {\"formats\": [\"F\"], \"scores\": [1, 2], \"costs\": [1]}"),
		  "layer_sensitivity.a", "found 1, 2 and 1" },
		{ MANIFEST("\"a\": {\"formats\": [1], \"scores\": [1], \"costs\": [1]}"),
		  "layer_sensitivity.a", "at index 0" },
		{ MANIFEST("\"a\": {\"formats\": [\"F\"], \"scores\": [-1], \"costs\": [1]}"),
		  "layer_sensitivity.a", "a score >= 0" },
		{ MANIFEST("\"a\": {\"formats\": [\"F\"], \"scores\": [null], \"costs\": [1]}"),
		  "layer_sensitivity.a", "a score >= 0" },
		{ MANIFEST("\"a\": {\"formats\": [\"F\"], \"scores\": [1], \"costs\": [-1]}"),
		  "layer_sensitivity.a", "a cost >= 0" },
		{ MANIFEST(ENTRY("a", "1") ", " ENTRY("a", "2")), "m.json:2:", "\"a\"" },
		{ MANIFEST(ENTRY("a", "NaN")), "m.json:2:", "" },
		{ MANIFEST(ENTRY("a", "1e999")), "m.json:2:", "1e999" },
		{ MANIFEST("\"a\": {\"formats\": [\"1\", \"2\", \"3\", \"4\", \"5\", \"6\", \"7\", "
		           "\"8\", \"9\"], \"scores\": [], \"costs\": []}"),
		  "layer_sensitivity.a", "found 9, 0 and 0" },
	};
	struct baseline b;
	error err;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		write_manifest(cases[i].content);
		assert_false(baseline_read(&b, path, &err));
		expect_error(&err, EXIT_BAD_INPUT, "m.json:", cases[i].place, cases[i].says, NULL);
	}
	assert_false(baseline_read(&b, "no/such/manifest.json", &err));
	expect_error(&err, EXIT_BAD_INPUT, "no/such/manifest.json", NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranks_by_score_then_module_order),
		cmocka_unit_test(comes_back_from_what_it_writes),
		cmocka_unit_test(ranks_a_real_manifest_as_it_was_ranked),
		cmocka_unit_test(refuses_damaged_manifests),
	};
	return cmocka_run_group_tests(tests, make, clean);
}
