/* Opening a model: what is wrong with a checkpoint is found before anything is
 * computed, and said with file, tensor and place. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/matmul.h"
#include "tests/support/expect_error.h"
#include "tests/support/numeric.h"
#include "tests/support/open_model.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

static const size_t ALL = (size_t)1 << 30;

struct folder {
	char path[PATH_BYTES], file[PATH_BYTES];
	struct random_model shape;
};

static int start(void **state)
{
	error err;
	struct folder *f = calloc(1, sizeof *f);
	matmul_threads(1);
	*state = f;
	if (!f || !temp_folder_make(f->path, &err))
		return -1;
	f->shape = random_model_tiny();
	return join_path(f->file, sizeof f->file, f->path, "model.safetensors", &err) &&
	       random_model_write(&f->shape, f->path, &err) ? 0 : -1;
}

static int stop(void **state)
{
	struct folder *f = *state;
	temp_folder_remove(f->path);
	free(f);
	return 0;
}

/* Opens the folder's model as the configuration says. */
static bool try_open(const struct folder *f, const struct model_config *config, error *err)
{
	struct checkpoint ckpt;
	struct model m;
	if (!checkpoint_open(&ckpt, f->path, err))
		fail_msg("%s", err->text);
	bool ok = model_open(&m, &ckpt, config, ALL, err);
	if (ok)
		model_close(&m);
	checkpoint_close(&ckpt);
	return ok;
}

/* Replaces the first `size` bytes equal to `old` in the file by `new`. */
static void patch_file(const char *path, const char *old, const char *new)
{
	char *data;
	size_t size, length = strlen(old);
	error err;
	assert_int_equal(strlen(new), length);
	if (!read_file(path, (size_t)1 << 28, &data, &size, &err))
		fail_msg("%s", err.text);
	char *at = memmem(data, size, old, length);
	assert_non_null(at);
	memcpy(at, new, length);
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, size, f), size);
	assert_int_equal(fclose(f), 0);
	free(data);
}

static void test_good(void **state)
{
	const struct folder *f = *state;
	error err = { 0 };
	if (!try_open(f, &f->shape.config, &err))
		fail_msg("%s", err.text);
}

static void test_missing(void **state)
{
	static const char *const names[] = { "visual.merger.ln_q.weight",
		"visual.blocks.1.attn.qkv.bias", "model.layers.1.mlp.down_proj.weight",
		"model.embed_tokens.weight", "model.norm.weight" };
	const struct folder *f = *state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char quoted[80], renamed[80];
		error err = { 0 };
		snprintf(quoted, sizeof quoted, "\"%s\"", names[i]);
		snprintf(renamed, sizeof renamed, "\"%s\"", names[i]);
		renamed[1] = 'X';
		patch_file(f->file, quoted, renamed);
		assert_false(try_open(f, &f->shape.config, &err));
		expect_error(&err, EXIT_BAD_INPUT, names[i], f->path, "missing", NULL);
		patch_file(f->file, renamed, quoted);
	}
}

static void expect_shape_error(const struct folder *f, const struct model_config *config,
                               const char *tensor, const char *expected, const char *found)
{
	error err = { 0 };
	assert_false(try_open(f, config, &err));
	expect_error(&err, EXIT_BAD_INPUT, f->file, tensor, expected, found, NULL);
}

static void test_shape(void **state)
{
	const struct folder *f = *state;
	struct model_config c = f->shape.config;
	c.text.intermediate++;
	expect_shape_error(f, &c, "model.layers.0.mlp.gate_proj.weight",
	                   "expected shape [49, 32]", "found [48, 32]");
	c = f->shape.config;
	c.vision.channels = 1;
	c.vision.patch_values /= 3;
	expect_shape_error(f, &c, "visual.patch_embed.proj.weight",
	                   "expected shape [32, 1, 2, 14, 14]", "found [32, 3, 2, 14, 14]");
	c = f->shape.config;
	c.text.vocab++;
	expect_shape_error(f, &c, "model.embed_tokens.weight", "expected shape [4225, 32]",
	                   "found [4224, 32]");
	c = f->shape.config;
	c.text.tied_head = false;
	error err = { 0 };
	assert_false(try_open(f, &c, &err));
	expect_error(&err, EXIT_BAD_INPUT, "lm_head.weight", "missing", NULL);
}

static void test_dtype(void **state)
{
	const struct folder *f = *state;
	error err = { 0 };
	static const char good[] = "\"model.norm.weight\":{\"dtype\":\"BF16\"";
	static const char bad[] = "\"model.norm.weight\":{\"dtype\":\"I16\" ";
	patch_file(f->file, good, bad);
	assert_false(try_open(f, &f->shape.config, &err));
	expect_error(&err, EXIT_BAD_INPUT, f->file, "model.norm.weight",
	             "expected BF16, F16 or F32", "found I16", NULL);
	patch_file(f->file, bad, good);
}

/* Where element `at` of a tensor stands in the file. */
static long element_offset(const struct folder *f, const char *tensor, size_t at)
{
	struct checkpoint ckpt;
	error err;
	if (!checkpoint_open(&ckpt, f->path, &err))
		fail_msg("%s", err.text);
	const struct tensor *t = checkpoint_find(&ckpt, tensor);
	assert_non_null(t);
	long offset = (long)((const uint8_t *)t->data - ckpt.files[0].map.data) + 2 * (long)at;
	checkpoint_close(&ckpt);
	return offset;
}

static void swap_element(const char *path, long offset, uint16_t *value)
{
	uint16_t old;
	FILE *f = fopen(path, "r+b");
	assert_non_null(f);
	assert_int_equal(fseek(f, offset, SEEK_SET), 0);
	assert_int_equal(fread(&old, sizeof old, 1, f), 1);
	assert_int_equal(fseek(f, offset, SEEK_SET), 0);
	assert_int_equal(fwrite(value, sizeof *value, 1, f), 1);
	assert_int_equal(fclose(f), 0);
	*value = old;
}

static void check_nonfinite(const struct folder *f, const char *tensor, size_t at,
                            uint16_t value, const char *kind)
{
	error err = { 0 };
	char place[40];
	long offset = element_offset(f, tensor, at);
	snprintf(place, sizeof place, "%s at element %zu", kind, at);
	swap_element(f->file, offset, &value);
	assert_false(try_open(f, &f->shape.config, &err));
	expect_error(&err, EXIT_BAD_INPUT, f->file, tensor, place, NULL);
	swap_element(f->file, offset, &value);
}

static void test_nonfinite(void **state)
{
	const struct folder *f = *state;
	check_nonfinite(f, "model.embed_tokens.weight", 4224 * 32 - 1, 0x7FC0, "NaN");
	check_nonfinite(f, "visual.patch_embed.proj.weight", 5000, 0xFF80, "infinity");
	check_nonfinite(f, "visual.blocks.0.norm2.weight", 0, 0xFFFF, "NaN");
	check_nonfinite(f, "model.layers.1.self_attn.k_proj.bias", 3, 0x7F80, "infinity");
	error err = { 0 };
	assert_true(try_open(f, &f->shape.config, &err));
}

/* ---- other dtypes ---- */

/* A copy of the checkpoint with every tensor in float32. */
static void write_float32(const struct checkpoint *from, const char *path)
{
	struct tensor *tensors = calloc(from->count, sizeof *tensors);
	text header = { 0 };
	error err;
	assert_non_null(tensors);
	for (size_t i = 0; i < from->count; i++) {
		tensors[i] = *from->by_name[i];
		tensors[i].dtype = DTYPE_F32;
		tensors[i].bytes *= 2;
	}
	if (!safetensors_header(tensors, from->count, &header, &err))
		fail_msg("%s", err.text);
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(header.data, 1, header.length, f), header.length);
	for (size_t i = 0; i < from->count; i++)
		for (int64_t e = 0; e < tensors[i].elements; e++) {
			uint8_t wide[4] = { 0 }; /* little-endian: the upper half is the BF16 */
			memcpy(wide + 2, (const uint8_t *)tensors[i].data + 2 * e, 2);
			assert_int_equal(fwrite(wide, 4, 1, f), 1);
		}
	assert_int_equal(fclose(f), 0);
	text_free(&header);
	free(tensors);
}

static uint64_t hash_logits(const struct checkpoint *ckpt, const struct model_config *config,
                            size_t resident_bytes)
{
	struct model m;
	struct sample s;
	struct outcome out;
	error err;
	struct workspace *w = workspace_new(&err);
	random_sample(&s, config, 2, 4, 4, 5, 1);
	if (!w || !model_open(&m, ckpt, config, resident_bytes, &err) ||
	    !model_forward(&m, w, &s, WANT_LOGITS, NULL, &out, &err))
		fail_msg("%s", err.text);
	uint64_t hash = hash_floats(out.logits, (size_t)s.tokens * (size_t)config->text.vocab);
	sample_free(&s);
	model_close(&m);
	workspace_free(w);
	return hash;
}

static void test_float32_file(void **state)
{
	const struct folder *f = *state;
	struct checkpoint bf16, f32;
	char folder[PATH_BYTES], path[PATH_BYTES];
	error err;
	if (!temp_folder_make(folder, &err) || !checkpoint_open(&bf16, f->path, &err) ||
	    !join_path(path, sizeof path, folder, "model.safetensors", &err))
		fail_msg("%s", err.text);
	write_float32(&bf16, path);
	if (!checkpoint_open(&f32, folder, &err))
		fail_msg("%s", err.text);
	uint64_t expected = hash_logits(&bf16, &f->shape.config, ALL);
	assert_true(hash_logits(&f32, &f->shape.config, ALL) == expected);
	assert_true(hash_logits(&f32, &f->shape.config, 0) == expected);
	checkpoint_close(&bf16);
	checkpoint_close(&f32);
	temp_folder_remove(folder);
}

/* The same bytes called F16 are other numbers, and those are what comes out. */
static void test_float16_tensor(void **state)
{
	const struct folder *f = *state;
	static const char bf16[] = "\"model.layers.0.mlp.up_proj.weight\":{\"dtype\":\"BF16\"";
	static const char f16[] = "\"model.layers.0.mlp.up_proj.weight\":{\"dtype\":\"F16\" ";
	struct checkpoint ckpt;
	struct model m;
	error err;
	patch_file(f->file, bf16, f16);
	if (!checkpoint_open(&ckpt, f->path, &err) ||
	    !model_open(&m, &ckpt, &f->shape.config, ALL, &err))
		fail_msg("%s", err.text);
	int i = model_find_linear(&m, "language_model.layers.0.mlp.up_proj");
	const struct linear *l = &m.linears[i];
	uint16_t bits;
	memcpy(&bits, l->tensor->data, 2);
	double magnitude = ldexp(1024 + (bits & 1023), (bits >> 10 & 31) - 25);
	assert_true(fabs((double)l->weight[0]) == magnitude);
	model_close(&m);
	checkpoint_close(&ckpt);
	patch_file(f->file, f16, bf16);
}

/* ---- what an open model offers ---- */

static void test_linears(void **state)
{
	const struct folder *f = *state;
	struct checkpoint ckpt;
	struct model m;
	error err;
	if (!checkpoint_open(&ckpt, f->path, &err) ||
	    !model_open(&m, &ckpt, &f->shape.config, ALL, &err))
		fail_msg("%s", err.text);
	assert_int_equal(m.linear_count, 1 + 2 * 5 + 2 + 2 * 7 + 1);
	assert_string_equal(m.linears[0].name, "visual.patch_embed.proj");
	assert_string_equal(m.linears[m.linear_count - 1].name, "lm_head");
	assert_string_equal(m.linears[m.linear_count - 1].tensor->name,
	                    "model.embed_tokens.weight");
	assert_int_equal(model_find_linear(&m, "lm_head"), m.linear_count - 1);
	assert_int_equal(model_find_linear(&m, "visual.merger.mlp.2"), 12);
	assert_int_equal(model_find_linear(&m, "visual.merger.mlp.1"), -1);
	assert_null(m.linears[0].bias);
	assert_non_null(m.linears[1].bias);
	model_close(&m);
	checkpoint_close(&ckpt);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_missing),
		cmocka_unit_test(test_shape),
		cmocka_unit_test(test_dtype),
		cmocka_unit_test(test_nonfinite),
		cmocka_unit_test(test_float32_file),
		cmocka_unit_test(test_float16_tensor),
		cmocka_unit_test(test_linears),
	};
	return cmocka_run_group_tests_name("lib/model/weights", tests, start, stop);
}
