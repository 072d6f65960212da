/* What is said about a checkpoint, beside what it is: the manifests and tables of its
 * layer-sensitivity folder, its list of files and its model card. Export writes it with the
 * rest; when scores change and the selection does not, it is written again by itself, and
 * the checkpoint's other files stay. */
#ifndef QUERN_QUANT_DESCRIBE_H
#define QUERN_QUANT_DESCRIBE_H

#include "lib/checkpoint/profile.h"
#include "lib/quant/checkpoint_draft.h"
#include "lib/quant/slice.h"

/* What a description is made from; paths of files unless said otherwise. */
struct description {
	const char *model;     /* the base checkpoint's folder */
	const char *scheme;    /* name of the scheme */
	const char *file_name; /* what its manifests are called */
	const char *baseline;  /* quant manifest of the baseline it is cut from */
	const char *slice;     /* folder with slice.json and manifest.json */
	enum profile profile;
};

/* The same, read. All zero is valid for freeing. */
struct described {
	const struct description *from;
	struct baseline baseline;
	struct coverage coverage;
	char elements[64]; /* that groups are in: "FP8", "FP8 and NVFP4" */
	bool bilingual;    /* the scheme's tensors are the same in both languages */
	bool folded;       /* norms have channel scales of the weights folded in */
};

bool description_read(struct described *d, const struct description *from, error *err);
void description_free(struct described *d);

/* Adds everything that is said to a draft that has all other files. */
bool add_description(struct checkpoint_draft *to, const struct described *d, error *err);

/* Says it anew of a published checkpoint, `list` being its list of files: publishes the
 * folder with the files it has and another description, whole or not at all; leaves it alone
 * when it says so already. *written: bytes that were not linked. */
bool describe_checkpoint(const struct description *from, const char *tree, const char *list,
                         uint64_t *written, error *err);

#endif
