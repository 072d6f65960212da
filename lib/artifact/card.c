/* Sealing model cards and looking at the seal; see card.h. */
#include "lib/artifact/card.h"

#include <stdlib.h>
#include <string.h>

#include "lib/artifact/digest.h"
#include "lib/base/file.h"

enum { MAX_CARD_BYTES = 16 << 20 };

static const char BEFORE[] = "SHA-256 of all lines above: `", AFTER[] = "`\n";

enum { SEAL_BYTES = sizeof BEFORE - 1 + DIGEST_HEX + sizeof AFTER - 1 };

/* The last line of a card whose other lines are card[size]. */
static bool print_seal(const char *card, size_t size, text *out, error *err)
{
	struct digest digest;
	if (!digest_bytes(card, size, &digest, err))
		return false;
	text_printf(out, "%s%s%s", BEFORE, digest.hex, AFTER);
	return text_ok(out, err);
}

bool card_seal(text *card, error *err)
{
	text seal = { 0 };
	bool ok = text_ok(card, err) &&
	          print_seal(card->data ? card->data : "", card->length, &seal, err);
	if (ok)
		text_add(card, seal.data, seal.length);
	text_free(&seal);
	return ok && text_ok(card, err);
}

/* The lines above must be text: whoever completes a card looks for words in it. */
static bool check_seal(const char *path, const char *card, size_t size, error *err)
{
	text seal = { 0 };
	size_t above = size >= SEAL_BYTES ? size - SEAL_BYTES : 0;
	bool ok = print_seal(card, above, &seal, err);
	if (ok && (size < SEAL_BYTES || memchr(card, '\0', size) ||
	           memcmp(card + above, seal.data, SEAL_BYTES) != 0))
		ok = fail(err, EXIT_BAD_INPUT, "%s: expected \"%.*s\" as its last line, found "
		          "another: it is not as it was written", path, SEAL_BYTES - 1, seal.data);
	text_free(&seal);
	return ok;
}

bool card_read(const char *path, text *out, error *err)
{
	char *card;
	size_t size;
	if (!read_file(path, MAX_CARD_BYTES, &card, &size, err))
		return false;
	bool ok = check_seal(path, card, size, err);
	if (ok)
		text_add(out, card, size - SEAL_BYTES);
	free(card);
	return ok && text_ok(out, err);
}

bool card_check(const char *folder, const char *list, error *err)
{
	char path[PATH_BYTES];
	text card = { 0 };
	struct digest digest;
	uint64_t bytes;
	if (!digest_file(list, &digest, &bytes, err) ||
	    !join_path(path, sizeof path, folder, CARD_FILE, err))
		return false;
	bool ok = card_read(path, &card, err);
	if (ok && !(card.data && strstr(card.data, digest.hex)))
		ok = fail(err, EXIT_BAD_INPUT, "%s: expected the SHA-256 of the list of files, %s, "
		          "found none: it is the card of something else", path, digest.hex);
	text_free(&card);
	return ok;
}
