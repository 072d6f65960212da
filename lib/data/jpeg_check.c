/* The walk over a JPEG's segments; see image_check.h. Layout: ITU-T T.81,
 * annex B; what each table check guards against is what libjpeg refuses too. */
#include <string.h>

#include "lib/data/image_check.h"

enum marker {
	SOF0 = 0xC0, /* baseline; SOF1 extended, SOF2 progressive, up to SOF15 */
	SOF2 = 0xC2,
	DHT = 0xC4,
	JPG = 0xC8,
	DAC = 0xCC,
	SOF15 = 0xCF,
	RST0 = 0xD0,
	RST7 = 0xD7,
	SOI = 0xD8,
	EOI = 0xD9,
	SOS = 0xDA,
	DQT = 0xDB
};

enum { MAX_TABLES = 4, MAX_COMPONENTS = 4, MAX_CODES = 256 };

struct walk {
	const char *path;
	const uint8_t *data;
	size_t size, at;
	struct image_size dimensions; /* from the frame header */
	int components;               /* 0 until then */
	bool progressive, scanned;
	uint8_t id[MAX_COMPONENTS], quant_of[MAX_COMPONENTS];
	bool quant[MAX_TABLES], dc[MAX_TABLES], ac[MAX_TABLES]; /* defined so far */
};

/* The body of one segment: what follows its two length bytes. */
struct segment {
	const uint8_t *body;
	size_t length;
};

bool is_jpeg(const uint8_t *data, size_t size)
{
	return size >= 3 && data[0] == 0xFF && data[1] == SOI && data[2] == 0xFF;
}

static bool refuse(const struct walk *w, error *err, const char *what)
{
	return fail(err, EXIT_BAD_INPUT, "%s: byte %zu: %s", w->path, w->at, what);
}

/* Moves past the next marker and returns it, or 0 at the end of the file. Skips
 * compressed data (a 0xFF in it is followed by 0 or is a restart), fill bytes,
 * and padding between segments, as libjpeg does. */
static int next_marker(struct walk *w)
{
	while (w->at < w->size) {
		const uint8_t *found = memchr(w->data + w->at, 0xFF, w->size - w->at);
		if (!found || found + 1 == w->data + w->size)
			break;
		w->at = (size_t)(found - w->data) + 1;
		int code = w->data[w->at];
		if (code == 0 || code == 0xFF || (code >= RST0 && code <= RST7))
			continue;
		w->at++;
		return code;
	}
	w->at = w->size;
	return 0;
}

static bool take_segment(struct walk *w, struct segment *s, error *err)
{
	size_t left = w->size - w->at;
	size_t length = left < 2 ? 0 : (size_t)w->data[w->at] << 8 | w->data[w->at + 1];
	if (left >= 2 && length < 2)
		return refuse(w, err, "a JPEG segment shorter than its own length field");
	if (left < 2 || length > left)
		return fail(err, EXIT_BAD_INPUT,
		            "%s: byte %zu: the JPEG is cut short: a segment wants %zu "
		            "bytes, %zu are left",
		            w->path, w->at, left < 2 ? (size_t)2 : length, left);
	s->body = w->data + w->at + 2;
	s->length = length - 2;
	w->at += length;
	return true;
}

/* A run of tables: precision and index (4 bits each), then 64 values. */
static bool read_quant_tables(struct walk *w, struct segment s, error *err)
{
	while (s.length) {
		int wide = s.body[0] >> 4, index = s.body[0] & 15;
		size_t bytes = 1 + (wide ? 128 : 64);
		if (wide > 1 || index >= MAX_TABLES || bytes > s.length)
			return refuse(w, err, "the JPEG quantisation tables end here and are "
			                      "damaged");
		w->quant[index] = true;
		s.body += bytes;
		s.length -= bytes;
	}
	return true;
}

/* A run of tables: class and index, 16 counts of codes by length, symbols. */
static bool read_huffman_tables(struct walk *w, struct segment s, error *err)
{
	while (s.length) {
		int class = s.body[0] >> 4, index = s.body[0] & 15;
		size_t codes = 0;
		for (size_t i = 1; i <= 16 && i < s.length; i++)
			codes += s.body[i];
		size_t bytes = 1 + 16 + codes;
		if (class > 1 || index >= MAX_TABLES || codes > MAX_CODES ||
		    bytes > s.length)
			return refuse(w, err, "the JPEG Huffman tables end here and are "
			                      "damaged");
		*(class ? &w->ac[index] : &w->dc[index]) = true;
		s.body += bytes;
		s.length -= bytes;
	}
	return true;
}

/* Sample precision, height and width (2 bytes each), component count, then per
 * component id, sampling factors and quantisation table. */
static bool read_frame(struct walk *w, struct segment s, int marker, error *err)
{
	if (marker > SOF2)
		return fail(err, EXIT_BAD_INPUT,
		            "%s: expected a baseline or progressive Huffman-coded JPEG, "
		            "found a lossless, hierarchical or arithmetic-coded one (SOF%d)",
		            w->path, marker - SOF0);
	if (w->components)
		return refuse(w, err, "a second JPEG frame header ends here");
	if (s.length < 6)
		return refuse(w, err, "the JPEG frame header ends here, too short");
	if (s.body[0] != 8)
		return fail(err, EXIT_BAD_INPUT,
		            "%s: expected a JPEG of 8 bits a sample, found %d", w->path,
		            s.body[0]);
	int components = s.body[5];
	if (components < 1 || components > MAX_COMPONENTS ||
	    s.length != 6 + 3 * (size_t)components)
		return refuse(w, err, "the JPEG frame header ends here and has a bad "
		                      "number of components");
	for (int i = 0; i < components; i++) {
		const uint8_t *c = s.body + 6 + 3 * i;
		if (c[2] >= MAX_TABLES)
			return refuse(w, err, "the JPEG frame header ends here and names "
			                      "a table beyond 3");
		w->id[i] = c[0];
		w->quant_of[i] = c[2];
	}
	w->dimensions.height = (uint32_t)s.body[1] << 8 | s.body[2];
	w->dimensions.width = (uint32_t)s.body[3] << 8 | s.body[4];
	w->progressive = marker == SOF2;
	w->components = components;
	return true;
}

/* Whether the tables that this scan uses for one component are all defined. */
static bool has_tables(const struct walk *w, const uint8_t *selector,
                       const uint8_t *spectral)
{
	int i = 0;
	while (i < w->components && w->id[i] != selector[0])
		i++;
	int dc = selector[1] >> 4, ac = selector[1] & 15;
	if (i == w->components || dc >= MAX_TABLES || ac >= MAX_TABLES)
		return false;
	bool first_is_dc = spectral[0] == 0, refines = spectral[2] >> 4;
	bool needs_dc = !w->progressive || (first_is_dc && !refines);
	bool needs_ac = !w->progressive || !first_is_dc;
	return w->quant[w->quant_of[i]] && (!needs_dc || w->dc[dc]) &&
	       (!needs_ac || w->ac[ac]);
}

/* Component count, per component id and tables, then spectral selection (2
 * bytes) and successive approximation (1 byte). */
static bool read_scan(struct walk *w, struct segment s, error *err)
{
	int count = s.length ? s.body[0] : 0;
	if (!w->components)
		return refuse(w, err, "a JPEG scan without a frame header before it");
	if (count < 1 || count > w->components || s.length != 4 + 2 * (size_t)count)
		return refuse(w, err, "the JPEG scan header ends here and has a bad "
		                      "number of components");
	for (int i = 0; i < count; i++)
		if (!has_tables(w, s.body + 1 + 2 * i, s.body + 1 + 2 * count))
			return refuse(w, err, "the JPEG scan that starts here uses a "
			                      "component or table that the file does not "
			                      "define");
	w->scanned = true;
	return true;
}

static bool read_segment(struct walk *w, int marker, error *err)
{
	struct segment s = { 0 };
	if (marker == SOI)
		return refuse(w, err, "a second JPEG starts inside the first");
	if (!take_segment(w, &s, err))
		return false;
	if (marker == DQT)
		return read_quant_tables(w, s, err);
	if (marker == DHT)
		return read_huffman_tables(w, s, err);
	if (marker == SOS)
		return read_scan(w, s, err);
	if (marker >= SOF0 && marker <= SOF15 && marker != JPG && marker != DAC)
		return read_frame(w, s, marker, err);
	return true;
}

bool check_jpeg(const char *path, const uint8_t *data, size_t size,
                struct image_size *out, error *err)
{
	struct walk w = { .path = path, .data = data, .size = size, .at = 2 };
	for (int marker; (marker = next_marker(&w)) != EOI;) {
		if (!marker)
			return fail(err, EXIT_BAD_INPUT,
			            "%s: the JPEG is cut short: no end-of-image marker in "
			            "its %zu bytes",
			            path, size);
		if (!read_segment(&w, marker, err))
			return false;
	}
	if (!w.scanned)
		return refuse(&w, err, "the JPEG ends here, without any image data");
	*out = w.dimensions;
	return true;
}
