/* The bench's table of results that were written by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "lib/base/json.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h> /* after ours: it makes a macro of `fail` */

static char folder[PATH_BYTES];

static void put(const char *name, const char *content)
{
	error err;
	if (!temp_folder_write(folder, name, content, strlen(content), &err))
		fail_msg("%s", err.text);
}

static int make(void **state)
{
	error err;
	(void)state;
	return temp_folder_make(folder, &err) ? 0 : -1;
}

static int clean(void **state)
{
	(void)state;
	temp_folder_remove(folder);
	return 0;
}

/* The program's exit code; what it printed is in table.txt. */
static int run_table(const char *arguments)
{
	char command[6 * PATH_BYTES];
	const char *tree = getenv("QUERN_TREE");
	int length = snprintf(command, sizeof command, "%s/bench/table %s --json %s/bench.json "
	         "%s/results.txt %s demo/tiny-qwen2_5-vl >%s/table.txt 2>&1",
	         tree ? tree : "out", arguments, folder, folder, folder, folder);
	assert_in_range(length, 1, sizeof command - 1);
	int status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static double number(const json_doc *doc, const char *stage, const char *field)
{
	error err;
	double value = 0;
	const cJSON *stages = json_object(doc, doc->root, "stages", &err);
	const cJSON *row = stages ? json_object(doc, stages, stage, &err) : NULL;
	if (!row || !json_number(doc, row, field, 0, 1e18, &value, &err))
		fail_msg("%s", err.text);
	return value;
}

static const char *reason(const json_doc *doc, const char *stage)
{
	error err;
	const char *value = NULL;
	const cJSON *stages = json_object(doc, doc->root, "stages", &err);
	const cJSON *row = stages ? json_object(doc, stages, stage, &err) : NULL;
	if (!row || !json_text(doc, row, "reason", &value, &err))
		fail_msg("%s", err.text);
	return value;
}

static void load(json_doc *doc)
{
	char path[PATH_BYTES];
	error err;
	assert_true(join_path(path, sizeof path, folder, "bench.json", &err));
	if (!json_load(doc, path, 1 << 20, &err))
		fail_msg("%s", err.text);
}

static void near(double found, double expected)
{
	if (!(found > 0.999 * expected && found < 1.001 * expected))
		fail_msg("expected %g, found %g", expected, found);
}

static void a_steady_rate(void **state)
{
	json_doc doc;
	(void)state;
	put("samples.json", "{\"shape\": \"tiny\", \"image\": {\"tokens\": 448, \"graded\": 30, "
	    "\"grid_h\": 34, \"grid_w\": 46}, \"text\": {\"tokens\": 512, \"graded\": 511, "
	    "\"grid_h\": 0, \"grid_w\": 0}}");
	put("results.txt", "{\"stage\":\"calibrate_text\",\"code\":0,\"seconds\":10,"
	    "\"host_bytes\":3000000000,\"timings\":{\"at\":1,\"process\":2,\"tool\":\"calibrate\","
	    "\"target\":\"t\",\"device\":\"NVIDIA H200 bf16\",\"load\":2,\"quantise\":0.5,"
	    "\"first\":3,\"first_samples\":16,\"rest\":4,\"rest_samples\":128,"
	    "\"host_bytes\":1,\"device_bytes\":24000000000}}\n"
	    "{\"stage\":\"kl_image\",\"code\":3,\"seconds\":1,\"host_bytes\":1,"
	    "\"reason\":\"score: no such \\\"thing\\\"\"}\n");
	assert_int_equal(run_table(""), EXIT_OK);
	load(&doc);
	near(number(&doc, "calibrate_text", "samples"), 128);
	near(number(&doc, "calibrate_text", "ms_per_sample"), 31.25);
	near(number(&doc, "calibrate_text", "start_seconds"), 0.5);
	near(number(&doc, "calibrate_text", "measure_seconds"), 7);
	near(number(&doc, "calibrate_text", "device_gb"), 24);
	near(number(&doc, "calibrate_text", "host_gb"), 3);
	/* 6 layers: q 256x256, k and v 128x256, o 256x256, three of 688x256; attention of
	 * 2 heads of 128. */
	double tflop = 6 * (2.0 * 512 * (4 * 256 * 256 - 65536 + 3 * 688 * 256) +
	                    4.0 * 256 * 512 * 513 / 2) / 1e12;
	near(number(&doc, "calibrate_text", "tflops"), tflop * 128 / 4);
	assert_string_equal(reason(&doc, "kl_image"), "score: no such \"thing\"");
	assert_string_equal(reason(&doc, "export"), "not asked for");
	json_free(&doc);
}

/* A stage that the device cannot run is no failure; one that broke is. */
static void failures(void **state)
{
	json_doc doc;
	(void)state;
	put("results.txt", "{\"stage\":\"quantize\",\"code\":139,\"seconds\":1,\"host_bytes\":1,"
	    "\"reason\":\"it said nothing\"}\n");
	assert_int_equal(run_table("--peak 100"), EXIT_BAD_INPUT);
	load(&doc);
	assert_string_equal(reason(&doc, "quantize"), "it said nothing");
	json_free(&doc);
	put("results.txt", "{\"stage\":\"lunch\",\"code\":0,\"seconds\":1,\"host_bytes\":1}\n");
	assert_int_equal(run_table(""), EXIT_BAD_INPUT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_steady_rate),
		cmocka_unit_test(failures),
	};
	return cmocka_run_group_tests(tests, make, clean);
}
