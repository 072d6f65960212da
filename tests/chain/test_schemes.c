/* All schemes of the catalog, held against each other from the bytes of the published
 * checkpoints: the FP8 set of each is exactly its coverage manifest, and any two differ
 * in precisely the groups they should. Ten "different" checkpoints with identical
 * weights is the bug this project began with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/artifact/digest.h"
#include "lib/base/json.h"
#include "lib/checkpoint/safetensors.h"
#include "lib/quant/assemble.h"
#include "lib/quant/groups.h"
#include "lib/quant/verify.h"
#include "tests/support/build_tree.h"
#include "tests/support/golden.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

/* The families and their baselines; the catalog has more, compared with them too. */
enum { SCHEMES = 22, COMPARED = 25, MAX_LINEARS = 128, MAX_JSON = 64 << 20 };

#define QUANTIZED "models/tiny_qwen2_5_vl/quantized"

/* What a published checkpoint holds of one linear. */
struct published_linear {
	bool fp8;
	struct digest bytes; /* of its weight */
};

struct published {
	char name[128], file_name[128], folder[PATH_BYTES];
	bool text_only; /* cut from the baseline of the language model */
	double percent; /* 100 of a baseline itself */
	struct published_linear linears[MAX_LINEARS];
	bool selected[MAX_LINEARS]; /* [group], by the coverage manifest */
	int groups;                 /* of its baseline */
};

struct family {
	char folder[PATH_BYTES];
	struct linear_shape *linears;
	int linear_count;
	struct group_list groups; /* all of the model's */
	struct published schemes[SCHEMES];
	arena memory;
};

/* ---- reading ---- */

static void name_scheme(struct published *p, int index, const char *folder)
{
	static const char *const kinds[] = { "_all_layers_fp8", "_full", "_all_layers_top",
		"_top" };
	int kind = index < 2 ? index : index < 12 ? 2 : 3;
	p->text_only = kind % 2 == 1;
	p->percent = index < 2 ? 100 : (index - 2) % 10 * 10 + 10;
	if (index < 2)
		snprintf(p->name, sizeof p->name, "fp8_autoquant%s_coco2017", kinds[kind]);
	else
		snprintf(p->name, sizeof p->name, "fp8_autoquant%s%g_coco2017", kinds[kind],
		         p->percent);
	snprintf(p->file_name, sizeof p->file_name, "%s",
	         index == 0 ? "fp8_autoquant_all_layers_fp8" : p->name);
	char below[PATH_BYTES];
	snprintf(below, sizeof below, QUANTIZED "/%s", p->name);
	built_path(p->folder, folder, below);
}

static const struct tensor *find_part(const struct checkpoint *c, const char *linear,
                                      const char *part)
{
	char hub[NAME_BYTES], name[NAME_BYTES + 32];
	name_to_hub(linear, hub);
	snprintf(name, sizeof name, "%s.%s", hub, part);
	return checkpoint_find(c, name);
}

/* Every FP8 tensor is the weight of a linear that has both scales; no other linear has
 * one. The head has no weight of its own. */
static void read_tensors(struct published *p, const struct family *f)
{
	struct checkpoint c;
	error err;
	int coded = 0, expected = 0;
	if (!checkpoint_open(&c, p->folder, &err))
		fail_msg("%s", err.text);
	for (size_t i = 0; i < c.count; i++)
		coded += c.by_name[i]->dtype == DTYPE_F8_E4M3;
	for (int i = 0; i < f->linear_count - 1; i++) {
		const char *name = f->linears[i].name;
		const struct tensor *t = find_part(&c, name, "weight");
		assert_non_null(t);
		struct published_linear *l = &p->linears[i];
		l->fp8 = t->dtype == DTYPE_F8_E4M3;
		expected += l->fp8;
		assert_true(l->fp8 || t->dtype == DTYPE_BF16);
		assert_int_equal(find_part(&c, name, "weight_scale") != NULL, l->fp8);
		assert_int_equal(find_part(&c, name, "input_scale") != NULL, l->fp8);
		assert_true(digest_bytes(t->data, t->bytes, &l->bytes, &err));
	}
	assert_int_equal(coded, expected);
	checkpoint_close(&c);
}

static void load_manifest(json_doc *doc, const struct published *p, const char *suffix)
{
	char path[PATH_BYTES];
	error err;
	int length = snprintf(path, sizeof path, "%s/layer-sensitivity/%s_%s.json", p->folder,
	                      p->file_name, suffix);
	assert_in_range(length, 1, (int)sizeof path - 1);
	if (!json_load(doc, path, MAX_JSON, &err))
		fail_msg("%s", err.text);
}

static int group_index(const struct family *f, const cJSON *name)
{
	assert_true(cJSON_IsString(name));
	const struct group *group = find_group(&f->groups, name->valuestring);
	assert_non_null(group);
	return (int)(group - f->groups.groups);
}

static void read_coverage_lists(struct published *p, const struct family *f)
{
	json_doc doc;
	bool seen[MAX_LINEARS] = { false };
	load_manifest(&doc, p, "coverage_from_baseline");
	static const char *const fields[] = { "selected_layers", "dropped_layers" };
	for (int i = 0; i < 2; i++) {
		const cJSON *list = cJSON_GetObjectItemCaseSensitive(doc.root, fields[i]);
		assert_true(cJSON_IsArray(list));
		for (const cJSON *name = list->child; name; name = name->next) {
			int group = group_index(f, name);
			assert_false(seen[group]);
			seen[group] = true;
			p->selected[group] = i == 0;
			p->groups++;
		}
	}
	json_free(&doc);
}

static int make_family(void **state)
{
	struct family *f = calloc(1, sizeof *f);
	struct model_config config;
	error err;
	*state = f;
	assert_non_null(f);
	assert_true(temp_folder_make(f->folder, &err));
	build_tree(f->folder, "--set calibrations.coco2017_vlm.calib_samples=8 "
	           "--set calibrations.coco2017_vlm.score_samples=8 "
	           "--set calibrations.coco2017_captions.calib_samples=8 "
	           "--set calibrations.coco2017_captions.score_samples=8", "all");
	assert_true(model_config_load(&config, DEMO_MODEL, &err));
	assert_true(list_linears(&config, &f->memory, &f->linears, &f->linear_count, &err));
	assert_true(make_groups(f->linears, f->linear_count, NULL, 0, &f->memory, &f->groups,
	                        &err));
	assert_in_range(f->linear_count, 1, MAX_LINEARS);
	for (int i = 0; i < SCHEMES; i++) {
		name_scheme(&f->schemes[i], i, f->folder);
		read_tensors(&f->schemes[i], f);
		read_coverage_lists(&f->schemes[i], f);
	}
	return 0;
}

static int remove_family(void **state)
{
	struct family *f = *state;
	temp_folder_remove(f->folder);
	arena_free(&f->memory);
	free(f);
	return 0;
}

/* ---- one checkpoint ---- */

static void each_fp8_set_is_its_coverage(void **state)
{
	const struct family *f = *state;
	for (int s = 0; s < SCHEMES; s++) {
		const struct published *p = &f->schemes[s];
		for (int g = 0; g < f->groups.count; g++)
			for (int m = 0; m < f->groups.groups[g].member_count; m++) {
				int linear = f->groups.groups[g].members[m];
				if (p->linears[linear].fp8 != p->selected[g])
					fail_msg("%s: %s: coverage says %d, the tensor %d", p->name,
					         f->linears[linear].name, p->selected[g],
					         p->linears[linear].fp8);
			}
	}
}

/* The k = max(1, ceil(X/100 * N)) groups at the head of the ranking, but for the patch
 * convolution, which nothing can load; of the language model alone no vision group. */
static void each_coverage_is_the_least_sensitive(void **state)
{
	const struct family *f = *state;
	for (int s = 0; s < SCHEMES; s++) {
		const struct published *p = &f->schemes[s];
		json_doc doc;
		load_manifest(&doc, p, "quant_manifest");
		const cJSON *ranking = cJSON_GetObjectItemCaseSensitive(doc.root,
		                                                        "sensitivity_ranking");
		assert_int_equal(cJSON_GetArraySize(ranking), p->groups);
		assert_int_equal(p->groups, p->text_only ? 24 : 43);
		int asked = ((int)p->percent * p->groups + 99) / 100, place = 0;
		double before = 0;
		for (const cJSON *r = ranking->child; r; r = r->next, place++) {
			const cJSON *name = cJSON_GetObjectItemCaseSensitive(r, "name");
			double score = cJSON_GetObjectItemCaseSensitive(r, "importance")->valuedouble;
			const struct group *group = &f->groups.groups[group_index(f, name)];
			assert_true(score >= before);
			assert_false(p->text_only && group->vision);
			assert_int_equal(p->selected[group_index(f, name)],
			                 place < asked && group->exportable);
			before = score;
		}
		json_free(&doc);
	}
}

/* ---- two checkpoints ---- */

/* How many groups differ; fails where one differs that should not, or the reverse. */
static int count_differing(const struct family *f, const struct published *a,
                           const struct published *b)
{
	int differing = 0;
	for (int g = 0; g < f->groups.count; g++) {
		const struct group *group = &f->groups.groups[g];
		bool should = a->selected[g] != b->selected[g];
		for (int m = 0; m < group->member_count; m++) {
			int linear = group->members[m];
			if (linear == f->linear_count - 1)
				continue;
			bool does = !digest_equal(&a->linears[linear].bytes,
			                          &b->linears[linear].bytes);
			if (does != should)
				fail_msg("%s and %s: %s", a->name, b->name, f->linears[linear].name);
		}
		differing += should;
	}
	return differing;
}

static void any_two_differ_as_they_should(void **state)
{
	const struct family *f = *state;
	for (int a = 0; a < SCHEMES; a++)
		for (int b = a + 1; b < SCHEMES; b++) {
			const struct published *left = &f->schemes[a], *right = &f->schemes[b];
			int differing = count_differing(f, left, right);
			/* Two of one family are the same at the same percentage only. */
			if (left->text_only == right->text_only)
				assert_int_equal(differing == 0, left->percent == right->percent);
			else
				assert_true(differing > 0);
		}
}

static void load_record(const struct family *f, json_doc *doc)
{
	char path[PATH_BYTES];
	error err;
	built_path(path, f->folder, QUANTIZED "/scheme-diversity.json");
	if (!json_load(doc, path, MAX_JSON, &err))
		fail_msg("%s", err.text);
}

/* NULL: of no family. */
static const struct published *find_scheme(const struct family *f, const cJSON *pair,
                                           const char *side)
{
	const cJSON *name = cJSON_GetObjectItemCaseSensitive(pair, side);
	assert_true(cJSON_IsString(name));
	for (int i = 0; i < SCHEMES; i++)
		if (strcmp(f->schemes[i].name, name->valuestring) == 0)
			return &f->schemes[i];
	return NULL;
}

static void the_record_says_so(void **state)
{
	const struct family *f = *state;
	json_doc doc;
	load_record(f, &doc);
	const cJSON *same = cJSON_GetObjectItemCaseSensitive(doc.root, "identical_by_design");
	const cJSON *pairs = cJSON_GetObjectItemCaseSensitive(doc.root, "pairs");
	assert_int_equal(cJSON_GetArraySize(same) + cJSON_GetArraySize(pairs),
	                 COMPARED * (COMPARED - 1) / 2);
	int twins = 0;
	for (const cJSON *p = same->child; p; p = p->next) {
		const struct published *a = find_scheme(f, p, "a"), *b = find_scheme(f, p, "b");
		if (!a || !b)
			continue;
		assert_int_equal(count_differing(f, a, b), 0);
		twins++;
	}
	assert_int_equal(twins, 2);
	for (const cJSON *p = pairs->child; p; p = p->next) {
		const cJSON *count = cJSON_GetObjectItemCaseSensitive(p, "groups_that_differ");
		assert_true(cJSON_IsNumber(count));
		const struct published *a = find_scheme(f, p, "a"), *b = find_scheme(f, p, "b");
		if (a && b)
			assert_int_equal(count->valueint, count_differing(f, a, b));
	}
	json_free(&doc);
}

/* ---- the bug itself ---- */

/* Copies the layer-sensitivity folders of two schemes to folder/forced, the second with
 * the weights (the digests) of the first, and compares them. */
static int compare_forced(const struct family *f, const struct published *from,
                          const struct published *to, char *said, size_t size)
{
	char *command = malloc(16 * PATH_BYTES);
	assert_non_null(command);
	snprintf(command, 16 * PATH_BYTES,
	         "diversity --help && mkdir -p '%s/forced' && "
	         "cp -f '%s/layer-sensitivity/'*_files.json '%s/layer-sensitivity/'*_coverage* "
	         "'%s/layer-sensitivity/'*_coverage* '%s/layer-sensitivity/%s_quant_manifest.json' "
	         "'%s/layer-sensitivity/%s_quant_manifest.json' '%s/forced' && "
	         "cp -f '%s/layer-sensitivity/%s_files.json' '%s/forced/%s_files.json'",
	         f->folder, from->folder, from->folder, to->folder, from->folder,
	         from->file_name, to->folder, to->file_name, f->folder, from->folder,
	         from->file_name, f->folder, to->file_name);
	assert_int_equal(run_tool(command, said, size), 0);
	snprintf(command, 16 * PATH_BYTES, "diversity --out '%s/forced/record.json' "
	         "'%s/forced/%s_files.json' '%s/forced/%s_files.json'", f->folder, f->folder,
	         from->file_name, f->folder, to->file_name);
	int status = run_tool(command, said, size);
	free(command);
	return status;
}

static void identical_weights_are_found(void **state)
{
	const struct family *f = *state;
	const struct published *top10 = &f->schemes[2], *top20 = &f->schemes[3],
	                       *top100 = &f->schemes[11], *full = &f->schemes[0];
	char said[4096], record[PATH_BYTES];
	assert_int_equal(compare_forced(f, top10, top20, said, sizeof said), EXIT_BAD_INPUT);
	assert_non_null(strstr(said, "diversity: "));
	assert_non_null(strstr(said, top10->name));
	assert_non_null(strstr(said, top20->name));
	assert_non_null(strstr(said, "expected different weights, found equal"));
	assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
	assert_true(join_path(record, sizeof record, f->folder, "forced/record.json",
	                      &(error){ 0 }));
	assert_false(file_exists(record));
	/* The same trick with two that are the same by design is no fault. */
	assert_int_equal(compare_forced(f, top100, full, said, sizeof said), EXIT_OK);
	assert_string_equal(said, "");
	assert_true(file_exists(record));
}

/* ---- shards ---- */

static void path_in(char path[PATH_BYTES], const struct family *f, const char *below)
{
	built_path(path, f->folder, below);
}

/* The scheme of that name packed into shards of at most 3 MB. */
static void pack(const struct family *f, const struct published *p, const char *out)
{
#define WORK "work/tiny_qwen2_5_vl/"
#define ALL_LAYERS WORK "fp8_autoquant_all_layers_fp8_coco2017/"
	char tree[PATH_BYTES], baseline[PATH_BYTES], slice[PATH_BYTES], amax[PATH_BYTES],
	     quantized[PATH_BYTES], below[PATH_BYTES];
	struct assembled done;
	error err;
	path_in(tree, f, ".");
	path_in(baseline, f, ALL_LAYERS "fp8_autoquant_all_layers_fp8_quant_manifest.json");
	path_in(amax, f, ALL_LAYERS "amax.json");
	path_in(quantized, f, ALL_LAYERS "quantize.json");
	snprintf(below, sizeof below, WORK "schemes/%s", p->name);
	path_in(slice, f, below);
	const struct assembly a = { .tree = tree, .amax = amax, .out = out,
		.about = { .model = DEMO_MODEL, .scheme = p->name, .file_name = p->file_name,
			.baseline = baseline, .slice = slice },
		.quantized = (const char *const[]){ quantized }, .quantized_count = 1,
		.layout = LAYOUT_PACKED, .shard_bytes = 3000000 };
	if (!assemble_checkpoint(&a, &done, &err))
		fail_msg("%s", err.text);
	assert_true(done.written > 3 * a.shard_bytes);
}

static void shards_hold_what_the_links_hold(void **state)
{
	const struct family *f = *state;
	const struct published *top50 = &f->schemes[6];
	struct checkpoint linked, packed;
	struct verified verified;
	char out[PATH_BYTES];
	error err;
	assert_true(join_path(out, sizeof out, f->folder, "packed", &err));
	pack(f, top50, out);
	if (!verify_checkpoint(out, DEMO_MODEL, &verified, &err))
		fail_msg("%s", err.text);
	assert_string_equal(verified.layout, "packed");
	assert_true(checkpoint_open(&linked, top50->folder, &err));
	assert_true(checkpoint_open(&packed, out, &err));
	assert_in_range(packed.file_count, 4, 8);
	for (size_t i = 0; i < packed.file_count; i++)
		assert_in_range(packed.files[i].map.size, 1, 3000000);
	assert_int_equal(packed.count, linked.count);
	for (size_t i = 0; i < packed.count; i++) {
		const struct tensor *a = linked.by_name[i], *b = packed.by_name[i];
		assert_string_equal(a->name, b->name);
		assert_int_equal(a->dtype, b->dtype);
		assert_int_equal(a->bytes, b->bytes);
		assert_memory_equal(a->data, b->data, a->bytes);
	}
	checkpoint_close(&linked);
	checkpoint_close(&packed);
}

/* Weights of another scheme under the names and the list of this one. */
static void verify_finds_swapped_weights(void **state)
{
	const struct family *f = *state;
	const struct published *top50 = &f->schemes[6], *top60 = &f->schemes[7];
	char command[8 * PATH_BYTES], said[4096];
	snprintf(command, sizeof command,
	         "verify --help && cp -rL '%s' '%s/swapped' && chmod -R u+w '%s/swapped' && "
	         "cp -f '%s/scales.safetensors' '%s/swapped/'", top60->folder, f->folder,
	         f->folder, top50->folder, f->folder);
	assert_int_equal(run_tool(command, said, sizeof said), 0);
	snprintf(command, sizeof command, "verify --model " DEMO_MODEL " '%s/swapped'",
	         f->folder);
	assert_int_equal(run_tool(command, said, sizeof said), EXIT_BAD_INPUT);
	assert_non_null(strstr(said, "scales.safetensors"));
}

/* A copy that follows the links is a checkpoint of its own. */
static void copies_verify(void **state)
{
	const struct family *f = *state;
	char command[8 * PATH_BYTES], said[4096];
	snprintf(command, sizeof command, "verify --help && cp -rL '%s' '%s/copy'",
	         f->schemes[4].folder, f->folder);
	assert_int_equal(run_tool(command, said, sizeof said), 0);
	snprintf(command, sizeof command, "verify --model " DEMO_MODEL " '%s/copy'", f->folder);
	assert_int_equal(run_tool(command, said, sizeof said), EXIT_OK);
	assert_string_equal(said, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_fp8_set_is_its_coverage),
		cmocka_unit_test(each_coverage_is_the_least_sensitive),
		cmocka_unit_test(any_two_differ_as_they_should),
		cmocka_unit_test(the_record_says_so),
		cmocka_unit_test(identical_weights_are_found),
		cmocka_unit_test(shards_hold_what_the_links_hold),
		cmocka_unit_test(verify_finds_swapped_weights),
		cmocka_unit_test(copies_verify),
	};
	return cmocka_run_group_tests(tests, make_family, remove_family);
}
