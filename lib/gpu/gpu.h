/* The model on an NVIDIA GPU: calibration and gradient scores of whole batches.
 *
 * The same computation as lib/model, with BF16 weights and activations, a float32 residual
 * stream and float32 accumulation. Samples are packed one after the other without padding;
 * every sum has a fixed order and belongs to one sample, so a result depends neither on
 * what a sample is batched with nor on the run. */
#ifndef QUERN_GPU_GPU_H
#define QUERN_GPU_GPU_H

#include <stddef.h>

#include "lib/base/error.h"
#include "lib/data/prompt.h"
#include "lib/model/qwen.h"

struct gpu_model;

/* What of a linear is quantised, and with which scales. */
struct gpu_quantisation {
	bool scored;                /* false: the linear is left alone */
	float weight_scale;         /* codes are weight / weight_scale */
	float input_encode, input_decode;
	bool divide;                /* weight codes by division, or times 1 / weight_scale */
};

/* Whether this build and this machine can: a name for people in name[128]. */
bool gpu_usable(char name[128], error *err);

/* Uploads the weights. m (opened with resident_bytes 0 is enough) must outlive it.
 * memory_limit bounds what is taken on the device; 0: what is free. */
bool gpu_model_open(struct gpu_model **out, const struct model *m, size_t memory_limit,
                    bool native_fp8, error *err);
void gpu_model_close(struct gpu_model *g);

/* The largest magnitude of every linear's weight, [linear_count]. */
bool gpu_weight_amaxes(struct gpu_model *g, float *amax, error *err);

/* Quantises the weights: quantisation[linear_count]. */
bool gpu_quantise(struct gpu_model *g, const struct gpu_quantisation *quantisation,
                  error *err);

/* How many of samples[0..count) fit one batch, at least 1. */
int gpu_batch_fits(const struct gpu_model *g, const struct sample *const *samples, int count,
                   bool gradient);

/* amax[sample][linear_count]: the largest input of every linear; 0 where nothing ran. */
bool gpu_calibrate(struct gpu_model *g, const struct sample *const *samples, int count,
                   float *amax, error *err);

/* score[sample][linear_count] and loss[sample]. */
bool gpu_score_batch(struct gpu_model *g, const struct sample *const *samples, int count,
                     double *score, double *loss, error *err);

/* Peak device memory so far, and the arithmetic done, for benches. */
struct gpu_counts {
	size_t peak_bytes;
	double flops;
};
struct gpu_counts gpu_counts(const struct gpu_model *g);

#endif
