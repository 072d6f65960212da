/* Formats of the key/value cache in the catalog: schemes and families that have one, the
 * schemes that nobody lists, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/quant/catalog.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

static char folder[PATH_BYTES], path[PATH_BYTES];

static int make(void **state)
{
	(void)state;
	error err;
	return temp_folder_make(folder, &err) &&
	       join_path(path, sizeof path, folder, "c.json", &err) ? 0 : -1;
}

static int clean(void **state)
{
	(void)state;
	temp_folder_remove(folder);
	return 0;
}

#define C8 "\"c8\": {\"element\": \"fp8_e4m3\", \"granularity\": \"tensor\"}"
#define OWN "\"own\": {\"element\": \"fp8_e4m3\", \"granularity\": \"tensor\", \"symmetric\": true}"
#define A_C8 "\"a_c8\": {\"element\": \"fp8_e4m3\", \"granularity\": \"tensor\"}"
#define SCHEME "\"baseline\": \"b\", \"percent\": 5"

/* A catalog with these formats of the cache, more of a baseline, of a family and of the
 * one scheme, and more schemes. */
static void write_catalog(const char *formats, const char *baseline, const char *family,
                          const char *scheme, const char *schemes)
{
	text content = { 0 };
	error err;
	text_printf(&content,
	            "{\"models\": {\"m\": {\"path\": \"m\", \"kind\": \"qwen2_5_vl\"}},\n"
	            "\"calibrations\": {\"k\": {\"captions\": \"c.txt\", \"data\": \"D\", "
	            "\"prompt_form\": \"text\"}},\n"
	            "\"formats\": {\"F\": {\"element\": \"fp8_e4m3\", \"granularity\": "
	            "\"tensor\"}},\n"
	            "\"kv_cache_formats\": {%s},\n"
	            "\"baselines\": {\"b\": {\"model\": \"m\", \"calibration\": \"k\", "
	            "\"formats\": [\"F\"]%s}},\n"
	            "\"families\": {\"f{percent}_x\": {\"baseline\": \"b\", \"percent\": [10, 20]%s}},\n"
	            "\"schemes\": {\"s\": {" SCHEME "%s}%s}}\n", formats, baseline, family, scheme,
	            schemes);
	assert_true(temp_folder_write(folder, "c.json", content.data, content.length, &err));
	text_free(&content);
}

static void load(struct catalog *c, const char *set)
{
	const char *sets[] = { set };
	const struct catalog_overrides overrides = { .sets = { sets, set ? 1 : 0 } };
	error err;
	if (!catalog_load(c, path, &overrides, &err))
		fail_msg("%s", err.text);
}

static const struct scheme *find_scheme(const struct catalog *c, const char *name)
{
	for (int i = 0; i < c->scheme_count; i++)
		if (strcmp(c->schemes[i].name, name) == 0)
			return &c->schemes[i];
	fail_msg("no scheme %s", name);
	return NULL;
}

static void every_scheme_has_one_that_nobody_lists(void **state)
{
	(void)state;
	static const char *const names[] = { "b_c8", "b_own", "s_c8", "s_own" };
	struct catalog c;
	/* What has a format already gets no other. */
	write_catalog(C8 ", " OWN, "", ", \"kv_cache\": \"own\"", "", "");
	load(&c, NULL);
	assert_int_equal(c.scheme_count, 4);
	assert_null(find_scheme(&c, "s")->kv_cache);
	assert_ptr_equal(find_scheme(&c, "f10_x")->kv_cache, &c.kv_formats[1]);
	assert_ptr_equal(find_scheme(&c, "f20_x")->kv_cache, &c.kv_formats[1]);
	assert_int_equal(c.unlisted_count, 4);
	for (int i = 0; i < 4; i++)
		assert_string_equal(c.unlisted[i].name, names[i]);
	assert_true(c.unlisted[2].rule.percent == 5);
	catalog_free(&c);
	/* Listed under the name it would have anyway. */
	write_catalog(C8, "", "", "", ", \"s_c8\": {" SCHEME ", \"kv_cache\": \"c8\"}");
	load(&c, NULL);
	assert_ptr_equal(find_scheme(&c, "s_c8")->kv_cache, &c.kv_formats[0]);
	assert_int_equal(c.unlisted_count, 4 - 1);
	for (int i = 0; i < c.unlisted_count; i++)
		assert_string_not_equal(c.unlisted[i].name, "s_c8");
	catalog_free(&c);
	/* No formats, no schemes; and none of a profile without scales. */
	write_catalog("", "", "", "", "");
	load(&c, NULL);
	assert_int_equal(c.unlisted_count, 0);
	catalog_free(&c);
	write_catalog(C8, ", \"profile\": \"bf16\"", "", "", "");
	load(&c, NULL);
	assert_int_equal(c.unlisted_count, 0);
	catalog_free(&c);
}

/* A member of a family keeps its cache when a field of it is changed. */
static void changes_keep_the_cache(void **state)
{
	(void)state;
	struct catalog c;
	write_catalog(OWN, "", ", \"kv_cache\": \"own\"", "", "");
	load(&c, "schemes.f10_x.effective_bits=12");
	assert_string_equal(find_scheme(&c, "f10_x")->kv_cache->name, "own");
	assert_true(find_scheme(&c, "f10_x")->rule.bits == 12);
	catalog_free(&c);
	load(&c, "schemes.s.kv_cache=own");
	assert_string_equal(find_scheme(&c, "s")->kv_cache->name, "own");
	catalog_free(&c);
}

static void refuses_what_nobody_reads(void **state)
{
	(void)state;
	static const struct {
		const char *formats, *baseline, *family, *scheme, *schemes, *place, *says;
	} cases[] = {
		{ "\"c8\": {\"granularity\": \"tensor\"}", "", "", "", "",
		  "4:22: kv_cache_formats.c8", "element" },
		{ "\"c8\": {\"element\": \"int8\", \"granularity\": \"tensor\"}", "", "", "", "",
		  "4:22: kv_cache_formats.c8", "found \"int8\"" },
		{ "\"c8\": {\"element\": \"fp8_e4m3\", \"granularity\": \"head\"}", "", "", "", "",
		  "4:22: kv_cache_formats.c8", "found \"fp8_e4m3\" and \"head\"" },
		{ "\"c8\": {\"element\": \"fp8_e4m3\", \"granularity\": \"tensor\", "
		  "\"symmetric\": false}", "", "", "", "",
		  "4:77: kv_cache_formats.c8.symmetric", "expected true" },
		{ "\"c8\": {\"element\": \"fp8_e4m3\", \"granularity\": \"tensor\", \"bits\": 8}",
		  "", "", "", "", "4:77: kv_cache_formats.c8.bits", "unknown field" },
		{ "\"c 8\": {}", "", "", "", "", "4:22: kv_cache_formats.c 8", "letters, digits" },
		{ "\"modelopt\": {}", "", "", "", "", "4:22: kv_cache_formats.modelopt",
		  "does not end in a profile's" },
		{ "\"c8_bf16\": {}", "", "", "", "", "4:22: kv_cache_formats.c8_bf16",
		  "does not end in a profile's" },
		{ C8 ", " A_C8, "", "", "", ", \"s_a\": {" SCHEME "}", "1:1", "\"s_a_c8\" means two" },
		{ C8, "", "", ", \"kv_cache\": \"c9\"", "", "schemes.s.kv_cache",
		  "no kv_cache \"c9\"" },
		{ C8, "", ", \"kv_cache\": 8", "", "", "families.f{percent}_x.kv_cache", "a text" },
		{ C8, ", \"profile\": \"bf16\"", "", ", \"kv_cache\": \"c8\"", "",
		  "schemes.s.kv_cache", "found \"bf16\" of b" },
		{ C8, "", "", "", ", \"s_c8\": {" SCHEME "}", "scheme \"s_c8\"",
		  "expected \"kv_cache\": \"c8\"" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const struct catalog_overrides none = { 0 };
		struct catalog c;
		error err;
		write_catalog(cases[i].formats, cases[i].baseline, cases[i].family,
		              cases[i].scheme, cases[i].schemes);
		if (catalog_load(&c, path, &none, &err))
			fail_msg("let pass: case %zu", i);
		expect_error(&err, EXIT_BAD_INPUT, "c.json:", cases[i].place, cases[i].says, NULL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_scheme_has_one_that_nobody_lists),
		cmocka_unit_test(changes_keep_the_cache),
		cmocka_unit_test(refuses_what_nobody_reads),
	};
	return cmocka_run_group_tests(tests, make, clean);
}
