/* The walk over a PNG's chunks; see image_check.h. Layout: PNG specification
 * (ISO/IEC 15948), section 5. */
#include <string.h>

#include "lib/data/image_check.h"

enum {
	SIGNATURE_BYTES = 8,
	CHUNK_OVERHEAD = 12, /* length, type, CRC: four bytes each */
	HEADER_BYTES = 13    /* IHDR: width, height (four bytes each), ... */
};

bool is_png(const uint8_t *data, size_t size)
{
	static const uint8_t signature[SIGNATURE_BYTES] = { 0x89, 'P',  'N',  'G',
		                                            '\r', '\n', 0x1a, '\n' };
	return size >= sizeof signature && memcmp(data, signature, sizeof signature) == 0;
}

static uint32_t read_u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void make_crc_table(uint32_t table[256])
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;
		for (int bit = 0; bit < 8; bit++)
			c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
		table[i] = c;
	}
}

static uint32_t crc_of(const uint32_t table[256], const uint8_t *data, size_t size)
{
	uint32_t c = 0xffffffffu;
	for (size_t i = 0; i < size; i++)
		c = table[(c ^ data[i]) & 255] ^ (c >> 8);
	return ~c;
}

/* The CRC stands behind the chunk and covers its type and data. */
static bool check_crc(const char *path, size_t at, const uint8_t *type, size_t length,
                      const uint32_t table[256], error *err)
{
	uint32_t stored = read_u32(type + 4 + length);
	uint32_t found = crc_of(table, type, 4 + length);
	return found == stored ||
	       fail(err, EXIT_BAD_INPUT,
	            "%s: byte %zu: the PNG chunk %.4s is damaged: expected CRC %08x, "
	            "found %08x",
	            path, at, (const char *)type, stored, found);
}

bool check_png(const char *path, const uint8_t *data, size_t size,
               struct image_size *out, error *err)
{
	uint32_t table[256];
	make_crc_table(table);
	for (size_t at = SIGNATURE_BYTES; size - at >= CHUNK_OVERHEAD;) {
		const uint8_t *type = data + at + 4;
		size_t length = read_u32(data + at), left = size - at - CHUNK_OVERHEAD;
		if (length > left)
			return fail(err, EXIT_BAD_INPUT,
			            "%s: byte %zu: the PNG is cut short: the chunk %.4s "
			            "wants %zu bytes, %zu are left",
			            path, at, (const char *)type, length, left);
		if (!check_crc(path, at, type, length, table, err))
			return false;
		if (at == SIGNATURE_BYTES) {
			if (memcmp(type, "IHDR", 4) != 0 || length != HEADER_BYTES)
				return fail(err, EXIT_BAD_INPUT,
				            "%s: expected a PNG that begins with an IHDR "
				            "chunk of %d bytes, found %.4s of %zu",
				            path, HEADER_BYTES, (const char *)type,
				            length);
			out->width = read_u32(type + 4);
			out->height = read_u32(type + 8);
		}
		if (memcmp(type, "IEND", 4) == 0)
			return true;
		at += CHUNK_OVERHEAD + length;
	}
	return fail(err, EXIT_BAD_INPUT,
	            "%s: the PNG is cut short: no IEND chunk in its %zu bytes", path, size);
}
