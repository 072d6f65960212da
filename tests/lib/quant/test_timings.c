/* What a run cost: the first block apart from the rest, as a line that readers of the
 * log of edges pass over. */
#include "lib/quant/timings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "lib/artifact/log.h"
#include "lib/base/json.h"
#include "lib/base/progress.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h> /* after ours: it makes a macro of `fail` */

static void the_first_block_is_apart(void **state)
{
	(void)state;
	struct timings t = { 0 };
	timings_block(&t, monotonic_seconds() - 100, 16);
	timings_block(&t, monotonic_seconds(), 16);
	timings_block(&t, monotonic_seconds(), 7);
	assert_int_equal(t.first_samples, 16);
	assert_int_equal(t.rest_samples, 23);
	assert_true(t.first >= 100 && t.first < 150);
	assert_true(t.rest >= 0 && t.rest < 50);
}

static double number(const json_doc *doc, const char *field)
{
	double value;
	error err;
	if (!json_number(doc, doc->root, field, 0, 1e18, &value, &err))
		fail_msg("%s", err.text);
	return value;
}

static void a_line_is_no_edge(void **state)
{
	char folder[PATH_BYTES], path[PATH_BYTES], *line;
	size_t size;
	struct edge_log log;
	json_doc doc;
	error err;
	(void)state;
	const struct timings t = { .load = 1.5, .quantise = 0.25, .first = 3,
		.first_samples = 16, .rest = 12, .rest_samples = 128, .device_bytes = 1 << 30 };
	const struct log_entry edge = { .tool = "score", .target = "a.json" };
	assert_true(temp_folder_make(folder, &err));
	assert_true(timings_append(&t, folder, "score", "a \"b\".json", "GPU bf16", &err));
	assert_true(join_path(path, sizeof path, folder, "log/edges.jsonl", &err));
	assert_true(read_file(path, 1 << 16, &line, &size, &err));
	assert_true(json_parse(&doc, path, line, size, &err));
	assert_true(number(&doc, "load") == 1.5 && number(&doc, "quantise") == 0.25);
	assert_true(number(&doc, "first") == 3 && number(&doc, "first_samples") == 16);
	assert_true(number(&doc, "rest") == 12 && number(&doc, "rest_samples") == 128);
	assert_true(number(&doc, "device_bytes") == 1 << 30);
	assert_true(number(&doc, "host_bytes") > 1 << 16);
	json_free(&doc);
	free(line);
	assert_true(log_append(folder, &edge, &err));
	assert_true(log_read(&log, folder, &err));
	assert_int_equal(log.count, 1);
	assert_string_equal(log.entries[0].target, "a.json");
	log_free(&log);
	temp_folder_remove(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_block_is_apart),
		cmocka_unit_test(a_line_is_no_edge),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
