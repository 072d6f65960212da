/* One safetensors file: what is read, what is refused, what is written. */
#include "lib/checkpoint/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/checkpoint/names.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

/* The folder of the running test; made and removed around each. */
struct place {
	char folder[PATH_BYTES], path[PATH_BYTES];
};

static int set_up(void **state)
{
	struct place *p = calloc(1, sizeof *p);
	error err;
	*state = p;
	return p && temp_folder_make(p->folder, &err) &&
	               join_path(p->path, sizeof p->path, p->folder, "a.safetensors", &err)
	           ? 0
	           : -1;
}

static int tear_down(void **state)
{
	struct place *p = *state;
	temp_folder_remove(p->folder);
	free(p);
	return 0;
}

/* Writes length bytes that say `length`, the header, and data_bytes bytes 0, 1,
 * 2, ... */
static void write_lying(const struct place *p, uint64_t length, const char *header,
                        size_t header_bytes, size_t data_bytes)
{
	text file = { 0 };
	error err;
	for (int i = 0; i < 8; i++)
		text_add(&file, (char[]){ (char)(length >> (8 * i)) }, 1);
	text_add(&file, header, header_bytes);
	for (size_t i = 0; i < data_bytes; i++)
		text_add(&file, (char[]){ (char)i }, 1);
	assert_true(text_ok(&file, &err));
	assert_true(temp_folder_write(p->folder, "a.safetensors", file.data, file.length, &err));
	text_free(&file);
}

static void write_file(const struct place *p, const char *header, size_t data_bytes)
{
	write_lying(p, strlen(header), header, strlen(header), data_bytes);
}

static void expect_refusal(const struct place *p, const char *place, const char *message)
{
	struct safetensors file;
	error err;
	if (safetensors_open(&file, p->path, &err)) {
		safetensors_close(&file);
		fail_msg("accepted, expected: %s", message);
	}
	expect_error(&err, EXIT_BAD_INPUT, p->path, place, message, NULL);
}

static void reads_tensors_in_byte_order(void **state)
{
	const struct place *p = *state;
	struct safetensors file;
	error err;
	write_file(p,
	           "{\"z\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[8,11]},"
	           "\"__metadata__\":{\"format\":\"pt\",\"\":\"\"},"
	           "\"\\u00e9\":{\"data_offsets\":[0,8],\"shape\":[2,2],\"dtype\":\"BF16\"},"
	           "\"scalar\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[11,15]},"
	           "\"empty\":{\"dtype\":\"F64\",\"shape\":[7,0],\"data_offsets\":[8,8]}}   ",
	           15);
	if (!safetensors_open(&file, p->path, &err))
		fail_msg("%s", err.text);
	assert_int_equal(file.count, 4);
	const struct tensor *t = file.tensors;
	assert_string_equal(t[0].name, "\xc3\xa9");
	assert_int_equal(t[0].dtype, DTYPE_BF16);
	assert_int_equal(t[0].rank, 2);
	assert_int_equal(t[0].elements, 4);
	assert_int_equal(t[0].bytes, 8);
	assert_memory_equal(t[0].data, "\0\1\2\3\4\5\6\7", 8);
	assert_string_equal(t[0].file, p->path);
	assert_string_equal(t[1].name, "empty");
	assert_int_equal(t[1].elements, 0);
	assert_int_equal(t[1].shape[0], 7);
	assert_string_equal(t[2].name, "z");
	assert_memory_equal(t[2].data, "\x08\x09\x0a", 3);
	assert_string_equal(t[3].name, "scalar");
	assert_int_equal(t[3].rank, 0);
	assert_int_equal(t[3].elements, 1);
	safetensors_close(&file);
}

static void reads_files_without_tensors(void **state)
{
	const struct place *p = *state;
	struct safetensors file;
	error err;
	write_file(p, "{}", 0);
	assert_true(safetensors_open(&file, p->path, &err));
	assert_int_equal(file.count, 0);
	safetensors_close(&file);
}

static void reads_every_dtype(void **state)
{
	const struct place *p = *state;
	for (int d = 0; d < DTYPE_COUNT; d++) {
		struct safetensors file;
		enum dtype found;
		char header[200];
		error err;
		size_t bytes = 3 * dtype_bytes(d);
		snprintf(header, sizeof header,
		         "{\"a\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%zu]}}",
		         dtype_name(d), bytes);
		write_file(p, header, bytes);
		if (!safetensors_open(&file, p->path, &err))
			fail_msg("%s", err.text);
		assert_int_equal(file.tensors[0].dtype, d);
		safetensors_close(&file);
		assert_true(dtype_from_name(dtype_name(d), strlen(dtype_name(d)), &found));
		assert_int_equal(found, d);
		assert_false(dtype_from_name(dtype_name(d), 1, &found));
	}
}

static void reads_the_demo(void **state)
{
	(void)state;
	struct safetensors file;
	error err;
	if (!safetensors_open(&file, "demo/tiny-qwen2_5-vl/model-00001-of-00002.safetensors",
	                      &err))
		fail_msg("%s", err.text);
	assert_string_equal(file.tensors[0].name, "model.embed_tokens.weight");
	assert_int_equal(file.tensors[0].shape[0], 4224);
	assert_int_equal(file.tensors[0].shape[1], 256);
	assert_int_equal(file.tensors[0].bytes, 2162688);
	safetensors_close(&file);
}

/* A header of one tensor "a": its object, and the file's data bytes. */
static void refuses_bad_tensors(void **state)
{
	const struct place *p = *state;
	static const struct {
		const char *object;
		size_t data_bytes;
		const char *place, *message;
	} cases[] = {
		{ "{\"dtype\":\"F8\",\"shape\":[],\"data_offsets\":[0,1]}", 1, ":1:15:",
		  "tensor a: unknown dtype \"F8\"" },
		{ "{\"dtype\":\"bf16\",\"shape\":[1],\"data_offsets\":[0,2]}", 2, ":1:15:",
		  "unknown dtype \"bf16\"" },
		{ "{\"dtype\":16,\"shape\":[1],\"data_offsets\":[0,2]}", 2, ":1:15:",
		  "expected a dtype, found 16" },
		{ "{\"dtype\":\"BF16BF16BF16BF16BF16\",\"shape\":[1],\"data_offsets\":[0,2]}", 2,
		  ":1:15:", "a dtype: expected at most 15 bytes" },
		{ "{\"dtype\":\"U8\",\"shape\":3,\"data_offsets\":[0,3]}", 3, ":1:28:",
		  "expected a shape, found 3" },
		{ "{\"dtype\":\"U8\",\"shape\":[-3],\"data_offsets\":[0,3]}", 3, ":1:29:",
		  "expected an integer from 0 to 9223372036854775807, found -3" },
		{ "{\"dtype\":\"U8\",\"shape\":[3.0],\"data_offsets\":[0,3]}", 3, ":1:29:",
		  "found 3.0" },
		{ "{\"dtype\":\"U8\",\"shape\":[1e400],\"data_offsets\":[0,3]}", 3, ":1:29:",
		  "1e400 is beyond a double" },
		{ "{\"dtype\":\"U8\",\"shape\":[\"3\"],\"data_offsets\":[0,3]}", 3, ":1:29:",
		  "found \"3\"" },
		{ "{\"dtype\":\"U8\",\"shape\":[18446744073709551619],\"data_offsets\":[0,3]}", 3,
		  ":1:29:", "found 18446744073709551619" },
		{ "{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}", 1,
		  ":1:45:", "tensor a: more than 8 dimensions" },
		/* 2^33 * 2^33 = 2^66 wraps to 4. */
		{ "{\"dtype\":\"U8\",\"shape\":[8589934592,8589934592],\"data_offsets\":[0,4]}", 4,
		  "", "tensor a: its shape overflows" },
		/* 2^62 doubles take 2^65 bytes, which wrap to 0. */
		{ "{\"dtype\":\"F64\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}", 0, "",
		  "tensor a: its shape overflows" },
		{ "{\"dtype\":\"U8\",\"shape\":[2,2],\"data_offsets\":[0,3]}", 3, "",
		  "tensor a: expected 4 bytes of U8 for its shape, found 3" },
		{ "{\"dtype\":\"BF16\",\"shape\":[2,2],\"data_offsets\":[0,4]}", 4, "",
		  "expected 8 bytes of BF16 for its shape, found 4" },
		{ "{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,1]}", 1, "",
		  "expected 0 bytes" },
		{ "{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}", 3, ":1:50:",
		  "expected an integer from 0 to 3, found 4" },
		{ "{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,18446744073709551615]}", 4,
		  ":1:50:", "expected an integer from 0 to 4" },
		{ "{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[-1,0]}", 1, ":1:48:",
		  "found -1" },
		{ "{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[3,2]}", 3, ":1:50:",
		  "expected an integer from 3 to 3, found 2" },
		{ "{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}", 1, ":1:49:",
		  "expected an integer" },
		{ "{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]}", 1, ":1:52:",
		  "expected ']' after two offsets, found 2" },
		{ "{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":{}}", 1, ":1:47:",
		  "expected data_offsets" },
		{ "{\"dtype\":\"U8\",\"shape\":[1]}", 1, "", "tensor a: lacks data_offsets" },
		{ "{\"dtype\":\"U8\",\"data_offsets\":[0,1]}", 1, "", "tensor a: lacks shape" },
		{ "{\"shape\":[1],\"data_offsets\":[0,1]}", 1, "", "tensor a: lacks dtype" },
		{ "{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":1}", 1, ":1:53:",
		  "tensor a: unknown field" },
		{ "{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}", 1,
		  ":1:20:", "the key \"dtype\" is there twice" },
		{ "[]", 0, ":1:6:", "expected a tensor's object, found [" },
		{ "{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}", 2, "",
		  "expected 1 bytes of tensors behind the header, found 2" },
		{ "{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}", 2, "tensor a",
		  "expected data_offsets from 0, found 1" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char header[300];
		snprintf(header, sizeof header, "{\"a\":%s}", cases[i].object);
		write_file(p, header, cases[i].data_bytes);
		expect_refusal(p, cases[i].place, cases[i].message);
	}
}

#define BYTES(n, from, to) \
	"{\"dtype\":\"U8\",\"shape\":[" #n "],\"data_offsets\":[" #from "," #to "]}"

static void refuses_bad_headers(void **state)
{
	const struct place *p = *state;
	static const struct {
		const char *header;
		size_t data_bytes;
		const char *place, *message;
	} cases[] = {
		{ "", 0, "byte 8:", "expected a header beginning with '{'" },
		{ "[]", 0, "byte 8:", "expected a header beginning with '{'" },
		{ " {}", 0, "byte 8:", "expected a header beginning with '{'" },
		{ "{", 0, ":1:2:", "found the end of the text" },
		{ "{}x", 0, ":1:3:", "expected the end of the text, found 'x'" },
		{ "{\"a\":1}", 0, ":1:6:", "expected a tensor's object, found 1" },
		{ "{\"a\xff\":1}", 0, ":1:4:", "invalid UTF-8" },
		{ "{\"__metadata__\":{\"n\":1}}", 0, ":1:22:",
		  "expected a text in __metadata__, found 1" },
		{ "{\"__metadata__\":{\"n\":{\"m\":\"x\"}}}", 0, ":1:22:", "expected a text" },
		{ "{\"__metadata__\":\"pt\"}", 0, ":1:17:", "expected an object of __metadata__" },
		{ "{\"__metadata__\":null}", 0, ":1:17:", "expected an object of __metadata__" },
		{ "{\"__metadata__\":{},\"__metadata__\":{}}", 0, ":1:20:", "is there twice" },
		{ "{\"a\":" BYTES(1, 0, 1) ",\"a\":" BYTES(1, 1, 2) "}", 2, ":1:54:",
		  "the key \"a\" is there twice, first at 1:2" },
		{ "{\"a\":" BYTES(1, 0, 1) ",\"b\":" BYTES(1, 2, 3) "}", 3, "tensor b",
		  "expected data_offsets from 1, found 2 (a hole behind tensor a)" },
		{ "{\"a\":" BYTES(2, 0, 2) ",\"b\":" BYTES(2, 1, 3) "}", 3, "tensor b",
		  "expected data_offsets from 2, found 1 (it overlaps tensor a)" },
		{ "{\"a\":" BYTES(2, 0, 2) ",\"b\":" BYTES(2, 0, 2) "}", 2, "tensor b",
		  "expected data_offsets from 2, found 0 (it overlaps tensor a)" },
		{ "{\"a\":" BYTES(2, 0, 2) ",\"b\":" BYTES(0, 1, 1) "}", 2, "tensor b",
		  "expected data_offsets from 2, found 1 (it overlaps tensor a)" },
		{ "{\"a\":" BYTES(2, 0, 2) ",\"b\":" BYTES(1, 2, 3) "}", 4, "",
		  "expected 3 bytes of tensors behind the header, found 4" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		write_file(p, cases[i].header, cases[i].data_bytes);
		expect_refusal(p, cases[i].place, cases[i].message);
	}
}

static void refuses_lying_lengths(void **state)
{
	const struct place *p = *state;
	static const uint64_t lengths[] = { 3, 100000000, 100000001, UINT64_MAX,
		                                UINT64_MAX - 7, (uint64_t)1 << 63 };
	error err;
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		write_lying(p, lengths[i], "{}", 2, 0);
		expect_refusal(p, "header length (bytes 0 to 7)", "expected at most 100000000");
	}
	/* A file that is long enough, but longer than the format allows headers. */
	write_lying(p, 100000001, "{}", 2, 0);
	assert_int_equal(truncate(p->path, 100000009), 0);
	expect_refusal(p, "header length (bytes 0 to 7)", "found 100000001");
	write_lying(p, 1, "{}", 2, 0); /* too short: the rest would be data */
	expect_refusal(p, ":1:2:", "found the end of the text");
	for (size_t size = 0; size < 8; size++) {
		assert_true(temp_folder_write(p->folder, "a.safetensors", "\0\0\0\0\0\0\0", size,
		                              &err));
		expect_refusal(p, "", "expected at least 8 bytes of header length");
	}
	struct safetensors file;
	assert_false(safetensors_open(&file, p->folder, &err));
	expect_error(&err, EXIT_BAD_INPUT, p->folder, "found a folder", NULL);
}

static void bounds_names_and_depth(void **state)
{
	const struct place *p = *state;
	char name[NAME_BYTES + 1], header[NAME_BYTES + 200], deep[400];
	struct safetensors file;
	error err;
	memset(name, 'n', sizeof name);
	for (int length = NAME_BYTES - 1; length <= NAME_BYTES; length++) {
		snprintf(header, sizeof header, "{\"%.*s\":" BYTES(1, 0, 1) "}", length, name);
		write_file(p, header, 1);
		if (length == NAME_BYTES)
			break;
		assert_true(safetensors_open(&file, p->path, &err));
		assert_int_equal(strlen(file.tensors[0].name), NAME_BYTES - 1);
		safetensors_close(&file);
	}
	expect_refusal(p, ":1:2:", "a tensor's name: expected at most 255 bytes");
	memset(deep, '[', sizeof deep);
	memcpy(deep, "{\"__metadata__\":", 16);
	write_lying(p, sizeof deep, deep, sizeof deep, 0);
	expect_refusal(p, ":1:17:", "expected an object of __metadata__, found [");
}

static void bounds_the_tensor_count(void **state)
{
	const struct place *p = *state;
	text header = { 0 };
	text_puts(&header, "{");
	for (int i = 0; i <= MAX_TENSORS; i++)
		text_printf(&header, "%s\"%x\":" BYTES(0, 0, 0), i ? "," : "", i);
	text_puts(&header, "}");
	assert_false(header.failed);
	write_file(p, header.data, 0);
	expect_refusal(p, ":1:", "more than 1000000 tensors");
	text_free(&header);
}

/* Every byte of a header changed in several ways, and every length of file: the
 * reader takes the file or says why not, and never reads outside. */
static void survives_every_damaged_byte(void **state)
{
	const struct place *p = *state;
	static const char header[] =
		"{\"__metadata__\":{\"format\":\"pt\"},\"a\":" BYTES(3, 0, 3)
		",\"b\":{\"dtype\":\"BF16\",\"shape\":[2,1],\"data_offsets\":[3,7]}}";
	static const char values[] = { '\0', '"', '{', '9', '-', '\\', '\xff', ' ' };
	char file[8 + sizeof header - 1 + 7];
	memset(file, 0, sizeof file);
	file[0] = (char)(sizeof header - 1);
	memcpy(file + 8, header, sizeof header - 1);
	struct safetensors opened;
	error err;
	int refused = 0;
	for (size_t at = 0; at < sizeof file; at++) {
		char kept = file[at];
		for (size_t v = 0; v < sizeof values; v++) {
			file[at] = values[v];
			assert_true(temp_folder_write(p->folder, "a.safetensors", file, sizeof file,
			                              &err));
			if (safetensors_open(&opened, p->path, &err))
				safetensors_close(&opened);
			else
				refused += err.code == EXIT_BAD_INPUT && strstr(err.text, p->path);
		}
		file[at] = kept;
		assert_true(temp_folder_write(p->folder, "a.safetensors", file, at, &err));
		expect_refusal(p, "", "");
	}
	assert_true(refused > 700); /* most damage shows; a changed name or datum cannot */
}

static struct tensor tensor_of(const char *name, enum dtype dtype, int rank,
                               const int64_t *shape, size_t bytes)
{
	struct tensor t = { .name = name, .dtype = dtype, .rank = rank, .bytes = bytes };
	memcpy(t.shape, shape, (size_t)rank * sizeof *shape);
	return t;
}

static void writes_headers_that_read_back(void **state)
{
	const struct place *p = *state;
	const struct tensor tensors[] = {
		tensor_of("model.b", DTYPE_F8_E4M3, 2, (int64_t[]){ 2, 3 }, 6),
		tensor_of("a \"\\\n\xc3\xa9", DTYPE_F32, 0, (int64_t[]){ 0 }, 4),
		tensor_of("empty", DTYPE_BF16, 1, (int64_t[]){ 0 }, 0),
		tensor_of("conv", DTYPE_BF16, 5, (int64_t[]){ 1, 1, 2, 1, 3 }, 12),
	};
	text out = { 0 };
	struct safetensors file;
	error err;
	text_puts(&out, "");
	assert_true(safetensors_header(tensors, 4, &out, &err));
	size_t header_bytes = out.length;
	assert_int_equal(header_bytes % 8, 0);
	assert_non_null(strstr(out.data + 8, "{\"__metadata__\":{\"format\":\"pt\"},\"model.b\":"
	                                     "{\"dtype\":\"F8_E4M3\",\"shape\":[2,3],"
	                                     "\"data_offsets\":[0,6]},"));
	for (int i = 0; i < 22; i++)
		text_add(&out, (char[]){ (char)i }, 1);
	assert_true(temp_folder_write(p->folder, "a.safetensors", out.data, out.length, &err));
	text_free(&out);
	if (!safetensors_open(&file, p->path, &err))
		fail_msg("%s", err.text);
	assert_int_equal(file.count, 4);
	for (int i = 0; i < 4; i++) {
		assert_string_equal(file.tensors[i].name, tensors[i].name);
		assert_int_equal(file.tensors[i].dtype, tensors[i].dtype);
		assert_int_equal(file.tensors[i].bytes, tensors[i].bytes);
		assert_memory_equal(file.tensors[i].shape, tensors[i].shape,
		                    sizeof tensors[i].shape);
	}
	assert_int_equal(((const uint8_t *)file.tensors[3].data)[0], 10);
	safetensors_close(&file);
}

static void pads_headers_to_eight_bytes(void **state)
{
	(void)state;
	static const char names[] = "12345678";
	for (size_t i = 0; i < 8; i++) {
		text out = { 0 };
		error err;
		struct tensor t = tensor_of(&names[i], DTYPE_U8, 1, (int64_t[]){ 1 }, 1);
		assert_true(safetensors_header(&t, 1, &out, &err));
		assert_int_equal(out.length % 8, 0);
		assert_int_equal((uint8_t)out.data[0], out.length - 8);
		text_free(&out);
	}
}

static void refuses_to_write_wrong_headers(void **state)
{
	(void)state;
	const struct tensor wrong[] = {
		tensor_of("a", DTYPE_BF16, 1, (int64_t[]){ 3 }, 3),
		tensor_of("a", DTYPE_F64, 2, (int64_t[]){ INT64_MAX, 2 }, 0),
		tensor_of("a\xff", DTYPE_U8, 1, (int64_t[]){ 3 }, 3),
	};
	for (int i = 0; i < 3; i++) {
		text out = { 0 };
		error err;
		assert_false(safetensors_header(&wrong[i], 1, &out, &err));
		expect_error(&err, EXIT_INTERNAL, "tensor", NULL);
		text_free(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(reads_tensors_in_byte_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(reads_files_without_tensors, set_up, tear_down),
		cmocka_unit_test_setup_teardown(reads_every_dtype, set_up, tear_down),
		cmocka_unit_test(reads_the_demo),
		cmocka_unit_test_setup_teardown(refuses_bad_tensors, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refuses_bad_headers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refuses_lying_lengths, set_up, tear_down),
		cmocka_unit_test_setup_teardown(bounds_names_and_depth, set_up, tear_down),
		cmocka_unit_test_setup_teardown(bounds_the_tensor_count, set_up, tear_down),
		cmocka_unit_test_setup_teardown(survives_every_damaged_byte, set_up, tear_down),
		cmocka_unit_test_setup_teardown(writes_headers_that_read_back, set_up, tear_down),
		cmocka_unit_test(pads_headers_to_eight_bytes),
		cmocka_unit_test(refuses_to_write_wrong_headers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
