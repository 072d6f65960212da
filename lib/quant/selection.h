/* What of a slice decides over a checkpoint's files: the format of every group that it
 * keeps, and that of the key/value cache. Everything else about a slice (scores, ranks, the
 * rule) is said in its manifests. These can change while the selection stays, byte for
 * byte; then no checkpoint is exported again, only described again. */
#ifndef QUERN_QUANT_SELECTION_H
#define QUERN_QUANT_SELECTION_H

#include "lib/quant/slice.h"

/* The file beside slice.json. */
#define SELECTION_FILE "selection.json"

struct selection {
	const cJSON *formats; /* group -> format; of the doc */
	struct kv_format kv_cache;
	json_doc doc;
	arena memory;
};

bool print_selection(const struct coverage *c, const struct baseline *b, text *out,
                     error *err);

bool selection_read(struct selection *s, const char *path, error *err);
void selection_free(struct selection *s);

/* In which format a group is kept; NULL: as it is. */
const char *selected_format(const struct selection *s, const char *group);

#endif
