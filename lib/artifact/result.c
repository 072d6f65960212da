/* Lists of outputs as text; see result.h. */
#include "lib/artifact/result.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char FIRST_LINE[] = "quern result 1\n";
static const char OUTPUT[] = "output ";
static const char SEAL[] = "sha256 ";
enum { SEAL_BYTES = sizeof SEAL - 1 + DIGEST_HEX + 1 };

void result_free(struct result *r)
{
	arena_free(&r->memory);
	*r = (struct result){ 0 };
}

const struct output *result_output(const struct result *r, const char *name)
{
	for (size_t i = 0; i < r->count; i++)
		if (strcmp(r->outputs[i].name, name) == 0)
			return &r->outputs[i];
	return NULL;
}

static bool is_name(const char *name)
{
	const char *c = name;
	while ((unsigned char)*c >= ' ' && *c != 127)
		c++;
	return c > name && *c == '\0';
}

bool result_print(const struct output *outputs, size_t count, text *out, error *err)
{
	size_t start = out->length;
	struct digest seal;
	text_puts(out, FIRST_LINE);
	for (size_t i = 0; i < count; i++) {
		const struct output *o = &outputs[i];
		if (!is_name(o->name))
			return fail(err, EXIT_INTERNAL, "'%s': no name for an output", o->name);
		text_printf(out, "%s%s %" PRIu64 " %s\n", OUTPUT, o->digest.hex, o->bytes,
		            o->name);
	}
	if (!text_ok(out, err) ||
	    !digest_bytes(out->data + start, out->length - start, &seal, err))
		return false;
	text_printf(out, "%s%s\n", SEAL, seal.hex);
	return text_ok(out, err);
}

/* Takes a fixed string off the front. */
static bool skip(const char **at, const char *end, const char *expected)
{
	size_t length = strlen(expected);
	if ((size_t)(end - *at) < length || memcmp(*at, expected, length) != 0)
		return false;
	*at += length;
	return true;
}

/* Takes one output line off the front. *whole is false if there is none. */
static bool parse_output(const char **at, const char *end, struct result *r,
                         bool *whole, error *err)
{
	struct output *o = &r->outputs[r->count];
	*whole = false;
	if (!skip(at, end, OUTPUT) || end - *at < DIGEST_HEX + 1 ||
	    !digest_parse(*at, DIGEST_HEX, &o->digest))
		return true;
	*at += DIGEST_HEX;
	if (!skip(at, end, " ") || *at == end || **at < '0' || **at > '9')
		return true;
	char *after;
	errno = 0;
	o->bytes = strtoull(*at, &after, 10); /* stops: the seal follows */
	*at = after;
	const char *line_end = memchr(*at, '\n', (size_t)(end - *at));
	if (errno || !line_end || !skip(at, end, " "))
		return true;
	o->name = arena_text(&r->memory, *at, (size_t)(line_end - *at), err);
	if (!o->name)
		return false;
	*at = line_end + 1;
	*whole = is_name(o->name);
	r->count++;
	return true;
}

/* Does the last line hold the digest of what is before it? Every flipped bit and
 * every cut shows here. */
static bool check_seal(const char *data, size_t size, bool *whole, error *err)
{
	struct digest stated, found;
	*whole = false;
	if (size < SEAL_BYTES || data[size - 1] != '\n')
		return true;
	const char *seal = data + size - SEAL_BYTES;
	if (memcmp(seal, SEAL, sizeof SEAL - 1) != 0 ||
	    !digest_parse(seal + sizeof SEAL - 1, DIGEST_HEX, &stated))
		return true;
	if (!digest_bytes(data, size - SEAL_BYTES, &found, err))
		return false;
	*whole = digest_equal(&stated, &found);
	return true;
}

static size_t count_lines(const char *at, const char *end)
{
	size_t lines = 0;
	for (; at < end; at++)
		lines += *at == '\n';
	return lines;
}

bool result_parse(const char *data, size_t size, struct result *r, bool *whole,
                  error *err)
{
	*r = (struct result){ 0 };
	if (!check_seal(data, size, whole, err))
		return false;
	if (!*whole)
		return true;
	const char *at = data, *end = data + size - SEAL_BYTES;
	*whole = skip(&at, end, FIRST_LINE);
	r->outputs = arena_alloc(&r->memory, count_lines(at, end) + 1,
	                         sizeof *r->outputs, err);
	bool ok = r->outputs != NULL;
	while (ok && *whole && at < end)
		ok = parse_output(&at, end, r, whole, err);
	if (!ok || !*whole)
		result_free(r);
	return ok;
}
