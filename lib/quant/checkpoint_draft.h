/* A checkpoint's folder in the making, with the list of its files. */
#ifndef QUERN_QUANT_CHECKPOINT_DRAFT_H
#define QUERN_QUANT_CHECKPOINT_DRAFT_H

#include "lib/artifact/publish.h"
#include "lib/artifact/store.h"
#include "lib/base/json_tree.h"

/* The files that belong to a scheme's layer-sensitivity folder. */
#define FILES_SUFFIX "_files.json"
#define SENSITIVITY_FOLDER "layer-sensitivity"

/* All zero is valid for closing. */
struct checkpoint_draft {
	struct store store;
	struct draft draft;
	struct json_tree files; /* name -> {sha256, bytes} */
	uint64_t written;       /* bytes that were not linked */
};

bool checkpoint_begin(struct checkpoint_draft *d, const char *tree, const char *folder,
                      error *err);
void checkpoint_abandon(struct checkpoint_draft *d); /* after a failure */
void checkpoint_end(struct checkpoint_draft *d);     /* frees, after whatever came before */

void record_file(struct json_tree *files, const char *name, const struct digest *digest,
                 uint64_t bytes);

/* ---- files of the draft, each entered into the list ---- */

bool add_text(struct checkpoint_draft *d, const char *name, const text *content, error *err);
bool add_copy(struct checkpoint_draft *d, const char *name, const char *path, error *err);

/* A file that many schemes have alike is stored once and linked: so it is written and
 * waited for once. */
bool add_shared(struct checkpoint_draft *d, const char *name, const char *path, error *err);

/* A further name of an object of the store. */
bool link_object_as(struct checkpoint_draft *d, const char *name,
                    const struct output *object, error *err);

#endif
