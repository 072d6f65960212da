/* One safetensors file: 8 bytes of header length (little endian), a JSON header,
 * then the tensors' bytes. The reader believes no number of the header before it
 * has been held against the file; the writer makes headers that the reader, and
 * the format's own, take. */
#include "lib/checkpoint/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/base/json_scan.h"
#include "lib/checkpoint/names.h"

enum { LENGTH_BYTES = 8, MAX_HEADER_BYTES = 100000000 }; /* the format's limit */

/* ---- Dtypes ---- */

static const struct {
	const char *name;
	size_t bytes;
} dtypes[DTYPE_COUNT] = {
	[DTYPE_BOOL] = { "BOOL", 1 },       [DTYPE_U8] = { "U8", 1 },
	[DTYPE_I8] = { "I8", 1 },           [DTYPE_F8_E4M3] = { "F8_E4M3", 1 },
	[DTYPE_F8_E5M2] = { "F8_E5M2", 1 }, [DTYPE_I16] = { "I16", 2 },
	[DTYPE_U16] = { "U16", 2 },         [DTYPE_F16] = { "F16", 2 },
	[DTYPE_BF16] = { "BF16", 2 },       [DTYPE_I32] = { "I32", 4 },
	[DTYPE_U32] = { "U32", 4 },         [DTYPE_F32] = { "F32", 4 },
	[DTYPE_F64] = { "F64", 8 },         [DTYPE_I64] = { "I64", 8 },
	[DTYPE_U64] = { "U64", 8 },
};

const char *dtype_name(enum dtype d)
{
	return dtypes[d].name;
}

size_t dtype_bytes(enum dtype d)
{
	return dtypes[d].bytes;
}

bool dtype_from_name(const char *name, size_t length, enum dtype *out)
{
	for (int d = 0; d < DTYPE_COUNT; d++)
		if (strlen(dtypes[d].name) == length &&
		    memcmp(dtypes[d].name, name, length) == 0) {
			*out = (enum dtype)d;
			return true;
		}
	return false;
}

/* elements and bytes of a shape, or false when they overflow 63 bits. */
static bool measure_shape(const int64_t *shape, int rank, enum dtype dtype,
                          int64_t *elements, int64_t *bytes)
{
	*elements = 1;
	for (int i = 0; i < rank; i++)
		if (__builtin_mul_overflow(*elements, shape[i], elements))
			return false;
	return !__builtin_mul_overflow(*elements, (int64_t)dtype_bytes(dtype), bytes);
}

/* ---- Reading ---- */

struct reader {
	struct safetensors *file;
	struct json_scan scan; /* over the header */
	const uint8_t *data;   /* the file behind the header: data[data_bytes] */
	int64_t data_bytes;
	size_t capacity; /* of file->tensors */
};

static bool read_dtype(struct reader *r, struct tensor *t, error *err)
{
	char name[16];
	if (!json_scan_expect(&r->scan, JSON_STRING, "a dtype", err) ||
	    !json_scan_text(&r->scan, name, sizeof name, "a dtype", err))
		return false;
	return dtype_from_name(name, strlen(name), &t->dtype) ||
	       json_scan_fail(&r->scan, err, "tensor %s: unknown dtype \"%s\"", t->name, name);
}

static bool read_shape(struct reader *r, struct tensor *t, error *err)
{
	if (!json_scan_expect(&r->scan, JSON_ARRAY_OPEN, "a shape", err))
		return false;
	for (t->rank = 0;; t->rank++) {
		if (!json_scan_next(&r->scan, err))
			return false;
		if (r->scan.token == JSON_ARRAY_CLOSE)
			return true;
		if (t->rank == MAX_RANK)
			return json_scan_fail(&r->scan, err, "tensor %s: more than %d dimensions",
			                      t->name, MAX_RANK);
		if (!json_scan_integer(&r->scan, 0, INT64_MAX, &t->shape[t->rank], err))
			return false;
	}
}

/* Sets data and bytes. */
static bool read_offsets(struct reader *r, struct tensor *t, error *err)
{
	int64_t begin, end;
	if (!json_scan_expect(&r->scan, JSON_ARRAY_OPEN, "data_offsets [begin, end]", err) ||
	    !json_scan_next(&r->scan, err) ||
	    !json_scan_integer(&r->scan, 0, r->data_bytes, &begin, err) ||
	    !json_scan_next(&r->scan, err) ||
	    !json_scan_integer(&r->scan, begin, r->data_bytes, &end, err) ||
	    !json_scan_expect(&r->scan, JSON_ARRAY_CLOSE, "']' after two offsets", err))
		return false;
	t->data = r->data + begin;
	t->bytes = (size_t)(end - begin);
	return true;
}

static bool check_bytes(struct reader *r, struct tensor *t, error *err)
{
	int64_t bytes;
	if (!measure_shape(t->shape, t->rank, t->dtype, &t->elements, &bytes))
		return json_scan_fail(&r->scan, err, "tensor %s: its shape overflows", t->name);
	if ((size_t)bytes != t->bytes)
		return json_scan_fail(&r->scan, err,
		                      "tensor %s: expected %lld bytes of %s for its shape, "
		                      "found %zu in data_offsets",
		                      t->name, (long long)bytes, dtype_name(t->dtype), t->bytes);
	return true;
}

/* The object behind a tensor's name. */
static bool read_fields(struct reader *r, struct tensor *t, error *err)
{
	bool has_dtype = false, has_shape = false, has_offsets = false;
	if (!json_scan_expect(&r->scan, JSON_OBJECT_OPEN, "a tensor's object", err))
		return false;
	for (;;) {
		bool ok = json_scan_next(&r->scan, err);
		if (!ok)
			return false;
		if (r->scan.token == JSON_OBJECT_CLOSE)
			break;
		if (json_scan_is(&r->scan, "dtype"))
			ok = has_dtype = read_dtype(r, t, err);
		else if (json_scan_is(&r->scan, "shape"))
			ok = has_shape = read_shape(r, t, err);
		else if (json_scan_is(&r->scan, "data_offsets"))
			ok = has_offsets = read_offsets(r, t, err);
		else
			ok = json_scan_fail(&r->scan, err,
			                    "tensor %s: unknown field, expected dtype, shape or "
			                    "data_offsets",
			                    t->name);
		if (!ok)
			return false;
	}
	if (!has_dtype || !has_shape || !has_offsets)
		return json_scan_fail(&r->scan, err, "tensor %s: lacks %s", t->name,
		                      !has_dtype   ? "dtype"
		                      : !has_shape ? "shape"
		                                   : "data_offsets");
	return check_bytes(r, t, err);
}

/* Room for one more tensor, or NULL. */
static struct tensor *add_tensor(struct reader *r, error *err)
{
	struct safetensors *file = r->file;
	if (file->count == MAX_TENSORS) {
		json_scan_fail(&r->scan, err, "more than %d tensors", MAX_TENSORS);
		return NULL;
	}
	if (file->count == r->capacity) {
		size_t capacity = r->capacity ? r->capacity * 2 : 64;
		struct tensor *grown = realloc(file->tensors, capacity * sizeof *grown);
		if (!grown) {
			fail_memory(err, file->path, capacity * sizeof *grown);
			return NULL;
		}
		file->tensors = grown;
		r->capacity = capacity;
	}
	struct tensor *t = &file->tensors[file->count++];
	*t = (struct tensor){ .file = file->path };
	return t;
}

/* The scanner has just read the tensor's name. */
static bool read_tensor(struct reader *r, error *err)
{
	char name[NAME_BYTES];
	struct tensor *t = add_tensor(r, err);
	if (!t || !json_scan_text(&r->scan, name, sizeof name, "a tensor's name", err))
		return false;
	t->name = arena_text(&r->file->memory, name, strlen(name), err);
	return t->name && read_fields(r, t, err);
}

static bool check_metadata(struct reader *r, error *err)
{
	if (!json_scan_expect(&r->scan, JSON_OBJECT_OPEN, "an object of __metadata__", err))
		return false;
	for (;;) {
		if (!json_scan_next(&r->scan, err))
			return false;
		if (r->scan.token == JSON_OBJECT_CLOSE)
			return true;
		if (!json_scan_expect(&r->scan, JSON_STRING, "a text in __metadata__", err))
			return false;
	}
}

static bool read_header(struct reader *r, error *err)
{
	if (!json_scan_expect(&r->scan, JSON_OBJECT_OPEN, "an object", err))
		return false;
	for (;;) {
		if (!json_scan_next(&r->scan, err))
			return false;
		if (r->scan.token == JSON_OBJECT_CLOSE)
			return json_scan_expect(&r->scan, JSON_END, "the end of the header", err);
		bool ok = json_scan_is(&r->scan, "__metadata__") ? check_metadata(r, err)
		                                                 : read_tensor(r, err);
		if (!ok)
			return false;
	}
}

/* By first byte, then by last, so that empty tensors stand before the one that
 * begins where they are; then by name, so that the order is one. */
static int compare_ranges(const void *a, const void *b)
{
	const struct tensor *s = a, *t = b;
	if (s->data != t->data)
		return (const char *)s->data < (const char *)t->data ? -1 : 1;
	if (s->bytes != t->bytes)
		return s->bytes < t->bytes ? -1 : 1;
	return strcmp(s->name, t->name);
}

/* Sorts the tensors by their bytes; every byte of the data must be one's. */
static bool check_ranges(struct reader *r, error *err)
{
	struct safetensors *file = r->file;
	size_t expected = 0;
	if (file->count)
		qsort(file->tensors, file->count, sizeof *file->tensors, compare_ranges);
	for (size_t i = 0; i < file->count; i++) {
		const struct tensor *t = &file->tensors[i];
		size_t begin = (size_t)((const uint8_t *)t->data - r->data);
		if (begin != expected)
			return fail(err, EXIT_BAD_INPUT,
			            "%s: tensor %s: expected data_offsets from %zu, found %zu (%s "
			            "tensor %s)",
			            file->path, t->name, expected, begin,
			            begin > expected ? "a hole behind" : "it overlaps",
			            i ? file->tensors[i - 1].name : "none");
		expected += t->bytes;
	}
	if (expected != (size_t)r->data_bytes)
		return fail(err, EXIT_BAD_INPUT,
		            "%s: expected %zu bytes of tensors behind the header, found %lld",
		            file->path, expected, (long long)r->data_bytes);
	return true;
}

/* Finds header and data in the mapping, the length checked. */
static bool find_header(struct reader *r, error *err)
{
	const mapped_file *map = &r->file->map;
	const char *path = r->file->path;
	uint64_t length = 0;
	if (map->size < LENGTH_BYTES)
		return fail(err, EXIT_BAD_INPUT,
		            "%s: expected at least 8 bytes of header length, found %zu", path,
		            map->size);
	for (int i = LENGTH_BYTES; i-- > 0;)
		length = length << 8 | map->data[i];
	if (length > MAX_HEADER_BYTES || length > map->size - LENGTH_BYTES)
		return fail(err, EXIT_BAD_INPUT,
		            "%s: header length (bytes 0 to 7): found %llu, expected at most %d "
		            "and no more than the %zu bytes behind it",
		            path, (unsigned long long)length, MAX_HEADER_BYTES,
		            map->size - LENGTH_BYTES);
	const char *header = (const char *)map->data + LENGTH_BYTES;
	if (length == 0 || header[0] != '{')
		return fail(err, EXIT_BAD_INPUT, "%s: byte 8: expected a header beginning with '{'",
		            path);
	json_scan_begin(&r->scan, path, header, (size_t)length);
	r->data = map->data + LENGTH_BYTES + length;
	r->data_bytes = (int64_t)(map->size - LENGTH_BYTES - length);
	return true;
}

bool safetensors_open(struct safetensors *file, const char *path, error *err)
{
	struct reader r = { .file = file };
	*file = (struct safetensors){ 0 };
	file->path = arena_text(&file->memory, path, strlen(path), err);
	bool ok = file->path && map_file(&file->map, path, err) && find_header(&r, err) &&
	          read_header(&r, err) && check_ranges(&r, err);
	json_scan_free(&r.scan);
	if (!ok)
		safetensors_close(file);
	return ok;
}

void safetensors_close(struct safetensors *file)
{
	free(file->tensors);
	unmap_file(&file->map);
	arena_free(&file->memory);
	*file = (struct safetensors){ 0 };
}

/* ---- Writing ---- */

static bool write_tensor(const struct tensor *t, int64_t *offset, text *json, error *err)
{
	int64_t elements, bytes, end;
	if (!measure_shape(t->shape, t->rank, t->dtype, &elements, &bytes) ||
	    (size_t)bytes != t->bytes || __builtin_add_overflow(*offset, bytes, &end))
		return fail(err, EXIT_INTERNAL,
		            "tensor %s: %zu bytes are not what its shape takes", t->name,
		            t->bytes);
	text_puts(json, ",");
	if (!json_quote(json, t->name, strlen(t->name)))
		return fail(err, EXIT_INTERNAL, "tensor name %s: not UTF-8", t->name);
	text_printf(json, ":{\"dtype\":\"%s\",\"shape\":[", dtype_name(t->dtype));
	for (int i = 0; i < t->rank; i++)
		text_printf(json, "%s%lld", i ? "," : "", (long long)t->shape[i]);
	text_printf(json, "],\"data_offsets\":[%lld,%lld]}", (long long)*offset,
	            (long long)end);
	*offset = end;
	return true;
}

bool safetensors_header(const struct tensor *tensors, size_t count, text *out,
                        error *err)
{
	text json = { 0 };
	int64_t offset = 0;
	bool ok = true;
	text_puts(&json, "{\"__metadata__\":{\"format\":\"pt\"}");
	for (size_t i = 0; i < count && ok; i++)
		ok = write_tensor(&tensors[i], &offset, &json, err);
	text_puts(&json, "}");
	while (json.length % 8 && !json.failed)
		text_puts(&json, " ");
	if (ok && text_ok(&json, err) && json.length > MAX_HEADER_BYTES)
		ok = fail(err, EXIT_INTERNAL, "a safetensors header of %zu bytes, more than %d",
		          json.length, MAX_HEADER_BYTES);
	ok = ok && text_ok(&json, err);
	if (ok) {
		char length[LENGTH_BYTES];
		for (int i = 0; i < LENGTH_BYTES; i++)
			length[i] = (char)(json.length >> (8 * i) & 0xff);
		text_add(out, length, sizeof length);
		text_add(out, json.data, json.length);
		ok = text_ok(out, err);
	}
	text_free(&json);
	return ok;
}
