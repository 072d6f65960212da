/* The catalog: what the project's own holds; every way in which one can be wrong, told
 * with file, line, column and field; overrides and --set. */
#include "lib/quant/catalog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* One section a line, so that places are easy to tell. */
static const char VALID[] =
	"{\"models\": {\"m\": {\"path\": \"demo/m\", \"kind\": \"qwen2_5_vl\", "
	"\"stand_in\": true}},\n"
	"\"calibrations\": {\"k\": {\"captions\": \"c.txt\", \"data\": \"D\", "
	"\"prompt_form\": \"text\", \"stand_in\": true}, \"v\": {\"calib_db\": \"v.db\", "
	"\"image_root\": \"i\", \"data\": \"E\"}},\n"
	"\"formats\": {\"F\": {\"element\": \"fp8_e4m3\", \"granularity\": \"tensor\", "
	"\"exclude\": [\"lm_head\"]}},\n"
	"\"baselines\": {\"b\": {\"model\": \"m\", \"calibration\": \"k\", "
	"\"formats\": [\"F\"]}},\n"
	"\"families\": {\"f{percent}_x\": {\"baseline\": \"b\", \"percent\": [10, 20]}},\n"
	"\"schemes\": {\"s\": {\"baseline\": \"b\", \"percent\": 5}}}\n";

/* VALID with its first `from` replaced, as folder/c.json. */
static void write_changed(const char *from, const char *to)
{
	text changed = { 0 };
	error err;
	const char *at = strstr(VALID, from);
	if (!at)
		fail_msg("the valid catalog lacks %s", from);
	text_add(&changed, VALID, (size_t)(at - VALID));
	text_puts(&changed, to);
	text_puts(&changed, at + strlen(from));
	assert_true(temp_folder_write(folder, "c.json", changed.data, changed.length, &err));
	text_free(&changed);
}

static const struct catalog_overrides NONE;

static void load(struct catalog *c, const struct catalog_overrides *overrides)
{
	error err;
	if (!catalog_load(c, path, overrides, &err))
		fail_msg("%s", err.text);
}

static const struct scheme *find_scheme(const struct catalog *c, const char *name)
{
	for (int i = 0; i < c->scheme_count; i++)
		if (strcmp(c->schemes[i].name, name) == 0)
			return &c->schemes[i];
	return NULL;
}

/* ---- sound ones ---- */

static void loads_the_projects_own(void **state)
{
	(void)state;
	struct catalog c;
	error err;
	char name[64];
	if (!catalog_load(&c, "schemes.json", &NONE, &err))
		fail_msg("%s", err.text);
	assert_int_equal(c.baseline_count, 3);
	assert_int_equal(c.scheme_count, 25);
	/* Published baselines, families in order, then the rest. */
	assert_string_equal(c.schemes[0].name, "fp8_autoquant_all_layers_fp8_coco2017");
	assert_string_equal(c.schemes[1].name, "fp8_autoquant_full_coco2017");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(c.schemes[i].rule.kind, RULE_FULL);
		assert_ptr_equal(c.schemes[i].baseline, &c.baselines[i]);
		assert_null(c.schemes[i].family);
	}
	for (int i = 0; i < 20; i++) {
		const struct scheme *s = &c.schemes[2 + i];
		snprintf(name, sizeof name, "fp8_autoquant_%stop%d_coco2017",
		         i < 10 ? "all_layers_" : "", i % 10 * 10 + 10);
		assert_string_equal(s->name, name);
		assert_int_equal(s->rule.kind, RULE_TOP_PERCENT);
		assert_true(s->rule.percent == i % 10 * 10 + 10);
		assert_ptr_equal(s->baseline, &c.baselines[i / 10]);
		assert_non_null(s->family);
	}
	assert_string_equal(c.baselines[0].file_name, "fp8_autoquant_all_layers_fp8");
	assert_string_equal(c.baselines[1].file_name, "fp8_autoquant_full_coco2017");
	assert_int_equal(c.baselines[0].calibration->calib_samples, 4096);
	assert_int_equal(c.baselines[0].calibration->score_samples, 128);
	assert_true(c.models[0].stand_in && c.calibrations[0].stand_in &&
	            c.calibrations[1].stand_in);
	assert_int_equal(c.evaluation_count, 2);
	assert_string_equal(c.evaluations[0].name, "text");
	assert_int_equal(c.evaluations[0].first, 448);
	assert_non_null(c.evaluations[1].eval_list);
	assert_int_equal(c.evaluations[1].samples, 100);
	assert_true(c.evaluations[0].stand_in && c.evaluations[1].stand_in);
	/* Each has an FP8 cache for whoever asks, and is listed without. */
	assert_int_equal(c.unlisted_count, 25);
	assert_string_equal(c.unlisted[6].name, "fp8_autoquant_all_layers_top50_coco2017_kv8");
	for (int i = 0; i < 25; i++) {
		assert_null(c.schemes[i].kv_cache);
		assert_string_equal(c.unlisted[i].kv_cache->name, "kv8");
		assert_int_equal(strncmp(c.unlisted[i].name, c.schemes[i].name,
		                         strlen(c.schemes[i].name)), 0);
		assert_false(c.unlisted[i].is_baseline || c.unlisted[i].family);
	}
	assert_string_equal(c.schemes[2].sweep, "all_layers_sweep");
	assert_string_equal(c.schemes[12].sweep, "lm_sweep");
	catalog_free(&c);
}

static void fills_in_defaults(void **state)
{
	(void)state;
	struct catalog c;
	write_changed("", "");
	load(&c, &NONE);
	const struct catalog_baseline *b = &c.baselines[0];
	assert_string_equal(b->file_name, "b");
	assert_string_equal(b->method, "gradient");
	assert_string_equal(b->numerics, "quern");
	assert_string_equal(b->profile, "universal");
	assert_string_equal(b->layout, "linked");
	assert_true(b->shared_scales);
	const struct calibration *v = &c.calibrations[1];
	assert_string_equal(v->prompt_form, "answer");
	assert_string_equal(v->on_bad_sample, "stop");
	assert_int_equal(v->calib_samples, 4096);
	assert_int_equal(v->score_samples, 128);
	assert_int_equal(v->block_samples, 16);
	assert_int_equal(v->max_tokens, 0);
	assert_int_equal(v->max_pixels, 0);
	assert_false(v->stand_in);
	assert_int_equal(c.scheme_count, 4);
	assert_string_equal(c.schemes[1].name, "f10_x");
	assert_string_equal(c.schemes[3].name, "s");
	assert_true(c.schemes[3].rule.percent == 5);
	catalog_free(&c);
}

/* ---- errors ---- */

struct bad {
	const char *from, *to; /* what of VALID is replaced */
	const char *place;     /* line, column and path, as the error has them */
	const char *says;
};

static void expect_refused(const struct bad *cases, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct catalog c;
		char place[256];
		error err;
		write_changed(cases[i].from, cases[i].to);
		if (catalog_load(&c, path, &NONE, &err))
			fail_msg("let pass: %s for %s", cases[i].to, cases[i].from);
		snprintf(place, sizeof place, "c.json:%s", cases[i].place);
		expect_error(&err, EXIT_BAD_INPUT, place, cases[i].says, NULL);
	}
}

static void refuses_what_is_no_catalog(void **state)
{
	(void)state;
	static const struct bad cases[] = {
		{ "{\"models\"", "[\"models\"", "1:10:", "found ':'" },
		{ "\"kind\": \"qwen2_5_vl\"", "\"path\": \"x\"", "1:37:", "path" },
		{ "\"schemes\": {", "\"scheme\": {", "6:1: scheme", "did you mean \"schemes\"?" },
		{ "\"formats\": {", "\"formats\": {{", "3:13:", "" },
		{ "\"families\": {\"f{percent}_x\": {\"baseline\": \"b\", \"percent\": [10, 20]}}",
		  "\"families\": []", "5:1: families", "expected an object, found an array" },
		{ "{\"s\": {\"baseline\": \"b\", \"percent\": 5}}", "{\"s\": 5}",
		  "6:13: schemes.s", "expected an object" },
	};
	expect_refused(cases, sizeof cases / sizeof *cases);
	struct catalog c;
	error err;
	assert_true(temp_folder_write(folder, "c.json", "7", 1, &err));
	assert_false(catalog_load(&c, path, &NONE, &err));
	expect_error(&err, EXIT_BAD_INPUT, "c.json:1:1", "expected an object", NULL);
	assert_false(catalog_load(&c, "no/such/catalog.json", &NONE, &err));
	expect_error(&err, EXIT_BAD_INPUT, "no/such/catalog.json", NULL);
}

static void refuses_bad_fields(void **state)
{
	(void)state;
	static const struct bad cases[] = {
		{ "\"kind\": \"qwen2_5_vl\"", "\"kid\": 1", "1:37: models.m.kid",
		  "unknown field, did you mean \"kind\"?" },
		{ "\"kind\": \"qwen2_5_vl\"", "\"kind\": \"llama\"", "1:37: models.m.kind",
		  "expected one of \"qwen2_5_vl\", found \"llama\"" },
		{ "\"path\": \"demo/m\", ", "", "1:13: models.m", "path" },
		{ "\"stand_in\": true", "\"stand_in\": \"yes\"", "1:59: models.m.stand_in",
		  "true or false" },
		{ "\"data\": \"D\"", "\"data\": 3", "2:45: calibrations.k.data",
		  "expected a text, found 3" },
		{ "\"data\": \"D\", ", "", "2:18: calibrations.k", "data" },
		{ "\"data\": \"D\"", "\"data\": \"D\\nbuild x: y\"", "2:45: calibrations.k.data",
		  "control characters" },
		{ "\"data\": \"D\"", "\"data\": \"D\", \"calib_samples\": 0",
		  "2:58: calibrations.k.calib_samples", "found 0" },
		{ "\"data\": \"D\"", "\"data\": \"D\", \"score_samples\": 1.5",
		  "2:58: calibrations.k.score_samples", "found 1.5" },
		{ "\"data\": \"D\"", "\"data\": \"D\", \"block_samples\": 65537",
		  "2:58: calibrations.k.block_samples", "found 65537" },
		{ "\"data\": \"D\"", "\"data\": \"D\", \"max_tokens\": 1",
		  "2:58: calibrations.k.max_tokens", "found 1" },
		{ "\"data\": \"D\"", "\"data\": \"D\", \"max_pixels\": -1",
		  "2:58: calibrations.k.max_pixels", "found -1" },
		{ "\"data\": \"D\"", "\"data\": \"D\", \"on_bad_sample\": \"ignore\"",
		  "2:58: calibrations.k.on_bad_sample", "\"stop\", \"skip\"" },
		{ "\"data\": \"D\"", "\"data\": \"D\", \"on_bad_sample\": 4",
		  "2:58: calibrations.k.on_bad_sample", "a text" },
		{ "\"element\": \"fp8_e4m3\"", "\"element\": \"fp8_e5m2\"", "3:19: formats.F.element",
		  "\"fp8_e4m3\"" },
		{ "\"granularity\": \"tensor\", ", "", "3:13: formats.F", "granularity" },
		{ "[\"lm_head\"]", "\"lm_head\"", "3:67: formats.F.exclude", "an array" },
		{ "[\"lm_head\"]", "[\"lm_head\", 7]", "3:90: formats.F.exclude[1]", "a glob" },
		{ "[\"lm_head\"]", "[\"lm\\thead\"]", "3:79: formats.F.exclude[0]",
		  "control characters" },
	};
	expect_refused(cases, sizeof cases / sizeof *cases);
}

static void refuses_bad_sources(void **state)
{
	(void)state;
	static const struct bad cases[] = {
		{ "\"captions\": \"c.txt\", ", "", "2:18: calibrations.k", "found neither" },
		{ "\"captions\": \"c.txt\"", "\"captions\": \"c.txt\", \"calib_db\": \"d\"",
		  "2:18: calibrations.k", "found both" },
		{ "\"image_root\": \"i\", ", "", "2:100: calibrations.v", "image_root" },
		{ "\"prompt_form\": \"text\"", "\"prompt_form\": \"answer\"",
		  "2:58: calibrations.k.prompt_form", "expected the prompt_form \"text\"" },
		{ "\"prompt_form\": \"text\", ", "", "2:18: calibrations.k",
		  "expected the prompt_form \"text\", found \"answer\"" },
		{ "\"prompt_form\": \"text\"", "\"prompt_form\": \"ask\"",
		  "2:58: calibrations.k.prompt_form", "found \"ask\"" },
	};
	expect_refused(cases, sizeof cases / sizeof *cases);
}

#define SETS(set) "\"evaluations\": {\"e\": {" set "}},\n\"formats\""

static void refuses_bad_evaluations(void **state)
{
	(void)state;
	static const struct bad cases[] = {
		{ "\"formats\"", SETS("\"data\": \"D\""), "3:17: evaluations.e", "eval_list" },
		{ "\"formats\"", SETS("\"data\": \"D\", \"eval_list\": \"l\""),
		  "3:17: evaluations.e", "image_root" },
		{ "\"formats\"", SETS("\"data\": \"D\", \"captions\": \"c\", \"image_root\": \"i\""),
		  "3:17: evaluations.e", "either" },
		{ "\"formats\"", SETS("\"data\": \"D\", \"captions\": \"c\""), "", "\"text\"" },
		{ "\"formats\"", SETS("\"data\": \"a\\nb\", \"captions\": \"c\""),
		  "3:23: evaluations.e.data", "control characters" },
		{ "\"formats\"", SETS("\"data\": \"D\", \"samples\": 0"),
		  "3:36: evaluations.e.samples", "found 0" },
		{ "\"formats\"", SETS("\"data\": \"D\", \"firts\": 1"),
		  "3:36: evaluations.e.firts", "did you mean \"first\"" },
		{ "\"percent\": [10, 20]", "\"percent\": [10, 20], \"sweep\": \"a b\"",
		  "5:", "expected a name" },
		{ "\"percent\": [10, 20]", "\"percent\": [10, 20], \"sweep\": \"report\"",
		  "5:", "expected another name than that of a target" },
		{ "\"percent\": [10, 20]", "\"percent\": [10, 20], \"sweep\": \"sanity_m\"",
		  "5:", "expected another name than that of a target" },
	};
	expect_refused(cases, sizeof cases / sizeof *cases);
}

/* A list is replaced with its images, and not without. */
static void evaluations_are_overridden(void **state)
{
	(void)state;
	struct catalog c;
	const struct catalog_overrides both = { .captions = "a/mine.txt",
		.eval_list = "b/list.jsonl", .image_root = "pictures" };
	const struct catalog_overrides root = { .image_root = "pictures" };
	write_changed("\"formats\"", "\"evaluations\": {\"t\": {\"captions\": \"c\", "
	              "\"data\": \"D\", \"prompt_form\": \"text\", \"stand_in\": true}, "
	              "\"i\": {\"eval_list\": \"l\", \"image_root\": \"r\", \"data\": \"D\", "
	              "\"stand_in\": true}},\n\"formats\"");
	load(&c, &both);
	assert_string_equal(c.evaluations[0].captions, "a/mine.txt");
	assert_string_equal(c.evaluations[0].data, "mine.txt");
	assert_string_equal(c.evaluations[1].eval_list, "b/list.jsonl");
	assert_string_equal(c.evaluations[1].image_root, "pictures");
	assert_false(c.evaluations[0].stand_in || c.evaluations[1].stand_in);
	catalog_free(&c);
	load(&c, &root);
	assert_string_equal(c.evaluations[1].image_root, "r");
	assert_true(c.evaluations[1].stand_in);
	catalog_free(&c);
}

static void refuses_bad_references_and_rules(void **state)
{
	(void)state;
	static const struct bad cases[] = {
		{ "\"model\": \"m\"", "\"model\": \"n\"", "4:21: baselines.b.model",
		  "no model \"n\"" },
		{ "\"calibration\": \"k\"", "\"calibration\": \"K\"",
		  "4:35: baselines.b.calibration", "no calibration \"K\"" },
		{ "[\"F\"]", "5", "4:55: baselines.b.formats", "an array" },
		{ "\"formats\": [\"F\"]", "\"profile\": \"universal\"", "4:15: baselines.b",
		  "lacks the field \"formats\"" },
		{ "\"formats\": [\"F\"]", "\"formats\": [\"F\"], \"method\": \"kl\"",
		  "4:73: baselines.b.method", "\"gradient\"" },
		{ "\"formats\": [\"F\"]", "\"formats\": [\"F\"], \"numerics\": \"exact\"",
		  "4:73: baselines.b.numerics", "\"quern\", \"modelopt\"" },
		{ "\"formats\": [\"F\"]", "\"formats\": [\"F\"], \"profile\": \"vllm\"",
		  "4:73: baselines.b.profile", "\"universal\"" },
		{ "\"formats\": [\"F\"]", "\"formats\": [\"F\"], \"layout\": \"tar\"",
		  "4:73: baselines.b.layout", "\"linked\", \"packed\"" },
		{ "\"formats\": [\"F\"]", "\"formats\": [\"F\"], \"shared_scales\": 1",
		  "4:73: baselines.b.shared_scales", "true or false" },
		{ "\"formats\": [\"F\"]", "\"formats\": [\"F\"], \"file_name\": \"../../x\"",
		  "4:73: baselines.b.file_name", "letters, digits" },
		{ "{\"baseline\": \"b\", \"percent\": [10",
		  "{\"baseline\": \"c\", \"percent\": [10", "5:31: families.f{percent}_x.baseline", "no baseline \"c\"" },
		{ "[10, 20]", "[10, 0]", "5:64: families.f{percent}_x.percent[1]",
		  "above 0, up to 100" },
		{ "[10, 20]", "[101]", "5:60: families.f{percent}_x.percent[0]",
		  "above 0, up to 100" },
		{ "[10, 20]", "[\"10\"]", "5:60: families.f{percent}_x.percent[0]", "a percentage" },
		{ "[10, 20]", "10", "5:48: families.f{percent}_x.percent", "an array" },
		{ "\"percent\": 5", "\"percent\": 0", "6:36: schemes.s.percent", "above 0" },
		{ "\"percent\": 5", "\"percent\": 101", "6:36: schemes.s.percent", "found 101" },
		{ "\"percent\": 5", "\"percent\": null", "6:36: schemes.s.percent", "found null" },
		{ "\"percent\": 5", "\"per_cent\": 5", "6:36: schemes.s.per_cent",
		  "did you mean \"percent\"?" },
	};
	expect_refused(cases, sizeof cases / sizeof *cases);
}

static void refuses_bad_names(void **state)
{
	(void)state;
	static const struct bad cases[] = {
		{ "\"m\": {", "\"a/b\": {", "1:13: models.a/b", "letters, digits" },
		{ "\"k\": {", "\"\": {", "2:18: calibrations.", "letters, digits" },
		{ "\"F\": {", "\"F G\": {", "3:13: formats.F G", "found \"F G\"" },
		{ "\"b\": {", "\"-b\": {", "4:15: baselines.-b", "found \"-b\"" },
		{ "\"s\": {", "\"..\": {", "6:13: schemes...", "found \"..\"" },
		{ "\"s\": {", "\"s$x\": {", "6:13: schemes.s$x", "found \"s$x\"" },
		{ "\"f{percent}_x\"", "\"f/{percent}\"", "5:14: families.f/{percent}",
		  "letters, digits" },
		{ "\"f{percent}_x\"", "\"f_x\"", "5:14: families.f_x", "{percent}" },
		{ "\"s\": {", "\"f20_x\": {", "6:13: schemes.f20_x",
		  "already a scheme \"f20_x\"" },
		{ "\"s\": {", "\"b\": {", "6:13: schemes.b", "\"b\"" },
		{ "[10, 20]", "[10, 10]", "5:64: families.f{percent}_x.percent[1]",
		  "already a scheme \"f10_x\"" },
		{ "\"s\": {", "\"test\": {", "6:13: schemes.test", "\"test\"" },
		{ "\"s\": {", "\"all\": {", "6:13: schemes.all", "\"all\"" },
		{ "\"s\": {", "\"diversity_m\": {", "6:13: schemes.diversity_m", "diversity_m" },
	};
	expect_refused(cases, sizeof cases / sizeof *cases);
	char from[] = "\"s\": {", to[200];
	memset(to, 'n', sizeof to);
	memcpy(to, "\"", 1);
	memcpy(to + 152, "\": {", 5);
	expect_refused(&(struct bad){ from, to, "6:13: schemes.nnn", "letters, digits" }, 1);
}

/* ---- overrides ---- */

static void command_line_paths_replace_the_catalogs(void **state)
{
	(void)state;
	struct catalog c;
	struct catalog_overrides o = { .model = "/data/Qwen2.5-VL 3B$/", .captions = "d/own.txt",
		.calib_db = "own.db", .image_root = "/images" };
	write_changed("", "");
	load(&c, &o);
	assert_string_equal(c.models[0].path, "/data/Qwen2.5-VL 3B$/");
	assert_string_equal(c.models[0].name, "qwen2_5_vl_3b_");
	assert_false(c.models[0].stand_in);
	assert_ptr_equal(c.baselines[0].model, &c.models[0]);
	assert_string_equal(c.calibrations[0].captions, "d/own.txt");
	assert_string_equal(c.calibrations[0].data, "own.txt");
	assert_null(c.calibrations[0].image_root);
	assert_false(c.calibrations[0].stand_in);
	assert_string_equal(c.calibrations[1].calib_db, "own.db");
	assert_string_equal(c.calibrations[1].data, "own.db");
	assert_string_equal(c.calibrations[1].image_root, "/images");
	catalog_free(&c);
	o = (struct catalog_overrides){ .image_root = "elsewhere" };
	load(&c, &o); /* the same data at another place are still what they were */
	assert_string_equal(c.calibrations[1].image_root, "elsewhere");
	assert_string_equal(c.calibrations[1].data, "E");
	assert_true(c.calibrations[0].stand_in && c.models[0].stand_in);
	catalog_free(&c);
}

static void refuses_paths_that_cannot_be_listed(void **state)
{
	(void)state;
	const struct catalog_overrides cases[] = { { .model = "a\nb" }, { .captions = "a\tb" },
		{ .calib_db = "\x01" }, { .image_root = "x\r" } };
	write_changed("", "");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct catalog c;
		error err;
		assert_false(catalog_load(&c, path, &cases[i], &err));
		expect_error(&err, EXIT_BAD_INPUT, "control characters", NULL);
	}
}

/* ---- --set ---- */

/* Loads the catalog with these, NULL at the end. */
static bool load_set(struct catalog *c, error *err, const char *const *sets)
{
	struct catalog_overrides o = { .sets = { .values = (const char **)sets } };
	while (sets[o.sets.count])
		o.sets.count++;
	write_changed("", "");
	return catalog_load(c, path, &o, err);
}

static void expect_set(struct catalog *c, const char *const *sets)
{
	error err;
	if (!load_set(c, &err, sets))
		fail_msg("%s", err.text);
}

static void sets_any_field(void **state)
{
	(void)state;
	struct catalog c;
	expect_set(&c, (const char *[]){ "schemes.s.percent=7.5", "calibrations.k.max_tokens=99",
		"baselines.b.profile=modelopt", "models.m.path=a=b.c",
		"formats.F.exclude=[\"lm_head\", \"*x*\"]", "baselines.b.shared_scales=false",
		"families.f{percent}_x.percent=[1, 2, 3]", "calibrations.k.data=\"7\"", NULL });
	assert_true(find_scheme(&c, "s")->rule.percent == 7.5);
	assert_int_equal(c.calibrations[0].max_tokens, 99);
	assert_string_equal(c.calibrations[0].data, "7");
	assert_string_equal(c.baselines[0].profile, "modelopt");
	assert_false(c.baselines[0].shared_scales);
	assert_string_equal(c.models[0].path, "a=b.c");
	assert_int_equal(c.formats[0].exclude.count, 2);
	assert_int_equal(c.scheme_count, 5);
	assert_non_null(find_scheme(&c, "f3_x"));
	catalog_free(&c);
}

static void a_member_that_is_set_leaves_its_family(void **state)
{
	(void)state;
	struct catalog c;
	expect_set(&c, (const char *[]){ "schemes.f10_x.percent=15", NULL });
	const struct scheme *own = find_scheme(&c, "f10_x");
	assert_true(own && own->rule.percent == 15 && !own->family);
	assert_string_equal(find_scheme(&c, "f20_x")->family, "f{percent}_x");
	assert_int_equal(c.scheme_count, 4);
	catalog_free(&c);
	expect_set(&c, (const char *[]){ "schemes.f10_x.percent=15", "schemes.f10_x.baseline=b",
		"schemes.f10_x.percent=16", "schemes.f20_x.percent=1", NULL });
	assert_true(find_scheme(&c, "f10_x")->rule.percent == 16);
	assert_true(find_scheme(&c, "f20_x")->rule.percent == 1);
	assert_int_equal(c.scheme_count, 4);
	catalog_free(&c);
}

static void adds_a_scheme_field_by_field(void **state)
{
	(void)state;
	struct catalog c;
	expect_set(&c, (const char *[]){ "schemes.own={}", "schemes.own.baseline=b",
		"schemes.own.percent=33", NULL });
	assert_true(find_scheme(&c, "own")->rule.percent == 33);
	catalog_free(&c);
}

/* Channel scales that a norm has rounded are not ModelOpt's. */
static void refuses_channel_scales_in_modelopts_numerics(void **state)
{
	static const char *const sets[] = { "formats.F.element=int4",
		"formats.F.granularity=group128_awq", "baselines.b.numerics=modelopt", NULL };
	struct catalog c;
	error err;
	(void)state;
	write_changed("", "");
	assert_false(load_set(&c, &err, sets));
	expect_error(&err, EXIT_BAD_INPUT, "baselines.b.numerics", "\"quern\" beside format F",
	             NULL);
	expect_set(&c, (const char *const[]){ sets[0], sets[1], NULL });
	assert_non_null(c.formats[0].format->channel_scales);
	catalog_free(&c);
}

static void refuses_bad_sets(void **state)
{
	(void)state;
	static const struct {
		const char *set;
		enum exit_code code;
		const char *says;
	} cases[] = {
		{ "schemes.s.percent", EXIT_USAGE, "expected PATH=VALUE" },
		{ "=5", EXIT_USAGE, "expected PATH=VALUE" },
		{ "schemes.none.percent=5", EXIT_USAGE, "schemes.none.percent=5" },
		{ "nowhere.s.percent=5", EXIT_USAGE, "no such field" },
		{ "schemes.s.percent.x=5", EXIT_USAGE, "no such field" },
		{ "schemes.s.=5", EXIT_USAGE, "no such field" },
		{ "formats.F.exclude.0=x", EXIT_USAGE, "no such field" },
		{ "schemes.s.percent=500", EXIT_BAD_INPUT, "schemes.s.percent: " },
		{ "schemes.s.percent=1e999", EXIT_BAD_INPUT, "schemes.s.percent: " },
		{ "schemes.s.percent=nan", EXIT_BAD_INPUT, "found \"nan\"" },
		{ "schemes.f10_x.effective_bytes=10", EXIT_BAD_INPUT,
		  "schemes.f10_x.effective_bytes: unknown field" },
		{ "schemes.f10_x.effective_bits=17", EXIT_BAD_INPUT,
		  "schemes.f10_x.effective_bits: " },
		{ "schemes.f10_x.budget=17", EXIT_BAD_INPUT, "\"costs\" together with \"budget\"" },
		{ "models.m.PATH=x", EXIT_BAD_INPUT, "models.m.PATH: unknown field" },
		{ "colour=red", EXIT_BAD_INPUT, "colour: unknown field" },
		{ "baselines.b.model=n", EXIT_BAD_INPUT, "no model \"n\"" },
		{ "models={}", EXIT_BAD_INPUT, "no model \"m\"" },
		{ "schemes.f20_x=7", EXIT_BAD_INPUT, "schemes.f20_x: " },
		{ "calibrations.k.data=a\nb", EXIT_BAD_INPUT, "control characters" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct catalog c;
		error err;
		if (load_set(&c, &err, (const char *[]){ cases[i].set, NULL }))
			fail_msg("let pass: %s", cases[i].set);
		expect_error(&err, cases[i].code, cases[i].says, NULL);
		if (cases[i].code == EXIT_BAD_INPUT) /* places are those of the changed text */
			expect_error(&err, cases[i].code, "c.json with --set ", NULL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loads_the_projects_own),
		cmocka_unit_test(fills_in_defaults),
		cmocka_unit_test(refuses_what_is_no_catalog),
		cmocka_unit_test(refuses_bad_fields),
		cmocka_unit_test(refuses_bad_sources),
		cmocka_unit_test(refuses_bad_evaluations),
		cmocka_unit_test(evaluations_are_overridden),
		cmocka_unit_test(refuses_bad_references_and_rules),
		cmocka_unit_test(refuses_bad_names),
		cmocka_unit_test(command_line_paths_replace_the_catalogs),
		cmocka_unit_test(refuses_paths_that_cannot_be_listed),
		cmocka_unit_test(sets_any_field),
		cmocka_unit_test(a_member_that_is_set_leaves_its_family),
		cmocka_unit_test(adds_a_scheme_field_by_field),
		cmocka_unit_test(refuses_channel_scales_in_modelopts_numerics),
		cmocka_unit_test(refuses_bad_sets),
	};
	return cmocka_run_group_tests(tests, make, clean);
}
