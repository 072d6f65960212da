/* Assembling a checkpoint folder from pieces that are already quantised. */
#ifndef QUERN_QUANT_ASSEMBLE_H
#define QUERN_QUANT_ASSEMBLE_H

#include "lib/base/error.h"
#include "lib/checkpoint/profile.h"
#include "lib/quant/numerics.h"
#include "lib/quant/slice.h"

/* Everything an export is made from; paths of files unless said otherwise. */
struct assembly {
	const char *model;     /* the base checkpoint's folder */
	const char *tree;      /* with the store */
	const char *scheme;    /* name of the scheme and of its folder */
	const char *file_name; /* what its manifests are called */
	const char *baseline;  /* quant manifest of the baseline it is cut from */
	const char *slice;     /* folder with slice.json and manifest.json */
	const char *amax, *quantized;
	const char *out; /* the folder to publish */
	enum profile profile;
	enum numerics numerics;
};

/* What was published, for a line to a person. */
struct assembled {
	int selected, total; /* groups */
	double delivered_bits;
	uint64_t written; /* bytes that were not linked */
	bool stand_in;
};

/* Publishes the folder whole or not at all. */
bool assemble_checkpoint(const struct assembly *a, struct assembled *done, error *err);

/* The files that belong to a scheme's layer-sensitivity folder. */
#define FILES_SUFFIX "_files.json"
#define SENSITIVITY_FOLDER "layer-sensitivity"

#endif
