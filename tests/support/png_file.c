/* See png_file.h. */
#include "tests/support/png_file.h"

#include <errno.h>
#include <stdio.h>

#include "lib/base/text.h"

enum { STORED_BYTES = 65535 }; /* the most that a stored block of a zlib stream holds */

static void add_bytes(text *out, const void *bytes, size_t length)
{
	text_add(out, bytes, length);
}

static void add_u32(text *out, uint32_t value)
{
	const uint8_t bytes[4] = { (uint8_t)(value >> 24), (uint8_t)(value >> 16),
		                   (uint8_t)(value >> 8), (uint8_t)value };
	add_bytes(out, bytes, sizeof bytes);
}

/* type_and_data: the chunk's four letters, then its data. */
static void add_chunk(text *out, const text *type_and_data)
{
	uint32_t crc = 0xffffffffu;
	if (type_and_data->failed) {
		out->failed = true;
		return;
	}
	for (size_t i = 0; i < type_and_data->length; i++) {
		crc ^= (uint8_t)type_and_data->data[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? 0xedb88320u ^ (crc >> 1) : crc >> 1;
	}
	add_u32(out, (uint32_t)type_and_data->length - 4);
	add_bytes(out, type_and_data->data, type_and_data->length);
	add_u32(out, ~crc);
}

static void add_header(text *out, const struct png_content *c)
{
	text chunk = { 0 };
	const uint8_t rest[5] = { c->depth, c->color_type, 0, 0, 0 };
	text_puts(&chunk, "IHDR");
	add_u32(&chunk, c->width);
	add_u32(&chunk, c->height);
	add_bytes(&chunk, rest, sizeof rest);
	add_chunk(out, &chunk);
	text_free(&chunk);
}

static void add_palette(text *out, const struct png_content *c)
{
	text chunk = { 0 };
	text_puts(&chunk, "PLTE");
	add_bytes(&chunk, c->palette, c->palette_bytes);
	add_chunk(out, &chunk);
	text_free(&chunk);
}

/* A zlib stream of stored blocks (RFC 1950, 1951): header, blocks, Adler-32. */
static void add_stream(text *out, const text *stored)
{
	uint32_t a = 1, b = 0;
	add_bytes(out, "\x78\x01", 2);
	for (size_t at = 0; at < stored->length; at += STORED_BYTES) {
		size_t left = stored->length - at;
		unsigned length = left < STORED_BYTES ? (unsigned)left : STORED_BYTES;
		const uint8_t block[5] = { left == length, (uint8_t)length,
			(uint8_t)(length >> 8), (uint8_t)~length, (uint8_t)(~length >> 8) };
		add_bytes(out, block, sizeof block);
		add_bytes(out, stored->data + at, length);
	}
	for (size_t i = 0; i < stored->length; i++) {
		a = (a + (uint8_t)stored->data[i]) % 65521;
		b = (b + a) % 65521;
	}
	add_u32(out, b << 16 | a);
}

/* Each row follows a filter byte 0. */
static void add_rows(text *out, const struct png_content *c)
{
	text stored = { 0 }, chunk = { 0 };
	for (uint32_t y = 0; y < c->height; y++) {
		add_bytes(&stored, "", 1);
		add_bytes(&stored, c->rows + y * c->row_bytes, c->row_bytes);
	}
	text_puts(&chunk, "IDAT");
	if (stored.failed)
		chunk.failed = true;
	else
		add_stream(&chunk, &stored);
	add_chunk(out, &chunk);
	text_free(&stored);
	text_free(&chunk);
}

bool png_write(const char *path, const struct png_content *c, error *err)
{
	text out = { 0 }, end = { 0 };
	add_bytes(&out, "\x89PNG\r\n\x1a\n", 8);
	add_header(&out, c);
	if (c->palette)
		add_palette(&out, c);
	if (c->rows)
		add_rows(&out, c);
	text_puts(&end, "IEND");
	add_chunk(&out, &end);
	text_free(&end);
	bool ok = text_ok(&out, err);
	FILE *f = ok ? fopen(path, "wb") : NULL;
	if (ok && !f)
		ok = fail_errno(err, errno, "%s: cannot open", path);
	if (f) {
		bool wrote = fwrite(out.data, 1, out.length, f) == out.length;
		wrote = fclose(f) == 0 && wrote;
		ok = wrote || fail_errno(err, errno, "%s: cannot write", path);
	}
	text_free(&out);
	return ok;
}
