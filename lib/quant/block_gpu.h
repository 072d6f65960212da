/* Measuring blocks on a GPU: the same measurements as the threads of block_run.c make,
 * in batches. */
#ifndef QUERN_QUANT_BLOCK_GPU_H
#define QUERN_QUANT_BLOCK_GPU_H

#include "lib/base/error.h"
#include "lib/gpu/gpu.h"
#include "lib/model/qwen.h"
#include "lib/quant/gpu_scales.h"

/* How a measurement runs on a device. */
struct gpu_measurement {
	enum gpu_work work;
	const struct gpu_scales *scales; /* what to quantise with; NULL for GPU_CALIBRATE */
	bool wide_codes; /* codes are multiplied as 16-bit numbers even where FP8 units are */
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

/* What computes, as keys and manifests call it: the GPU for this work, or none. */
void name_device(const struct device_choice *choice, const struct gpu_measurement *m,
                 char name[160]);

/* Uploads the model and prepares the measurement, which gives `places` values a sample:
 * as many as gpu_collect does. *quantise_seconds: what of it the weights' quantisation
 * took. */
bool block_gpu_open(struct block_gpu **out, const struct gpu_measurement *m,
                    const struct model *model, int places, double *quantise_seconds,
                    error *err);
void block_gpu_close(struct block_gpu *b);

/* Memory of the device in use, by anyone. */
uint64_t block_gpu_used_bytes(const struct block_gpu *b);

/* GPU_COMPARE: the samples plainly, and with what every choice quantises. visit gets the
 * rows of every sample and choice once; rows[sample->tokens]. */
typedef bool gpu_visit(void *self, int choice, int sample, const struct row_change *rows,
                       error *err);
bool block_gpu_compare(struct block_gpu *b, const struct sample *const *samples, int count,
                       const struct gpu_choice *choices, int choice_count,
                       gpu_visit *visit, void *self, error *err);

/* values[i][places] and loss[i] of samples[i]. Under GPU_COMPARE the value of a
 * group's first member is the KL that the group does alone, added up over all tokens;
 * the loss is 0. */
bool block_gpu_measure(struct block_gpu *b, const struct sample *const *samples, int count,
                       double *const *values, double *loss, error *err);

#endif
