/* Running a worker's share of blocks: those the store holds are taken from there,
 * the others are measured, sample by sample on all cores, and stored. */
#ifndef QUERN_QUANT_BLOCK_RUN_H
#define QUERN_QUANT_BLOCK_RUN_H

#include "lib/artifact/edge.h"
#include "lib/base/error.h"
#include "lib/model/qwen.h"
#include "lib/quant/block_gpu.h"
#include "lib/quant/block_file.h"
#include "lib/quant/source.h"

/* What is measured. The callbacks get `self`. */
struct measurement {
	void *self;
	const char *tool; /* in keys, logs and progress */
	enum block_kind kind;
	const struct part_format *format; /* of scores; NULL for amax */

	/* Adds to a block's key what decides the measurement beyond weights and samples. */
	bool (*add_key)(void *self, struct key *key, error *err);

	/* Called once, when the first block has to be measured. */
	bool (*prepare)(void *self, const struct model *model, error *err);

	struct gpu_measurement gpu; /* the same on a device */

	bool caches; /* the parts of the key/value cache are measured beside the linears */

	/* Whether linear i is measured at all. */
	bool (*measures)(void *self, const struct model *model, int linear);

	/* A thread's own state, made after prepare. */
	void *(*begin_thread)(void *self, error *err);
	void (*end_thread)(void *self, void *state);

	/* One sample: values[linear], behind them with `caches` those of the cache's parts
	 * (all zeroed before), and the loss, 0 if none. */
	bool (*measure)(void *self, void *state, const struct model *model,
	                struct workspace *w, const struct sample *s, double *values,
	                double *loss, error *err);
};

/* Part `part` of `parts`: the blocks b with b % parts == part, so that parts stay
 * even when samples are added. Writes the part file to `out`; `tree` is the folder
 * of the store. */
bool run_blocks(const struct source_settings *settings, const struct measurement *m,
                const struct device_choice *device, const char *tree, int part, int parts,
                const char *out, error *err);

#endif
