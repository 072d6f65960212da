/* Measuring blocks on a GPU: the same measurements as the threads of block_run.c make,
 * in batches. */
#ifndef QUERN_QUANT_BLOCK_GPU_H
#define QUERN_QUANT_BLOCK_GPU_H

#include "lib/base/error.h"
#include "lib/gpu/gpu.h"
#include "lib/model/qwen.h"

/* How a measurement runs on a device. */
struct gpu_measurement {
	enum gpu_work work;

	/* For GPU_SCORE: what to quantise with, [linear_count], given the weights' amax. */
	bool (*quantisation)(void *self, const struct model *model, const float *weight_amax,
	                     struct gpu_quantisation *out, error *err);
};

/* What the user asked for; neither: a GPU where one answers. */
struct device_wish {
	bool cpu, cuda;
};

struct device_choice {
	bool gpu;
	char name[128]; /* of the GPU */
	char why[256];  /* why a build with CUDA computes on the CPU though nobody asked */
};

bool choose_device(const struct device_wish *wish, struct device_choice *choice, error *err);

struct block_gpu;

/* Uploads the model and prepares the measurement, which gives `places` values a sample:
 * as many as gpu_collect does. *quantise_seconds: what of it the weights' quantisation
 * took. */
bool block_gpu_open(struct block_gpu **out, const struct gpu_measurement *m, void *self,
                    const struct model *model, int places, double *quantise_seconds,
                    error *err);
void block_gpu_close(struct block_gpu *b);

/* Memory of the device in use, by anyone. */
uint64_t block_gpu_used_bytes(const struct block_gpu *b);

/* values[i][places] and loss[i] of samples[i]. */
bool block_gpu_measure(struct block_gpu *b, const struct sample *const *samples, int count,
                       double *const *values, double *loss, error *err);

#endif
