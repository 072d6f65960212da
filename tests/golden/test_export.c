/* The exported folder against ModelOpt's own: the chain, run as ModelOpt was (numerics
 * modelopt, a scale for every member, profile modelopt, caption in the user turn), must
 * give every tensor of its export byte for byte, and configs that decide the same for
 * every linear. golden/README.md says where the files come from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

#include "lib/base/json.h"
#include "lib/base/text.h"
#include "lib/checkpoint/consumers.h"
#include "lib/checkpoint/safetensors.h"
#include "lib/model/linears.h"
#include "tests/support/build_tree.h"
#include "tests/support/golden.h"
#include "tests/support/image_files.h"
#include "tests/support/shared_data.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

/* A built export and the golden one. */
struct pair {
	json_doc golden;
	char folder[PATH_BYTES];
	struct checkpoint ours;
};

/* Fails the test unless ok. */
static void demand(bool ok, const error *err)
{
	if (!ok)
		fail_msg("%s", err->text);
}

static const cJSON *field(const cJSON *item, const char *name)
{
	const cJSON *found = cJSON_GetObjectItemCaseSensitive(item, name);
	if (!found)
		fail_msg("the golden file lacks %s", name);
	return found;
}

/* ---- the samples, as a calibration DB over the reference's resized images ---- */

static void run_sql(sqlite3 *db, const char *sql)
{
	char *message = NULL;
	if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
		fail_msg("%s: %s", sql, message);
}

static void add_row(sqlite3 *db, int id, const char *caption)
{
	char *sql = sqlite3_mprintf("INSERT INTO vlm_calib_samples VALUES "
	                            "(%d, 'calib', 'resized_%d.png', %d, %d, %Q)", id, id, id,
	                            id, caption);
	assert_non_null(sql);
	run_sql(db, sql);
	sqlite3_free(sql);
}

/* The golden samples, in their order; returns how many. */
static int write_db(const char *path, const char *golden)
{
	json_doc doc;
	sqlite3 *db;
	int count = 0;
	golden_load(&doc, golden, "autoquant.fp8_all_gradient.float32.cpu.json");
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	run_sql(db, "CREATE TABLE vlm_calib_samples (id INTEGER PRIMARY KEY, split TEXT, "
	            "image_relpath TEXT, image_id INTEGER, caption_id INTEGER, caption TEXT)");
	const cJSON *item;
	cJSON_ArrayForEach(item, field(doc.root, "samples"))
		add_row(db, count++, field(item, "caption")->valuestring);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	json_free(&doc);
	return count;
}

static void write_catalog(const char *folder, const char *images)
{
	text t = { 0 };
	error err;
	text_printf(&t,
	            "{\"models\": {\"tiny\": {\"path\": \"" DEMO_MODEL "\", "
	            "\"kind\": \"qwen2_5_vl\"}},\n"
	            "\"calibrations\": {\"golden\": {\"calib_db\": \"%s/golden.db\", "
	            "\"image_root\": \"%s\", \"data\": \"golden samples\", "
	            "\"prompt_form\": \"user_turn\"}},\n"
	            "\"formats\": {\"FP8\": {\"element\": \"fp8_e4m3\", "
	            "\"granularity\": \"tensor\", \"exclude\": [\"lm_head\"]}},\n"
	            "\"baselines\": {\"full\": {\"model\": \"tiny\", "
	            "\"calibration\": \"golden\", \"formats\": [\"FP8\"], "
	            "\"numerics\": \"modelopt\", \"shared_scales\": false, "
	            "\"profile\": \"modelopt\"}},\n"
	            "\"families\": {\"top{percent}\": {\"baseline\": \"full\", "
	            "\"percent\": [50, 100]}},\n\"schemes\": {}}\n", folder, images);
	assert_false(t.failed);
	demand(temp_folder_write(folder, "catalog.json", t.data, t.length, &err), &err);
	text_free(&t);
}

/* Runs the chain on the samples of a golden folder. */
static void build_exports(const char *folder, const char *golden, int samples)
{
	char path[PATH_BYTES], images[PATH_BYTES], *absolute, arguments[2 * PATH_BYTES];
	error err;
	demand(join_path(path, sizeof path, folder, "golden.db", &err), &err);
	assert_int_equal(write_db(path, golden), samples);
	demand(join_path(images, sizeof images, golden, "images", &err), &err);
	absolute = realpath(images, NULL);
	assert_non_null(absolute);
	write_catalog(folder, absolute);
	free(absolute);
	snprintf(arguments, sizeof arguments, "--catalog %s/catalog.json", folder);
	/* The twin too: verify makes its weights once more, by these numerics. */
	build_tree(folder, arguments, "all top50_bf16");
}

static void open_pair(struct pair *p, const char *folder, const char *golden, int percent)
{
	char name[64], below[64];
	error err;
	snprintf(name, sizeof name, "export.top%d.float32.cpu.json", percent);
	snprintf(below, sizeof below, "models/tiny/quantized/top%d", percent);
	golden_load(&p->golden, golden, name);
	built_path(p->folder, folder, below);
	demand(checkpoint_open(&p->ours, p->folder, &err), &err);
}

static void close_pair(struct pair *p)
{
	json_free(&p->golden);
	checkpoint_close(&p->ours);
}

/* ---- tensors ---- */

static const char *torch_name(enum dtype dtype)
{
	return dtype == DTYPE_BF16     ? "bfloat16"
	       : dtype == DTYPE_F32    ? "float32"
	       : dtype == DTYPE_F8_E4M3 ? "float8_e4m3fn"
	                               : dtype_name(dtype);
}

static void compare_tensor(const struct tensor *ours, const cJSON *golden)
{
	char digest[DIGEST_TEXT_BYTES];
	const cJSON *shape = field(golden, "shape");
	if (!ours)
		fail_msg("%s: ModelOpt exports it, we do not", golden->string);
	assert_string_equal(torch_name(ours->dtype), field(golden, "dtype")->valuestring);
	assert_int_equal(ours->rank, cJSON_GetArraySize(shape));
	for (int i = 0; i < ours->rank; i++)
		assert_int_equal(ours->shape[i], cJSON_GetArrayItem(shape, i)->valueint);
	digest_text(ours->data, ours->bytes, digest);
	if (strcmp(digest, field(golden, "sha256")->valuestring) != 0)
		fail_msg("%s: other bytes than ModelOpt's", golden->string);
}

static void compare_tensors(const struct pair *p)
{
	const cJSON *tensors = field(p->golden.root, "tensors"), *golden;
	int count = 0;
	cJSON_ArrayForEach(golden, tensors) {
		compare_tensor(checkpoint_find(&p->ours, golden->string), golden);
		count++;
	}
	assert_true(count > 0);
	assert_int_equal(p->ours.count, count);
}

/* ---- configs ---- */

/* The golden configs as the two files they were. */
static struct consumer_rules *open_golden_rules(const struct pair *p)
{
	json_doc config, quant;
	text printed = { 0 };
	struct consumer_rules *rules;
	error err;
	cJSON *root = cJSON_CreateObject();
	cJSON *copy = cJSON_Duplicate(field(p->golden.root, "quantization_config"), true);
	assert_non_null(root);
	assert_true(cJSON_AddItemToObject(root, "quantization_config", copy));
	demand(json_print(root, &printed, &err), &err);
	demand(json_parse(&config, "golden config.json", printed.data, printed.length, &err),
	       &err);
	cJSON_Delete(root);
	text_free(&printed);
	demand(json_print(field(p->golden.root, "hf_quant_config"), &printed, &err), &err);
	demand(json_parse(&quant, "golden hf_quant_config.json", printed.data, printed.length,
	                  &err), &err);
	text_free(&printed);
	demand(consumer_open(&rules, &config, &quant, &err), &err);
	json_free(&config);
	json_free(&quant);
	return rules;
}

static struct consumer_rules *open_our_rules(const struct pair *p)
{
	json_doc config, quant;
	struct consumer_rules *rules;
	error err;
	golden_load(&config, p->folder, "config.json");
	golden_load(&quant, p->folder, "hf_quant_config.json");
	demand(consumer_open(&rules, &config, &quant, &err), &err);
	json_free(&config);
	json_free(&quant);
	return rules;
}

static bool is_coded(const struct pair *p, const char *linear)
{
	char hub[NAME_BYTES], name[NAME_BYTES + 8];
	name_to_hub(linear, hub);
	snprintf(name, sizeof name, "%s.weight", hub);
	const struct tensor *t = checkpoint_find(&p->ours, name);
	return t && t->dtype == DTYPE_F8_E4M3;
}

/* Every reader of ModelOpt's form takes each linear for what it is (as far as it can:
 * TensorRT-LLM has no vision in FP8), from our configs and from ModelOpt's alike. */
static void compare_configs(const struct pair *p)
{
	struct consumer_rules *golden = open_golden_rules(p), *ours = open_our_rules(p);
	struct model_config config;
	struct linear_shape *linears;
	arena memory = { 0 };
	int count, readers = 0;
	error err;
	demand(model_config_load(&config, p->folder, &err) &&
	       list_linears(&config, &memory, &linears, &count, &err), &err);
	for (int c = 0; c < CONSUMER_COUNT; c++) {
		bool reads = consumer_reads(golden, (enum consumer)c);
		assert_int_equal(consumer_reads(ours, (enum consumer)c), reads);
		readers += reads;
		for (int i = 0; reads && i < count; i++) {
			const struct linear_form *theirs, *decided;
			demand(consumer_decision(golden, (enum consumer)c, linears[i].name, &theirs,
			                         NULL, &err), &err);
			demand(consumer_decision(ours, (enum consumer)c, linears[i].name, &decided,
			                         NULL, &err), &err);
			bool coded = is_coded(p, linears[i].name) &&
			             consumer_takes_codes((enum consumer)c, linears[i].name);
			if (!decided != !theirs || !decided != !coded)
				fail_msg("%s: %s: ours %d, ModelOpt's %d, the tensor %d",
				         consumer_name((enum consumer)c), linears[i].name, decided != NULL,
				         theirs != NULL, coded);
		}
	}
	assert_int_equal(readers, 3);
	arena_free(&memory);
	consumer_close(golden);
	consumer_close(ours);
}

/* ---- tests ---- */

static void compare_exports(const char *golden, int samples)
{
	char folder[PATH_BYTES];
	error err;
	demand(temp_folder_make(folder, &err), &err);
	build_exports(folder, golden, samples);
	for (int percent = 50; percent <= 100; percent += 50) {
		struct pair p;
		open_pair(&p, folder, golden, percent);
		compare_tensors(&p);
		compare_configs(&p);
		close_pair(&p);
	}
	temp_folder_remove(folder);
}

static void demo_exports_are_modelopts(void **state)
{
	(void)state;
	compare_exports(DEMO_GOLDEN, 16);
}

static void coco_exports_are_modelopts(void **state)
{
	(void)state;
	char golden[PATH_BYTES];
	if (!find_shared(golden, "golden/coco", "coco_exports_are_modelopts"))
		skip();
	compare_exports(golden, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(demo_exports_are_modelopts),
		cmocka_unit_test(coco_exports_are_modelopts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
