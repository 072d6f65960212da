/* The graph: ninja accepts it and it has the edges that the plan implies; awkward
 * paths reach the programs unharmed, through ninja and the shell. */
#include "lib/graph/emit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/file.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

enum { MAX_OUTPUT = 1 << 22 };

static char folder[PATH_BYTES], out[PATH_BYTES], ninja_file[PATH_BYTES];

static int make(void **state)
{
	(void)state;
	error err;
	return temp_folder_make(folder, &err) &&
	       join_path(out, sizeof out, folder, "out", &err) &&
	       join_path(ninja_file, sizeof ninja_file, folder, "build.ninja", &err) ? 0 : -1;
}

static int clean(void **state)
{
	(void)state;
	temp_folder_remove(folder);
	return 0;
}

static struct tree_settings default_settings(void)
{
	return (struct tree_settings){ .out = out, .template = "build.ninja.in",
		.cuda = "", .device = "",
		.configure = "configure '--as-it-was' 'run'", .catalog = "schemes.json",
		.compiler = "cc", .launch = "", .workers = 1 };
}

/* The graph of the project's own catalog, which is left in ninja_file too. */
static void emit(struct emitted *e, const struct catalog_overrides *overrides,
                 const struct tree_settings *settings)
{
	struct catalog catalog;
	struct plan plan;
	error err;
	if (!catalog_load(&catalog, "schemes.json", overrides, &err) ||
	    !plan_build(&plan, &catalog, &err) || !emit_graph(e, &plan, settings, &err) ||
	    !temp_folder_write(folder, "build.ninja", e->ninja.data, e->ninja.length, &err))
		fail_msg("%s", err.text);
	plan_free(&plan);
	catalog_free(&catalog);
}

/* What a command prints; it must succeed. */
static char *run(const char *format, ...) __attribute__((format(printf, 1, 2)));

static char *run(const char *format, ...)
{
	char command[4 * PATH_BYTES];
	va_list args;
	va_start(args, format);
	vsnprintf(command, sizeof command, format, args);
	va_end(args);
	FILE *pipe = popen(command, "r");
	char *output = malloc(MAX_OUTPUT + 1);
	assert_true(pipe && output);
	size_t size = fread(output, 1, MAX_OUTPUT, pipe);
	output[size] = '\0';
	int status = pclose(pipe);
	if (status != 0)
		fail_msg("%s: status %d\n%s", command, status, output);
	return output;
}

static void expect_text(const char *whole, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void expect_text(const char *whole, const char *format, ...)
{
	char piece[2 * PATH_BYTES];
	va_list args;
	va_start(args, format);
	vsnprintf(piece, sizeof piece, format, args);
	va_end(args);
	if (!strstr(whole, piece))
		fail_msg("expected in the text: %s", piece);
}

static int count_lines(const char *whole, const char *start)
{
	int count = 0;
	size_t length = strlen(start);
	for (const char *line = whole; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		count += strncmp(line, start, length) == 0;
	}
	return count;
}

/* ---- the demo's graph ---- */

static const struct catalog_overrides NONE;

#define ALL "work/tiny_qwen2_5_vl/fp8_autoquant_all_layers_fp8_coco2017"
#define TEXT "work/tiny_qwen2_5_vl/fp8_autoquant_full_coco2017"
#define DECODED "work/tiny_qwen2_5_vl/pixels"
#define PUBLISHED "models/tiny_qwen2_5_vl/quantized"
#define BASE_FILES "fp8_autoquant_all_layers_fp8_files.json: describe"
#define TOP50 "fp8_autoquant_all_layers_top50_coco2017"

static void ninja_takes_the_demos_graph(void **state)
{
	(void)state;
	struct emitted e;
	const struct tree_settings settings = default_settings();
	emit(&e, &NONE, &settings);
	char *targets = run("ninja -f '%s' -t targets all", ninja_file);
	static const char *const names[] = {
		DECODED ".coco2017_vlm.json: decode", DECODED ".evaluate.image_text.json: decode",
		ALL "/calibrate.0.json: calibrate", ALL "/amax.json: merge",
		ALL "/score.FP8_ALL_LAYERS_CFG.0.json: score", ALL "/quantize.json: quantize",
		ALL "/fp8_autoquant_all_layers_fp8_quant_manifest.json: rank",
		ALL "/fp8_autoquant_all_layers_fp8_autoquant_state.json: rank",
		ALL "/per-layer-sensitivity.md: rank", TEXT "/calibrate.0.json: calibrate",
		TEXT "/fp8_autoquant_full_coco2017_quant_manifest.json: rank",
		"work/tiny_qwen2_5_vl/schemes/" TOP50 "/slice.json: slice",
		"work/tiny_qwen2_5_vl/schemes/" TOP50 "/manifest.json: slice",
		"work/tiny_qwen2_5_vl/schemes/" TOP50 "/selection.json: slice",
		"work/tiny_qwen2_5_vl/schemes/" TOP50 "/verify.json: verify",
		PUBLISHED "/" TOP50 "/layer-sensitivity/" TOP50 "_files.json: describe",
		PUBLISHED "/" TOP50 "/model.safetensors.index.json: export",
		PUBLISHED "/fp8_autoquant_all_layers_fp8_coco2017/layer-sensitivity/" BASE_FILES,
		"models/tiny_qwen2_5_vl/quantized/scheme-diversity.json: diversity",
		ALL "/damage.text.json: evaluate", ALL "/damage.image_text.json: evaluate",
		TEXT "/damage.text.json: evaluate", ALL "/quality.json: quality",
		"models/tiny_qwen2_5_vl/report-fp8-autoquant-schemes.html: report",
		"stamps/catalog: scan", "bin/configure: link", "bin/score.digest: digest_sources",
		"sanitized/tests/lib/graph/test_emit: link_sanitized",
	};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		expect_text(targets, "%s/%s\n", out, names[i]);
	expect_text(targets, "\nbuild.ninja: configure\n");
	expect_text(targets, "\n" TOP50 ": phony\n");
	expect_text(targets, "\nall: phony\n");
	expect_text(targets, "\nall_layers_sweep: sweep\n");
	expect_text(targets, "\nlm_sweep: sweep\n");
	expect_text(targets, "\ncheck_quality: check_quality\n");
	expect_text(targets, "\nsanity: phony\n");
	free(targets);
	emitted_free(&e);
}

static void every_scheme_has_its_edges(void **state)
{
	(void)state;
	struct emitted e;
	const struct tree_settings settings = default_settings();
	emit(&e, &NONE, &settings);
	enum { PROFILES = 3 };
	static const char *const rules[] = { "slice", "export", "describe", "verify" };
	char *targets = run("ninja -f '%s' -t targets all", ninja_file);
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
		char *of_rule = run("ninja -f '%s' -t targets rule %s | sort -u | wc -l",
		                    ninja_file, rules[i]);
		/* slice has three outputs; with an FP8 cache there is the own profile alone */
		assert_int_equal(atoi(of_rule), 25 * (i == 0 ? 3 + 3 : PROFILES + 1));
		free(of_rule);
	}
	assert_int_equal(count_lines(targets, "fp8_autoquant_"), 25 * (PROFILES + 1));
	expect_text(targets, "\n" TOP50 "_kv8: phony\n");
	expect_text(e.ninja.data, " --top-percent 50 --kv-cache kv8:fp8_e4m3:tensor\n");
	expect_text(targets, "\n" TOP50 "_modelopt: phony\n");
	expect_text(targets, "\n" TOP50 "_bf16: phony\n");
	assert_int_equal(count_lines(e.help.data, "  fp8_autoquant_"), 25);
	/* 3 baselines of calibrate, merge, score, rank, pareto, quantize; 25 schemes of
	 * slice, and export, describe, verify and card in each profile, and all but the card
	 * with an FP8 cache; the comparison, the scan and configure; 2 sets and the quality of
	 * the 3 baselines; the images of one calibration and one evaluation; the report, after
	 * its inputs and by itself. */
	assert_int_equal(e.edges,
	                 3 * 6 + 25 * (1 + 4 * PROFILES + 4) + 3 + 3 * (2 + 1) + 2 + 2);
	/* What nobody listed is made when asked for: no default, no comparison, no report. */
	char *defaults = run("ninja -f '%s' -t inputs all evaluate report lock", ninja_file);
	assert_null(strstr(defaults, "_kv8"));
	assert_null(strstr(e.report.data, "_kv8"));
	free(defaults);
	free(targets);
	emitted_free(&e);
}

/* Verifying hangs on a description as a validation: it follows, and delays nobody. */
static void verify_is_a_validation(void **state)
{
	(void)state;
	struct emitted e;
	const struct tree_settings settings = default_settings();
	emit(&e, &NONE, &settings);
	expect_text(e.ninja.data, " |@ %s/work/tiny_qwen2_5_vl/schemes/" TOP50
	            "/verify.json\n", out);
	char *commands = run("ninja -f '%s' -t commands %s", ninja_file, TOP50);
	expect_text(commands, "bin/calibrate --model demo/tiny-qwen2_5-vl --calib-db "
	            "demo/demo_vlm_calib.db --image-root demo --pixels %s/" DECODED ".coco2017_vlm.json "
	            "--prompt answer --block-samples 16 --max-tokens 2048 --max-pixels 1003520 "
	            "--on-bad-sample stop --samples 64 --part 0/1 --tree %s --out %s/" ALL
	            "/calibrate.0.json\n", out, out, out);
	expect_text(commands, "bin/decode --model demo/tiny-qwen2_5-vl --calib-db "
	            "demo/demo_vlm_calib.db --image-root demo --on-bad-sample stop --samples 4096 "
	            "--max-pixels 1003520 --tree %s --out %s/" DECODED ".coco2017_vlm.json\n", out,
	            out);
	expect_text(commands, "--format-name FP8_ALL_LAYERS_CFG --element fp8_e4m3 "
	            "--granularity tensor --numerics quern --exclude lm_head");
	expect_text(commands, "--top-percent 50 --out");
	free(commands);
	emitted_free(&e);
}

static void several_workers_share_the_blocks(void **state)
{
	(void)state;
	struct emitted e;
	struct tree_settings settings = default_settings();
	settings.workers = 3;
	settings.launch = "srun --gres=gpu:1";
	emit(&e, &NONE, &settings);
	char *targets = run("ninja -f '%s' -t targets all", ninja_file);
	char *commands = run("ninja -f '%s' -t commands %s", ninja_file, TOP50);
	for (int i = 0; i < 3; i++) {
		expect_text(targets, "%s/" ALL "/calibrate.%d.json: calibrate\n", out, i);
		expect_text(targets, "%s/" ALL "/score.FP8_ALL_LAYERS_CFG.%d.json: score\n", out, i);
		expect_text(commands, "--part %d/3", i);
	}
	assert_null(strstr(targets, "calibrate.3.json"));
	assert_int_equal(count_lines(commands, "srun --gres=gpu:1 "), 1 + 3 + 3 + 1);
	expect_text(e.ninja.data, "pool = work\n");
	expect_text(e.ninja.data, "depth = 3\n");
	free(targets);
	free(commands);
	settings.workers = 4096; /* never more parts than blocks: 64 samples are 4 */
	emitted_free(&e);
	emit(&e, &NONE, &settings);
	targets = run("ninja -f '%s' -t targets all", ninja_file);
	expect_text(targets, "%s/" ALL "/calibrate.3.json: calibrate\n", out);
	assert_null(strstr(targets, ALL "/calibrate.4.json"));
	free(targets);
	emitted_free(&e);
}

static void the_same_plan_gives_the_same_text(void **state)
{
	(void)state;
	struct emitted one, other;
	const struct tree_settings settings = default_settings();
	emit(&one, &NONE, &settings);
	emit(&other, &NONE, &settings);
	assert_string_equal(one.ninja.data, other.ninja.data);
	assert_string_equal(one.scan_list.data, other.scan_list.data);
	assert_string_equal(one.help.data, other.help.data);
	emitted_free(&one);
	emitted_free(&other);
}

/* Every stamp that an edge waits for is one that the scan writes. */
static void every_stamp_is_scanned(void **state)
{
	(void)state;
	struct emitted e;
	const struct tree_settings settings = default_settings();
	emit(&e, &NONE, &settings);
	assert_int_equal(count_lines(e.scan_list.data, "published\t"), 25 * (3 + 1));
	assert_int_equal(count_lines(e.scan_list.data, "weights\t"), 1);
	assert_int_equal(count_lines(e.scan_list.data, "texts\t"), 1);
	expect_text(e.scan_list.data, "weights\t%s/stamps/tiny_qwen2_5_vl.weights\t"
	            "demo/tiny-qwen2_5-vl\n", out);
	expect_text(e.scan_list.data, "images\t%s/stamps/coco2017_vlm.data\t"
	            "demo/demo_vlm_calib.db\tdemo\t4096\n", out);
	expect_text(e.scan_list.data, "file\t%s/stamps/coco2017_captions.data\t"
	            "demo/demo_captions.txt\n", out);
	expect_text(e.scan_list.data, "file\t%s/stamps/catalog\tschemes.json\n", out);
	char *inputs = run("ninja -f '%s' -t inputs all | grep '^%s/stamps/' | sort -u",
	                   ninja_file, out);
	for (char *line = strtok(inputs, "\n"); line; line = strtok(NULL, "\n"))
		expect_text(e.scan_list.data, "\t%s\t", line);
	free(inputs);
	emitted_free(&e);
}

/* ---- awkward paths ---- */

/* Programs of the tree that print the words they are given, one a line. */
static void make_echo(const char *name)
{
	static const char script[] = "#!/bin/sh\nprintf '%s\\n' \"$@\"\n";
	char bin[PATH_BYTES], path[PATH_BYTES];
	error err;
	assert_true(join_path(bin, sizeof bin, out, "bin", &err) && make_folders(bin, &err));
	assert_true(temp_folder_write(bin, name, script, strlen(script), &err));
	assert_true(join_path(path, sizeof path, bin, name, &err));
	assert_int_equal(chmod(path, 0755), 0);
}

/* Runs the command that makes a target, as ninja would. */
static char *run_command(const char *target)
{
	char *command = run("ninja -f '%s' -t commands '%s/%s' | tail -n 1", ninja_file, out,
	                    target);
	char *words = run("%s", command);
	free(command);
	return words;
}

static void copy_to(const char *from, const char *to)
{
	free(run("mkdir -p \"%s\" && cp -r %s/. \"%s\"", to, from, to));
}

/* With a toolkit the device half is built and the heavy tools wait for it; without, the
 * graph does not mention it. */
static void gpu_half_is_a_library_of_its_own(void **state)
{
	(void)state;
	struct emitted e;
	struct tree_settings settings = default_settings();
	emit(&e, &(struct catalog_overrides){ .model = NULL }, &settings);
	assert_null(strstr(e.ninja.data, "libquern_gpu.so"));
	assert_null(strstr(e.ninja.data, "build $o/obj/kernels/attention.cu.o"));
	emitted_free(&e);
	settings.cuda = "toolkit";
	settings.device = "--cuda";
	emit(&e, &(struct catalog_overrides){ .model = NULL }, &settings);
	assert_non_null(strstr(e.ninja.data, "build $o/obj/kernels/attention.cu.o: cu kernels/"));
	assert_non_null(strstr(e.ninja.data, "build gpu_half: phony $o/bin/libquern_gpu.so"));
	assert_non_null(strstr(e.ninja.data, "$o/bin/score --cuda "));
	const char *archive = strstr(e.ninja.data, "build $o/libquern.a:");
	const char *end = strstr(archive, "\nbuild ");
	const char *device = strstr(archive, "lib/gpu/run.o");
	assert_true(device == NULL || device > end);
	emitted_free(&e);
}

#define AWKWARD "it's $HOME & \"so\" `on` #1 %s : | $$x; \\n*"

static void awkward_paths_reach_the_programs(void **state)
{
	(void)state;
	struct emitted e;
	struct tree_settings settings = default_settings();
	char model[PATH_BYTES], captions[PATH_BYTES], db[PATH_BYTES], data[64];
	char *bytes;
	size_t size;
	error err;
	assert_true(join_path(model, sizeof model, folder, "model with spaces", &err));
	copy_to("demo/tiny-qwen2_5-vl", model);
	assert_true(join_path(captions, sizeof captions, folder, AWKWARD, &err));
	assert_true(temp_folder_write(folder, AWKWARD, "one\ntwo\n", 8, &err));
	assert_true(read_file("demo/demo_vlm_calib.db", MAX_OUTPUT, &bytes, &size, &err));
	assert_true(temp_folder_write(folder, AWKWARD ".db", bytes, size, &err));
	assert_true(join_path(db, sizeof db, folder, AWKWARD ".db", &err));
	free(bytes);
	const char *const sets[] = { "formats.FP8_DEFAULT_CFG.exclude=[\"lm_head\", "
	                             "\"*'$x*\", \"visual.*\"]" };
	const struct catalog_overrides overrides = { .model = model, .captions = captions,
		.calib_db = db, .image_root = folder,
		.sets = { .values = (const char **)sets, .count = 1 } };
	settings.launch = "env LAUNCH='$HOME $$'";
	emit(&e, &overrides, &settings);
	make_echo("calibrate");
	make_echo("score");
	make_echo("rank");
	char *words = run_command("work/model_with_spaces/fp8_autoquant_full_coco2017/"
	                          "score.FP8_DEFAULT_CFG.0.json");
	expect_text(words, "--model\n%s\n--captions\n%s\n--prompt\ntext\n", model, captions);
	expect_text(words, "--exclude\nlm_head\n--exclude\n*'$x*\n--exclude\nvisual.*\n");
	free(words);
	words = run_command("work/model_with_spaces/fp8_autoquant_all_layers_fp8_coco2017/"
	                    "calibrate.0.json");
	expect_text(words, "--calib-db\n%s\n--image-root\n%s\n", db, folder);
	free(words);
	words = run_command("work/model_with_spaces/fp8_autoquant_full_coco2017/"
	                    "fp8_autoquant_full_coco2017_quant_manifest.json");
	snprintf(data, sizeof data, "--data-name\n%s\n", AWKWARD);
	expect_text(words, "%s", data);
	expect_text(words, "--model\n%s\n", model);
	free(words);
	char *command = run("ninja -f '%s' -t commands '%s/work/model_with_spaces/"
	                    "fp8_autoquant_full_coco2017/score.FP8_DEFAULT_CFG.0.json' | tail -n 1",
	                    ninja_file, out);
	expect_text(command, "env LAUNCH='$HOME $$' %s/bin/score", out);
	free(command);
	emitted_free(&e);
}

/* ---- templates ---- */

static void expect_refused(const char *content, const char *one, const char *other)
{
	struct tree_settings settings = default_settings();
	char path[PATH_BYTES];
	struct catalog catalog;
	struct plan plan;
	struct emitted e;
	error err;
	assert_true(temp_folder_write(folder, "t.in", content, strlen(content), &err));
	assert_true(join_path(path, sizeof path, folder, "t.in", &err));
	settings.template = *content ? path : "no/such/template";
	assert_true(catalog_load(&catalog, "schemes.json", &NONE, &err));
	assert_true(plan_build(&plan, &catalog, &err));
	assert_false(emit_graph(&e, &plan, &settings, &err));
	expect_error(&err, EXIT_BAD_INPUT, one, other, NULL);
	plan_free(&plan);
	catalog_free(&catalog);
}

static void refuses_templates_with_other_marks(void **state)
{
	(void)state;
	expect_refused("@OUT@ @LAUNCH@ @CC@ @WORKERS@ @CONFIGURE@ @HEAVY_POOL@ @CUDA@ @DEVICE@\n", "t.in",
	               "expected the mark @EDGES@");
	expect_refused("@OUT@ @LAUNCH@ @CC@ @WORKERS@ @CONFIGURE@ @HEAVY_POOL@ @CUDA@ @DEVICE@ @EDGES@ "
	               "@COLOUR@\n", "t.in", "unknown mark @COLOUR@");
	expect_refused("", "no/such/template", "cannot open");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ninja_takes_the_demos_graph),
		cmocka_unit_test(every_scheme_has_its_edges),
		cmocka_unit_test(verify_is_a_validation),
		cmocka_unit_test(several_workers_share_the_blocks),
		cmocka_unit_test(the_same_plan_gives_the_same_text),
		cmocka_unit_test(every_stamp_is_scanned),
		cmocka_unit_test(gpu_half_is_a_library_of_its_own),
		cmocka_unit_test(awkward_paths_reach_the_programs),
		cmocka_unit_test(refuses_templates_with_other_marks),
	};
	return cmocka_run_group_tests(tests, make, clean);
}
