/* What the files evaluate*.c share: an evaluation in progress. */
#ifndef QUERN_QUANT_EVALUATE_PARTS_H
#define QUERN_QUANT_EVALUATE_PARTS_H

#include <pthread.h>

#include "kernels/divergence.h"
#include "lib/artifact/edge.h"
#include "lib/base/progress.h"
#include "lib/quant/evaluate.h"
#include "lib/quant/quantised.h"

/* What one thread works with. */
struct bench {
	struct workspace *workspace;
	float *base; /* the base's logits of the sample at hand, [positions][vocab] */
	size_t base_capacity;
	struct divergence *rows; /* [positions] */
	size_t row_capacity;
	struct row_change *changes; /* [positions] */
	size_t change_capacity;
};

struct evaluator {
	const struct evaluation *job;
	char device[160]; /* as keys call it */
	struct source source;
	struct memo *memo;
	struct key model_key; /* taken before the model's files were opened */
	struct checkpoint checkpoint;
	struct model model;
	bool model_open;
	const struct format **formats;     /* those that any choice has */
	int format_count;
	struct quantised_model *quantised; /* [format] what any choice has in it */
	struct quantised_model *views;     /* [choice] its linears only */
	float *cache_scales;              /* [part]; NULL: no choice has an FP8 cache */
	struct bench *benches;
	int bench_count;
	struct gpu_measurement gpu_measurement;
	struct gpu_scales gpu_scales;
	struct block_gpu *gpu; /* NULL: the threads compute */
	arena memory;

	/* The block at hand. */
	int64_t first;
	int count;
	struct damage *damage; /* [choice] */
	const int *missing;    /* choices to measure */
	int missing_count;
	struct sample *samples; /* [count] for the GPU; no tokens: not read */
	pthread_mutex_t lock; /* guards done and progress */
	int64_t done;
	struct progress progress;
	arena *results;
};

/* ---- evaluate_model.c: the model and the threads, made when first needed ---- */

/* What a GPU is told to measure, and what computes, as keys call it. */
void describe_measurement(struct evaluator *e);

/* Opens the model, quantises what the choices keep, and makes the threads' benches. */
bool open_evaluator(struct evaluator *e, error *err);

/* ---- evaluate_sample.c: one sample ---- */

/* A parallel_run task: sample `index` of the block, plainly and with every missing
 * choice. */
bool measure_sample(void *self, int thread, int index, error *err);

/* Room for the sample's tokens; the arena is everyone's. */
bool take_tokens(struct evaluator *e, const struct sample *s, struct sample_damage *out,
                 error *err);

/* changes[positions] become the sample's sums. */
void add_changes(const struct evaluator *e, const struct sample *s,
                 const struct row_change *changes, struct sample_damage *out);

/* ---- evaluate_gpu.c ---- */

/* All samples of the block with every missing choice on the GPU. */
bool compare_block(struct evaluator *e, error *err);

#endif
