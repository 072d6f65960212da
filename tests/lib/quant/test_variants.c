/* The pieces that checkpoints are assembled from: codes are the nearest ones, what is
 * not quantised is the base's to the byte, every tensor is in exactly one place, and
 * what the store has is not made again. */
#include "lib/quant/variants.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/amax.h"
#include "kernels/fp8.h"
#include "lib/model/expand.h"
#include "lib/quant/packed.h"
#include "tests/support/e4m3.h"
#include "tests/support/expect_error.h"
#include "tests/support/random_model.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tool_digest.h"

#include <cmocka.h>

enum { MAX_BYTES = 1 << 26 };

static char original[PATH_BYTES]; /* the model that tests copy */
static char folder[PATH_BYTES], model[PATH_BYTES], tree[PATH_BYTES];

static const char *const HEAD[] = { "lm_head" };
static const char *const TEXT_ONLY[] = { "lm_head", "visual.*" };

/* A linear of more than one chunk, a head of its own, two shards. */
static struct random_model shape_of_test(void)
{
	struct random_model shape = random_model_tiny();
	shape.config.text.hidden = 256;
	shape.config.text.intermediate = 4104;
	shape.config.text.layers = 1;
	shape.config.text.tied_head = false;
	shape.config.vision.depth = 1;
	shape.shards = 2;
	return shape;
}

static int make(void **state)
{
	(void)state;
	struct random_model shape = shape_of_test();
	error err;
	if (tool_digest_make() && temp_folder_make(original, &err) &&
	    random_model_write(&shape, original, &err))
		return 0;
	print_error("%s\n", err.text);
	return -1;
}

static int clean(void **state)
{
	(void)state;
	temp_folder_remove(original);
	tool_digest_remove();
	return 0;
}

/* Every test has a copy of the model and an empty tree. */
static int make_test(void **state)
{
	(void)state;
	char copy[3 * PATH_BYTES];
	error err;
	if (!temp_folder_make(folder, &err) ||
	    !join_path(model, sizeof model, folder, "model", &err) ||
	    !join_path(tree, sizeof tree, folder, "tree", &err))
		return -1;
	snprintf(copy, sizeof copy, "cp -r '%s' '%s'", original, model);
	return system(copy);
}

static int clean_test(void **state)
{
	(void)state;
	temp_folder_remove(folder);
	return 0;
}

static struct variant_job job_of(enum numerics numerics, bool shared)
{
	return (struct variant_job){ .model = model, .tree = tree, .target = "the target",
		.format_name = "FP8_DEFAULT_CFG", .format = format_find("fp8_e4m3", "tensor"),
		.numerics = numerics, .shared_scales = shared, .exclude = HEAD,
		.exclude_count = 1 };
}

static void make_set(struct variant_set *set, const struct variant_job *job)
{
	error err;
	if (!make_variants(set, job, &err))
		fail_msg("%s", err.text);
}

/* An object of the store as the safetensors file that it is. */
static void open_object(struct safetensors *file, const struct output *o)
{
	struct store store;
	char path[PATH_BYTES], top[PATH_BYTES];
	error err;
	if (!join_path(top, sizeof top, tree, "store", &err) || !store_open(&store, top, &err) ||
	    !store_object_path(&store, &o->digest, path, &err) ||
	    !safetensors_open(file, path, &err))
		fail_msg("%s", err.text);
	assert_int_equal(file->map.size, o->bytes);
}

static float *expanded(const struct tensor *t)
{
	float *values = aligned_alloc(64, ((size_t)t->elements * sizeof *values + 63) / 64 * 64);
	assert_non_null(values);
	expand_values(values, t->dtype, t->data, (size_t)t->elements);
	return values;
}

/* ---- one piece ---- */

static void check_same_tensor(const struct tensor *found, const struct checkpoint *base)
{
	const struct tensor *t = checkpoint_find(base, found->name);
	assert_non_null(t);
	assert_int_equal(found->dtype, t->dtype);
	assert_int_equal(found->rank, t->rank);
	assert_memory_equal(found->shape, t->shape, (size_t)t->rank * sizeof *t->shape);
	assert_int_equal(found->bytes, t->bytes);
	assert_memory_equal(found->data, t->data, t->bytes);
}

/* The tensor of a group's member, among those of a file in the order of their bytes. */
static const struct tensor *member_tensor(const struct safetensors *file,
                                          const struct variant_pair *pair, int member)
{
	char hub[NAME_BYTES], name[NAME_BYTES + 8];
	name_to_hub(pair->members[member], hub);
	snprintf(name, sizeof name, "%s.weight", hub);
	assert_true(member < (int)file->count);
	assert_string_equal(file->tensors[member].name, name);
	return &file->tensors[member];
}

static void check_codes(const struct tensor *coded, const struct checkpoint *base,
                        float scale, enum numerics numerics)
{
	const struct tensor *t = checkpoint_find(base, coded->name);
	const uint8_t *codes = coded->data;
	size_t count = (size_t)coded->elements;
	assert_int_equal(coded->dtype, DTYPE_F8_E4M3);
	assert_int_equal(coded->rank, t->rank);
	assert_memory_equal(coded->shape, t->shape, (size_t)t->rank * sizeof *t->shape);
	float *w = expanded(t);
	float steps = numerics == NUMERICS_QUERN ? 0.5f : 1.0f;
	assert_int_equal(fp8_find_far(codes, w, count, scale, steps), count);
	for (size_t i = 0; numerics == NUMERICS_QUERN && i < count; i++)
		assert_int_equal(codes[i], e4m3_nearest((double)w[i], (double)scale));
	free(w);
}

/* The scales a group should carry. */
static void check_scales(const struct variant_pair *pair, const struct safetensors *plain,
                         const struct variant_job *job)
{
	float each[MAX_MEMBERS], largest = 0;
	for (int m = 0; m < pair->member_count; m++) {
		float *w = expanded(&plain->tensors[m]);
		each[m] = amax(w, (size_t)plain->tensors[m].elements);
		largest = fmaxf(largest, each[m]);
		free(w);
	}
	for (int m = 0; m < pair->member_count; m++)
		assert_true(pair->weight_scales[m] ==
		            fp8_shipped_weight_scale(job->numerics,
		                                     job->shared_scales ? largest : each[m]));
}

static void check_pair(const struct variant_pair *pair, const struct checkpoint *base,
                       const struct variant_job *job)
{
	struct safetensors plain, quantised;
	open_object(&plain, &pair->plain);
	assert_int_equal(plain.count, pair->member_count);
	for (int m = 0; m < pair->member_count; m++)
		check_same_tensor(member_tensor(&plain, pair, m), base);
	if (pair->quantised.bytes) {
		open_object(&quantised, &pair->quantised);
		assert_int_equal(quantised.count, pair->member_count);
		check_scales(pair, &plain, job);
		for (int m = 0; m < pair->member_count; m++)
			check_codes(member_tensor(&quantised, pair, m), base, pair->weight_scales[m],
			            job->numerics);
		safetensors_close(&quantised);
	}
	safetensors_close(&plain);
}

/* ---- all pieces ---- */

/* Plain pieces and the rest are together the base, each tensor once. */
static void check_whole(const struct variant_set *set, const struct checkpoint *base)
{
	struct safetensors rest;
	size_t tensors = 0;
	open_object(&rest, &set->rest);
	for (size_t i = 0; i < rest.count; i++)
		check_same_tensor(&rest.tensors[i], base);
	tensors = rest.count;
	for (int i = 0; i < set->count; i++)
		for (int m = 0; m < set->pairs[i].member_count; m++) {
			char hub[NAME_BYTES], name[NAME_BYTES + 8];
			name_to_hub(set->pairs[i].members[m], hub);
			snprintf(name, sizeof name, "%s.weight", hub);
			for (size_t t = 0; t < rest.count; t++)
				assert_string_not_equal(rest.tensors[t].name, name);
			tensors++;
		}
	assert_int_equal(tensors, base->count);
	safetensors_close(&rest);
}

static void check_job(const struct variant_job *job)
{
	struct variant_set set;
	struct checkpoint base;
	error err;
	int coded = 0;
	make_set(&set, job);
	assert_true(checkpoint_open(&base, model, &err));
	for (int i = 0; i < set.count; i++) {
		check_pair(&set.pairs[i], &base, job);
		coded += set.pairs[i].quantised.bytes > 0;
	}
	check_whole(&set, &base);
	/* The patch convolution and the head have no codes. */
	assert_int_equal(set.count, 3 + 4 + 4 + 1);
	assert_int_equal(coded, set.count - 2);
	assert_int_equal(set.pairs[0].quantised.bytes, 0);
	assert_string_equal(set.pairs[0].group, "visual.patch_embed.proj.quant_recipe");
	assert_int_equal(set.pairs[set.count - 1].quantised.bytes, 0);
	checkpoint_close(&base);
	variants_free(&set);
}

static void codes_are_the_nearest_and_the_rest_is_the_base(void **state)
{
	(void)state;
	for (int shared = 0; shared < 2; shared++) {
		const struct variant_job quern = job_of(NUMERICS_QUERN, shared);
		const struct variant_job modelopt = job_of(NUMERICS_MODELOPT, shared);
		check_job(&quern);
		check_job(&modelopt);
	}
}

/* What comes back of a packed member is what scoring rounds its weight to. */
static void check_member(const struct variant_pair *pair, int member,
                         const struct safetensors *packed, const struct safetensors *plain,
                         const struct variant_job *job)
{
	const struct tensor_source from = tensors_of_file(packed);
	const struct tensor *t = member_tensor(plain, pair, member);
	struct linear_shape shape = { .out = (int)t->shape[0], .in = (int)t->shape[1] };
	struct packed_linear p;
	error err;
	snprintf(shape.name, sizeof shape.name, "%s", pair->members[member]);
	if (!packed_find_weight(&p, job->format, job->profile, &shape,
	                        pair->weight_scales[member], &from, &err))
		fail_msg("%s", err.text);
	float *w = expanded(t), *back = expanded(t), *scored = expanded(t);
	float largest = 0;
	for (int m = 0; m < pair->member_count; m++) {
		float *other = expanded(&plain->tensors[m]);
		largest = fmaxf(largest, amax(other, (size_t)plain->tensors[m].elements));
		free(other);
	}
	job->format->unpack(&p.weight, 0, shape.out, back);
	job->format->round_weight(NUMERICS_QUERN, w, shape.out, shape.in, largest, scored);
	assert_memory_equal(back, scored, (size_t)t->elements * sizeof *back);
	free(w);
	free(back);
	free(scored);
}

static void check_packed_pair(const struct variant_pair *pair,
                              const struct variant_job *job)
{
	struct safetensors packed, plain;
	struct packed_tensor list[MAX_PACKED];
	open_object(&packed, &pair->quantised);
	open_object(&plain, &pair->plain);
	int tensors = job->format->tensors(job->profile, 2, 128, list);
	assert_int_equal(packed.count, pair->member_count * tensors);
	for (int m = 0; m < pair->member_count; m++)
		check_member(pair, m, &packed, &plain, job);
	safetensors_close(&packed);
	safetensors_close(&plain);
}

static void every_format_packs_what_it_scores(void **state)
{
	(void)state;
	for (int k = 0; format_at(k); k++)
		for (enum profile p = PROFILE_UNIVERSAL; p <= PROFILE_MODELOPT; p++) {
			struct variant_job job = job_of(NUMERICS_QUERN, true);
			struct variant_set set;
			int coded = 0;
			job.format = format_at(k);
			job.profile = p;
			job.skip_bad_shapes = true;
			make_set(&set, &job);
			for (int i = 0; i < set.count; i++) {
				if (set.pairs[i].quantised.bytes)
					check_packed_pair(&set.pairs[i], &job);
				coded += set.pairs[i].quantised.bytes > 0;
			}
			assert_in_range(coded, 1, set.count - 1); /* the head has none */
			variants_free(&set);
		}
}

/* Scales that BF16 does not hold, in a profile that keeps them so. */
static void refuses_numerics_that_do_not_fit(void **state)
{
	struct variant_job job = job_of(NUMERICS_MODELOPT, false);
	struct variant_set set;
	error err;
	(void)state;
	job.format = format_find("int8", "channel");
	assert_false(make_variants(&set, &job, &err));
	expect_error(&err, EXIT_BAD_INPUT, "int8", "numerics quern", NULL);
}

static void excluded_groups_have_no_codes(void **state)
{
	(void)state;
	struct variant_job job = job_of(NUMERICS_QUERN, true);
	struct variant_set set;
	char slashed[PATH_BYTES + 1];
	snprintf(slashed, sizeof slashed, "%s/", model);
	job.model = slashed; /* a folder however it is written */
	job.exclude = TEXT_ONLY;
	job.exclude_count = 2;
	make_set(&set, &job);
	for (int i = 0; i < set.count; i++) {
		bool text = strncmp(set.pairs[i].group, "language_model.", 15) == 0;
		assert_int_equal(set.pairs[i].quantised.bytes > 0, text);
		assert_true(set.pairs[i].plain.bytes > 0);
	}
	variants_free(&set);
}

static void a_tied_head_is_no_piece(void **state)
{
	(void)state;
	struct random_model shape = random_model_tiny();
	struct variant_job job = job_of(NUMERICS_QUERN, true);
	struct variant_set set;
	struct checkpoint base;
	error err;
	temp_folder_remove(model);
	assert_true(make_folders(model, &err) && random_model_write(&shape, model, &err));
	make_set(&set, &job);
	assert_true(checkpoint_open(&base, model, &err));
	for (int i = 0; i < set.count; i++)
		assert_null(strstr(set.pairs[i].group, "lm_head"));
	check_whole(&set, &base);
	checkpoint_close(&base);
	variants_free(&set);
}

/* ---- the store ---- */

/* Lines of out/log/edges.jsonl with this in them. */
static int count_logged(const char *piece)
{
	char path[PATH_BYTES], *log;
	size_t size;
	error err;
	int count = 0;
	assert_true(join_path(path, sizeof path, tree, "log/edges.jsonl", &err));
	assert_true(read_file(path, MAX_BYTES, &log, &size, &err));
	for (const char *at = log; (at = strstr(at, piece)); at++)
		count++;
	free(log);
	return count;
}

static void check_same_set(const struct variant_set *a, const struct variant_set *b)
{
	assert_int_equal(a->count, b->count);
	assert_string_equal(a->rest.digest.hex, b->rest.digest.hex);
	for (int i = 0; i < a->count; i++) {
		const struct variant_pair *p = &a->pairs[i], *q = &b->pairs[i];
		assert_string_equal(p->group, q->group);
		assert_int_equal(p->member_count, q->member_count);
		assert_string_equal(p->plain.digest.hex, q->plain.digest.hex);
		assert_string_equal(p->quantised.digest.hex, q->quantised.digest.hex);
		assert_int_equal(p->plain.bytes, q->plain.bytes);
		assert_int_equal(p->quantised.bytes, q->quantised.bytes);
		for (int m = 0; m < p->member_count; m++) {
			assert_string_equal(p->members[m], q->members[m]);
			assert_true(!p->quantised.bytes ||
			            p->weight_scales[m] == q->weight_scales[m]);
		}
	}
}

#define HIT "\"hit\":true"
#define MISS "\"hit\":false"

static void a_second_run_finds_everything(void **state)
{
	(void)state;
	const struct variant_job job = job_of(NUMERICS_QUERN, true);
	struct variant_set first, second;
	make_set(&first, &job);
	assert_int_equal(count_logged(MISS), first.count + 1);
	assert_int_equal(count_logged(HIT), 0);
	make_set(&second, &job);
	assert_int_equal(count_logged(MISS), first.count + 1);
	assert_int_equal(count_logged(HIT), first.count + 1);
	check_same_set(&first, &second);
	variants_free(&first);
	variants_free(&second);
}

/* Replaces bytes of a tensor in its shard. */
static void overwrite(const char *name, size_t at, const void *bytes, size_t size)
{
	struct checkpoint base;
	char path[PATH_BYTES];
	long offset = -1;
	error err;
	assert_true(checkpoint_open(&base, model, &err));
	for (size_t i = 0; i < base.file_count; i++) {
		const struct tensor *t = checkpoint_find(&base, name);
		if (t && strcmp(t->file, base.files[i].path) == 0)
			offset = (long)((const uint8_t *)t->data - base.files[i].map.data);
	}
	snprintf(path, sizeof path, "%s", checkpoint_find(&base, name)->file);
	checkpoint_close(&base);
	FILE *f = fopen(path, "r+b");
	assert_true(f && offset > 0 && fseek(f, offset + (long)at, SEEK_SET) == 0);
	assert_int_equal(fwrite(bytes, 1, size, f), size);
	assert_int_equal(fclose(f), 0);
}

/* Only what comes from the shard that changed is made again. */
static void a_changed_shard_costs_its_own_pieces(void **state)
{
	(void)state;
	const struct variant_job job = job_of(NUMERICS_QUERN, true);
	struct variant_set set;
	struct checkpoint base;
	const uint8_t two[2] = { 0x00, 0x40 }; /* 2.0 in BF16 */
	error err;
	int in_shard = 0, groups;
	make_set(&set, &job);
	groups = set.count;
	variants_free(&set);
	overwrite("lm_head.weight", 0, two, 2);
	assert_true(checkpoint_open(&base, model, &err));
	const char *changed = checkpoint_find(&base, "lm_head.weight")->file;
	make_set(&set, &job);
	for (int i = 0; i < set.count; i++) {
		bool touched = false;
		for (int m = 0; m < set.pairs[i].member_count; m++) {
			char hub[NAME_BYTES], name[NAME_BYTES + 8];
			name_to_hub(set.pairs[i].members[m], hub);
			snprintf(name, sizeof name, "%s.weight", hub);
			touched |= strcmp(checkpoint_find(&base, name)->file, changed) == 0;
		}
		in_shard += touched;
	}
	assert_in_range(in_shard, 1, groups - 1);
	assert_int_equal(count_logged(MISS), groups + 1 + in_shard + 1); /* and the rest */
	checkpoint_close(&base);
	variants_free(&set);
}

/* ---- odd weights ---- */

#define DOWN "model.layers.0.mlp.down_proj.weight"

static void zeros_and_nan(void **state)
{
	(void)state;
	const struct variant_job job = job_of(NUMERICS_QUERN, true);
	const size_t count = (size_t)256 * 4104;
	const uint8_t nan[2] = { 0xC0, 0x7F };
	struct variant_set set;
	struct safetensors file;
	error err;
	uint8_t *zeros = calloc(count, 2);
	assert_non_null(zeros);
	overwrite(DOWN, 0, zeros, 2 * count);
	make_set(&set, &job);
	const struct variant_pair *down = &set.pairs[set.count - 2];
	assert_string_equal(down->members[0], "language_model.layers.0.mlp.down_proj");
	assert_true(down->weight_scales[0] == 1.0f);
	open_object(&file, &down->quantised);
	assert_memory_equal(file.tensors[0].data, zeros, count);
	safetensors_close(&file);
	variants_free(&set);
	overwrite(DOWN, 2 * (count - 1), nan, 2); /* in the second chunk */
	assert_false(make_variants(&set, &job, &err));
	expect_error(&err, EXIT_BAD_INPUT, ".safetensors", DOWN, "nan", NULL);
	free(zeros);
}

/* ---- quantize.json ---- */

static const char *write_json(const char *content)
{
	static char path[PATH_BYTES];
	error err;
	assert_true(temp_folder_write(folder, "q.json", content, strlen(content), &err));
	assert_true(join_path(path, sizeof path, folder, "q.json", &err));
	return path;
}

static void a_set_comes_back_from_its_file(void **state)
{
	(void)state;
	const struct variant_job job = job_of(NUMERICS_MODELOPT, false);
	struct variant_set set, read;
	text out = { 0 };
	error err;
	make_set(&set, &job);
	assert_true(print_variants(&set, &out, &err));
	if (!variants_read(&read, write_json(out.data), &err))
		fail_msg("%s", err.text);
	check_same_set(&set, &read);
	text_free(&out);
	variants_free(&set);
	variants_free(&read);
}

#define OBJECT "{\"object\": " \
	"\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\", \"bytes\": 5}"
#define FORMAT(element) \
	"\"profile\": \"universal\", \"format\": {\"name\": \"N\", \"element\": \"" element \
	"\", \"granularity\": \"tensor\"}"
#define SET(groups) \
	"{" FORMAT("fp8_e4m3") ", \"groups\": " groups ",\n\"rest.safetensors\": " OBJECT "}"
#define GROUP(fields) SET("{\"g\": {\"plain.safetensors\": " OBJECT ", " fields "}}")

static void refuses_a_damaged_file(void **state)
{
	(void)state;
	static const struct {
		const char *content, *place, *says;
	} cases[] = {
		{ "{}", "q.json:1:1", "groups" },
		{ "{\"groups\": {}}", "q.json:1:1", "format" },
		{ "{" FORMAT("fp9") ", \"groups\": {}}", "format", "fp9" },
		{ "{" FORMAT("fp8_e4m3") ", \"groups\": {}}", "q.json:1:1", "rest.safetensors" },
		{ SET("[]"), "groups", "expected an object" },
		{ SET("{\"g\": 5}"), "groups.g", "expected an object" },
		{ GROUP("\"members\": 5"), "groups.g.members", "expected an array" },
		{ GROUP("\"members\": [1]"), "groups.g.members[0]", "members' names" },
		{ GROUP("\"members\": [\"a\", \"b\", \"c\", \"d\"]"), "groups.g.members[3]",
		  "at most 3" },
		{ SET("{\"g\": {\"members\": []}}"), "groups.g", "plain.safetensors" },
		{ SET("{\"g\": {\"members\": [], \"plain.safetensors\": {\"object\": \"xyz\", "
		      "\"bytes\": 1}}}"), "plain.safetensors", "expected a SHA-256" },
		{ SET("{\"g\": {\"members\": [], \"plain.safetensors\": {\"object\": \"\", "
		      "\"bytes\": 0}}}"), "bytes", "found 0" },
		{ GROUP("\"members\": [\"a\"], \"quantised.safetensors\": " OBJECT), "groups.g",
		  "weight_scales" },
		{ GROUP("\"members\": [\"a\"], \"quantised.safetensors\": " OBJECT
		        ", \"weight_scales\": []"), "weight_scales", "expected 1 scales, found 0" },
		{ GROUP("\"members\": [\"a\"], \"quantised.safetensors\": " OBJECT
		        ", \"weight_scales\": [0]"), "weight_scales[0]", "finite scales above 0" },
		{ GROUP("\"members\": [\"a\"], \"quantised.safetensors\": " OBJECT
		        ", \"weight_scales\": [1, 1]"), "weight_scales[1]", "1 finite scales" },
		{ GROUP("\"members\": [\"a\"], \"quantised.safetensors\": " OBJECT
		        ", \"weight_scales\": [1e39]"), "weight_scales[0]", "finite scales" },
	};
	struct variant_set set;
	error err;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_false(variants_read(&set, write_json(cases[i].content), &err));
		expect_error(&err, EXIT_BAD_INPUT, "q.json:", cases[i].place, cases[i].says, NULL);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_test, clean_test)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(codes_are_the_nearest_and_the_rest_is_the_base),
		TEST(every_format_packs_what_it_scores),
		TEST(refuses_numerics_that_do_not_fit),
		TEST(excluded_groups_have_no_codes),
		TEST(a_tied_head_is_no_piece),
		TEST(a_second_run_finds_everything),
		TEST(a_changed_shard_costs_its_own_pieces),
		TEST(zeros_and_nan),
		TEST(a_set_comes_back_from_its_file),
		TEST(refuses_a_damaged_file),
	};
	return cmocka_run_group_tests(tests, make, clean);
}
