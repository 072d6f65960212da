/* Samples packed for the device: rows one after the other, without padding. Private to
 * lib/gpu. */
#ifndef QUERN_GPU_BATCH_H
#define QUERN_GPU_BATCH_H

#include "lib/gpu/model.h"

/* One tower's rows. Host arrays; `device` copies follow the same layout. */
struct tower_rows {
	int rows, segments, tiles, window_tiles;
	float *cosine, *sine;                 /* [rows][head_dim / 2] */
	int32_t *starts;                      /* [samples + 1]: rows of each sample */
	struct attention_tile *full;          /* over whole samples */
	struct attention_tile *windows;       /* over windows; vision only */
};

struct batch {
	int samples, cells, graded;
	struct tower_rows text, vision;
	int32_t *ids;          /* [text rows] */
	int32_t *source;       /* [text rows]: the row of features, or -1 */
	int32_t *cell_starts;  /* [samples + 1]: cells of each sample */
	int32_t *graded_rows;  /* [graded]: the row whose prediction is graded */
	int32_t *targets;      /* [graded] */
	int32_t *row_targets;  /* [text rows]: what is to follow, or -1: not graded */
	int32_t *graded_starts; /* [samples + 1] */
	float *graded_scale;   /* [graded]: gradient_scale / the sample's graded tokens */
	bits16 *patches;    /* [vision rows][patch_values], in window order */
	size_t bytes;          /* of all the arrays, which lie in one stretch */
};

/* Packs into the page-locked memory at *memory (grown as needed; the caller frees it
 * with cudaFreeHost). */
bool batch_pack(struct batch *b, const struct model *m, const struct sample *const *samples,
                int count, enum gpu_number number, void **memory, size_t *capacity,
                error *err);

/* The same on the device, in the model's arena: one copy, queued. The host's arrays must
 * stay until it is done. */
bool batch_upload(struct batch *device, const struct batch *host, struct device_model *g,
                  error *err);

#endif
