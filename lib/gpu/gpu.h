/* The model on an NVIDIA GPU: calibration, gradient scores, and the damage that quantised
 * linears do, of whole batches.
 *
 * The same computation as lib/model, with 16-bit weights and activations, a float32
 * residual stream and float32 accumulation. FP16 rounds eight times finer than BF16, in
 * which small differences drown; it ends at 65504, and what goes beyond makes a result
 * infinite or no number at all, so whoever opens a model in FP16 looks at that. Samples
 * are packed one after the other without padding; every sum has a fixed order and belongs
 * to one sample, so a result depends neither on what a sample is batched with nor on the
 * run. */
#ifndef QUERN_GPU_GPU_H
#define QUERN_GPU_GPU_H

#include <stddef.h>

#include "kernels/gpu_ops.h"
#include "lib/base/error.h"
#include "lib/data/prompt.h"
#include "lib/model/qwen.h"

struct gpu_api;

/* What follows its first field is the device half's own. */
struct gpu_model {
	const struct gpu_api *api;
};

/* What of a linear is quantised, and with which scales. */
struct gpu_quantisation {
	bool scored; /* false: the linear is left alone */
	bool divide; /* weight codes are e4m3(w / weight_decode), else e4m3(w * weight_encode) */
	float weight_encode, weight_decode;
	float input_encode, input_decode;
};

/* The device half is a library of its own beside the programs (libquern_gpu.so), loaded
 * when there is a driver: a program built with CUDA starts as fast as one without, and
 * runs on machines that have no driver.
 *
 * Whether this build has that half. */
bool gpu_built(void);

/* Whether this build and this machine can: a name for people in name[128]. */
bool gpu_usable(char name[128], error *err);

enum gpu_work { GPU_CALIBRATE, GPU_SCORE, GPU_COMPARE };

/* Uploads the weights. m (opened with resident_bytes 0 is enough) must outlive it. */
bool gpu_model_open(struct gpu_model **out, const struct model *m, enum gpu_number number,
                    bool native_fp8, error *err);
void gpu_model_close(struct gpu_model *g);

/* The largest magnitude of every linear's weight, [linear_count]. */
bool gpu_weight_amaxes(struct gpu_model *g, float *amax, error *err);

/* Quantises the weights: quantisation[linear_count]. */
bool gpu_quantise(struct gpu_model *g, const struct gpu_quantisation *quantisation,
                  error *err);

/* Sets the rest of device memory aside for batches: call when the weights (and codes) are
 * there. memory_limit bounds everything taken on the device (0: what is free), unless the
 * weights leave less of it than a batch needs. */
bool gpu_take_arena(struct gpu_model *g, size_t memory_limit, error *err);

/* Memory of the device in use, by anyone. */
size_t gpu_used_bytes(const struct gpu_model *g);

/* How many of samples[0..count) fit one batch, at least 1. */
int gpu_batch_fits(const struct gpu_model *g, const struct sample *const *samples, int count,
                   enum gpu_work work);

/* GPU_CALIBRATE and GPU_SCORE. Queues a batch and returns while the device works; the samples may be freed then.
 * GPU_SLOTS batches can be under way, each in a slot of its own. */
enum { GPU_SLOTS = 2 };
bool gpu_submit(struct gpu_model *g, int slot, enum gpu_work work,
                const struct sample *const *samples, int count, error *err);

/* Waits for the slot's batch. After GPU_CALIBRATE values[sample][linear_count +
 * count_caches]: the largest input of every linear (0 where nothing ran), then the largest
 * magnitude of every part of the key/value cache (lib/model/caches.h). After GPU_SCORE
 * values[sample][linear_count]: scores. loss[sample] (0 after GPU_CALIBRATE). */
bool gpu_collect(struct gpu_model *g, int slot, double *values, double *loss, error *err);

/* What one quantised choice does to the prediction at one token. */
struct row_change {
	double kl;      /* of its prediction from the plain one */
	double squared; /* mean squared difference of the logits */
	bool agrees;    /* on the most likely token */
	double base_loss, loss; /* cross entropies, where the next token is graded; else 0 */
};

/* What a run quantises. */
struct gpu_choice {
	const bool *served;        /* [linear], as gpu_quantise was told to; whole groups */
	const float *cache_scales; /* [part] of the key/value cache; NULL: it stays */
};

/* GPU_COMPARE: runs a batch plainly and then once for every choice, from the first layer
 * that is touched. rows[choice][all tokens of the samples, in their order]. Returns when
 * all is done. */
bool gpu_compare(struct gpu_model *g, const struct sample *const *samples, int count,
                 const struct gpu_choice *choices, int choice_count, struct row_change *rows,
                 error *err);

/* The functions above as the library has them; it exports one, called quern_gpu. */
struct gpu_api {
	bool (*usable)(char name[128], error *err);
	bool (*model_open)(struct gpu_model **out, const struct model *m,
	                   enum gpu_number number, bool native_fp8, error *err);
	void (*model_close)(struct gpu_model *g);
	bool (*weight_amaxes)(struct gpu_model *g, float *amax, error *err);
	bool (*quantise)(struct gpu_model *g, const struct gpu_quantisation *quantisation,
	                 error *err);
	bool (*take_arena)(struct gpu_model *g, size_t memory_limit, error *err);
	size_t (*used_bytes)(const struct gpu_model *g);
	int (*batch_fits)(const struct gpu_model *g, const struct sample *const *samples,
	                  int count, enum gpu_work work);
	bool (*submit)(struct gpu_model *g, int slot, enum gpu_work work,
	               const struct sample *const *samples, int count, error *err);
	bool (*collect)(struct gpu_model *g, int slot, double *values, double *loss,
	                error *err);
	bool (*compare)(struct gpu_model *g, const struct sample *const *samples, int count,
	                const struct gpu_choice *choices, int choice_count,
	                struct row_change *rows, error *err);
};

#endif
