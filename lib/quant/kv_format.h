/* Number formats of the key/value cache: what a scheme stores keys and values in when it
 * is served. There is one so far, FP8 E4M3 with a static symmetric scale for the keys and
 * one for the values of each layer; more than that no consumer reads from a checkpoint. */
#ifndef QUERN_QUANT_KV_FORMAT_H
#define QUERN_QUANT_KV_FORMAT_H

#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/base/json.h"
#include "lib/base/json_tree.h"
#include "lib/base/text.h"

struct kv_format {
	const char *name; /* the catalog's; NULL: the cache stays as the model computes it */
	const char *element, *granularity;
};

/* Whether element and granularity are a pair that is known. */
bool kv_format_known(const struct kv_format *f);

/* As one word of a command line, NAME:ELEMENT:GRANULARITY, and back. */
void kv_format_print(const struct kv_format *f, text *out);
bool kv_format_parse(struct kv_format *f, const char *word, arena *memory, error *err);

/* The member "kv_cache" of a coverage manifest or a quant manifest; no member means no
 * format, both ways. */
void kv_format_add(struct json_tree *tree, cJSON *object, const struct kv_format *f);
bool kv_format_read(struct kv_format *f, const json_doc *doc, arena *memory, error *err);

#endif
